"""How many connections drain, in words and as data."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.effect import counted, draining

WHOLE = {
    "class": "listener drain",
    "said": "listener in: all its connections drain",
    "danger": "FL3807",
    "drains": "in",
}
PART = {
    "class": "filter chain",
    "said": "listener in: filter chain (1 changed): their connections drain",
    "drains": "in",
}
OTHER = {"class": "route", "said": "another thing"}


def found(*changes: dict[str, Any], names: tuple[str, ...] = ("web-1.shop", "web-2.shop")) -> dict[str, Any]:
    group = {"count": len(names), "summary": "", "names": list(names)}
    return {"effects": [{"proxies": group, "changes": list(changes)}]}


@pytest.mark.parametrize(
    ("change", "counts", "said"),
    [
        (
            WHOLE,
            {"web-1.shop": {"in": 8, "out": 3}, "web-2.shop": {"in": 4}},
            "about 12 connections on 2 proxies (web-1.shop 8, web-2.shop 4)",
        ),
        (WHOLE, {"web-1.shop": {"in": 1}, "web-2.shop": {}}, "about 1 connection on 1 proxy (web-1.shop 1)"),
        (WHOLE, {"web-1.shop": {}, "web-2.shop": {"out": 3}}, "no connection is open now"),
        (WHOLE, {"web-2.shop": {"in": 2}}, "about 2 connections on 1 proxy (web-2.shop 2); 1 proxy did not say"),
        (WHOLE, {}, "how many, 2 proxies did not say"),
        (PART, {"web-1.shop": {"in": 8}, "web-2.shop": {}}, "at most 8 connections on 1 proxy (web-1.shop 8)"),
    ],
)
def test_connections_that_drain_are_counted(change: dict[str, Any], counts: dict[str, Any], said: str) -> None:
    told = counted(found(change, OTHER), counts)
    first, second = told["effects"][0]["changes"]
    assert first["said"] == f"{change['said']}: {said}"
    assert second == OTHER
    assert [one["said"] for one in told["dangers"]] == ([first["said"]] if change is WHOLE else [])


def test_the_counts_are_data_too() -> None:
    counts = {"web-1.shop": {"in": 2}, "web-2.shop": {"in": 5}}
    (change,) = counted(found(WHOLE), counts)["effects"][0]["changes"]
    assert change["connections"] == {
        "count": 7,
        "atMost": False,
        "proxies": 2,
        "silent": 0,
        "by": [{"proxy": "web-2.shop", "count": 5}, {"proxy": "web-1.shop", "count": 2}],
    }


def test_of_one_proxy_it_is_clear_where() -> None:
    told = counted(found(WHOLE, names=("gw.edge",)), {"gw.edge": {"in": 3}})
    assert told["effects"][0]["changes"][0]["said"].endswith(": about 3 connections")


def test_files_cannot_know() -> None:
    told = counted(found(WHOLE, OTHER), None)
    assert "only a running mesh can say" in told["effects"][0]["changes"][0]["said"]
    assert "connections" not in told["effects"][0]["changes"][0]


def test_only_those_are_asked_whose_connections_drain_and_names_become_short() -> None:
    many = tuple(f"w-{at}.shop" for at in range(60))
    assert draining(found(OTHER)) == frozenset()
    assert draining(found(PART, names=many)) == frozenset(many)
    assert len(counted(found(PART, names=many), {})["effects"][0]["proxies"]["names"]) == 50
