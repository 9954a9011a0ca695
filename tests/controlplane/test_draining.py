"""Agents are asked how many connections are open, and waited for no longer than they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from fairlead.controlplane.draining import Connections
from fairlead.model.report import AgentReport, OpenConnections

NODES = ("sidecar~1~a.shop~x", "sidecar~2~b.shop~x", "sidecar~3~c.shop~x")


def test_answers_are_gathered_by_proxy() -> None:
    async def run() -> tuple[dict[str, Mapping[str, int]], list[str]]:
        woken: list[str] = []

        def wake() -> None:
            for node in NODES[:2]:
                assert made.wanted(node)
                # A report that was under way says nothing before the question has gone out.
                made.take(AgentReport(node))
                made.asked(node)
                woken.append(node)
            made.take(AgentReport(NODES[0], open=(OpenConnections("in", 3), OpenConnections("out", 0))))
            made.take(AgentReport(NODES[1]))  # an agent that does not know the question

        made = Connections(wake)
        return await made.count(NODES, NODES[:2]), woken

    found, woken = asyncio.run(run())
    assert found == {NODES[0]: {"in": 3}} and woken == [*NODES[:2]]


def test_nobody_is_asked_who_does_not_report() -> None:
    made = Connections(lambda: pytest.fail("nobody is to be woken"))
    assert asyncio.run(made.count(NODES, ())) == {}


def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.controlplane.draining.SECONDS", 0.01)
    made = Connections(lambda: None)
    assert asyncio.run(made.count(NODES, NODES)) == {}
    assert not any(made.wanted(one) for one in NODES)
