"""How many connections a change drains: put into a report once it is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.effect.change import DANGERS

Json = dict[str, Any]
Counts = Mapping[str, Mapping[str, int]]
"""Open connections by proxy (NAME.NAMESPACE) and listener; proxies that did not say are missing."""
_FEW = 4
_MOST = 50
MOST_NAMES = 50
"""Names of proxies that a report keeps of a group."""


def draining(found: Json) -> frozenset[str]:
    """The proxies of a report (`report.told`) some of whose connections drain."""
    return frozenset(
        name
        for effect in found["effects"]
        if any("drains" in one for one in effect["changes"])
        for name in effect["proxies"]["names"]
    )


def counted(found: Json, counts: Counts | None) -> Json:
    """A report with the number of connections that drain in its words and its data; None: there is no way to know.

    Lists of names become short, and the dangers stand in a list of their own.
    """
    effects = [
        {
            "proxies": {**effect["proxies"], "names": effect["proxies"]["names"][:MOST_NAMES]},
            "changes": [_counted(one, effect["proxies"]["names"], counts) for one in effect["changes"]],
        }
        for effect in found["effects"]
    ]
    return {**found, "dangers": list(_dangers(effects)), "effects": effects}


def _dangers(effects: list[Json]) -> Iterator[Json]:
    told: set[tuple[str, str]] = set()
    for one in (one for effect in effects for one in effect["changes"] if "danger" in one):
        key = (one["danger"], one["said"])
        if key not in told:
            told.add(key)
            behind = {"behind": one["behind"]} if "behind" in one else {}
            yield {"code": one["danger"], "meaning": DANGERS[one["danger"]], "said": one["said"], **behind}


def _counted(change: Json, proxies: list[str], counts: Counts | None) -> Json:
    if "drains" not in change:
        return change
    listener = change["drains"]
    if counts is None:
        return {**change, "said": f"{change['said']} (how many those are only a running mesh can say)"}
    said = {name: counts[name].get(listener, 0) for name in proxies if name in counts}
    open_at = dict(sorted(((name, n) for name, n in said.items() if n), key=lambda one: (-one[1], one[0])))
    silent = len(proxies) - len(said)
    connections: Json = {
        "count": sum(open_at.values()),
        "atMost": change["class"] == "filter chain",
        "proxies": len(open_at),
        "silent": silent,
        "by": [{"proxy": name, "count": n} for name, n in list(open_at.items())[:_MOST]],
    }
    return {**change, "said": f"{change['said']}: {_words(connections, len(said))}", "connections": connections}


def _words(connections: Json, asked: int) -> str:
    """`about 12 connections on 2 proxies (web-1.shop 8, web-2.shop 4); 1 proxy did not say`."""
    if not asked:
        return f"how many, {_silent(connections['silent'])}"
    count = connections["count"]
    few = "at most" if connections["atMost"] else "about"
    text = "no connection is open now"
    if count:
        text = f"{few} {count} {'connection' if count == 1 else 'connections'}"
        if asked + connections["silent"] > 1:
            where = ", ".join(f"{one['proxy']} {one['count']}" for one in connections["by"][:_FEW])
            more = f" and {connections['proxies'] - _FEW} more" if connections["proxies"] > _FEW else ""
            many = connections["proxies"]
            text += f" on {many} {'proxy' if many == 1 else 'proxies'} ({where}{more})"
    return f"{text}; {_silent(connections['silent'])}" if connections["silent"] else text


def _silent(count: int) -> str:
    return f"{count} {'proxy' if count == 1 else 'proxies'} did not say"
