"""istio-capture: the rules that follow from capture settings: nftables as text, iptables by meaning."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead.model.capturing import settings
from fairlead.node.capture import iptables, nftables
from fairlead.node.capture.rules import Backend, CaptureRule, capture_rules
from tests.conformance.suites import DIRECTORY, parameters

FOLDER = "istio-capture"
SUITE = "istio-capture"
# What its tests are about is not what the rules are: how they are applied, and what is printed.
_NOT_RULES = {"DryRun"}
_NAMES = {
    "OutboundIPRangesInclude": "outbound-ip-ranges-include",
    "OutboundIPRangesExclude": "outbound-ip-ranges-exclude",
}


def cases(kind: str) -> list[Any]:
    def select(suite: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for one in suite["suites"][kind]:
            yield {**one, "id": f"{kind}/{one['name']}", "config": {**suite["base"], **one["config"]}}

    return parameters(SUITE, FOLDER, select)


def rules_of(case: Any, backend: Backend) -> tuple[CaptureRule, ...]:
    chosen = {name: value for name, value in case["config"].items() if name not in _NOT_RULES}
    return capture_rules(settings(chosen), backend)


@pytest.mark.suite(SUITE)
@pytest.mark.parametrize("case", cases("nftables"))
def test_nftables(case: Any) -> None:
    assert nftables.render(rules_of(case, "nftables")) == (DIRECTORY / FOLDER / case["golden"]).read_text().splitlines()


@pytest.mark.suite(SUITE)
@pytest.mark.parametrize("case", cases("iptables"))
def test_iptables(case: Any) -> None:
    rules = rules_of(case, "iptables")
    families = ("ip", "ip6") if case["config"].get("EnableIPv6") else ("ip",)
    got = [meaning(line) for family in families for line in iptables.render(rules, family)]
    lines = (DIRECTORY / FOLDER / case["golden"]).read_text().splitlines()
    assert got == [meaning(line) for line in lines if not line.endswith("-save")]


def meaning(line: str) -> object:
    """The place of a rule, and its conditions without their order. Loading a match (`-m tcp`) is no condition."""
    words = shlex.split(line.replace("* ", "*").replace("--to-port ", "--to-ports "))
    if not line.startswith(("-A", "-I")):
        return words
    at = 2 if words[0] == "-A" else 3
    options: list[tuple[str, ...]] = []
    negated = False
    rest = words[at:]
    while rest:
        word = rest.pop(0)
        if word == "!":
            negated = True
            continue
        values: list[str] = []
        while rest and not rest[0].startswith("-") and rest[0] != "!":
            values.append(rest.pop(0))
        if word != "-m":
            options.append(("!" if negated else "", word, *values))
        negated = False
    return words[:at], sorted(options)
