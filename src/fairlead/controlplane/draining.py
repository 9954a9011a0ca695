"""How many connections the listeners of proxies have open: asked of their agents when a change would drain some.

Nothing is counted for nothing: an agent looks into its Envoy only when its held report is answered with the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from fairlead.model.report import MAX_LISTENERS, AgentReport

MAX_ASKED = 1_000
"""Proxies that are asked for one answer; of more, those that come first by name."""
SECONDS = 3.0
"""How long is waited for the slowest of them."""


class Connections:
    """Asks agents, by node id. `wake` answers reports that are held, so that the question goes out."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._wanted: set[str] = set()
        self._waiting: dict[str, list[asyncio.Future[Mapping[str, int] | None]]] = {}

    def wanted(self, node: str) -> bool:
        """Whether the agent's next answer is to ask."""
        return node in self._wanted

    def asked(self, node: str) -> None:
        """The question has gone out."""
        self._wanted.discard(node)

    def take(self, report: AgentReport) -> None:
        """A report: an answer, or a sign that none comes."""
        if report.proxy in self._wanted:
            return
        found = None
        if report.open is not None:
            found = {one.listener: one.count for one in report.open[:MAX_LISTENERS] if one.count > 0}
        for one in self._waiting.pop(report.proxy, ()):
            if not one.done():
                one.set_result(found)

    async def count(self, nodes: Collection[str], reporting: Collection[str]) -> dict[str, Mapping[str, int]]:
        """Connections by listener of those that answer in time, and are among those that report at all."""
        loop = asyncio.get_running_loop()
        asked = {one: loop.create_future() for one in sorted(nodes) if one in reporting}
        asked = dict(list(asked.items())[:MAX_ASKED])
        if not asked:
            return {}
        for node, answer in asked.items():
            self._waiting.setdefault(node, []).append(answer)
        self._wanted.update(asked)
        self._wake()
        await asyncio.wait(asked.values(), timeout=SECONDS)
        for node, answer in asked.items():
            if not answer.done():
                self._forget(node, answer)
        told = {node: answer.result() for node, answer in asked.items() if answer.done()}
        return {node: found for node, found in told.items() if found is not None}

    def _forget(self, node: str, answer: asyncio.Future[Mapping[str, int] | None]) -> None:
        left = [one for one in self._waiting.get(node, ()) if one is not answer]
        if left:
            self._waiting[node] = left
        else:
            self._waiting.pop(node, None)
            self._wanted.discard(node)
