"""Reads from Envoy who called in plaintext, and keeps it until it is reported."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable

from fairlead.agent import http
from fairlead.agent.proxy import Proxy
from fairlead.envoy.plaintext import COUNTER, PREFIX, SEPARATOR
from fairlead.model.report import MAX_CALLERS, PlaintextCaller

POLL_SECONDS = 5.0
_TARGET = f"/stats?usedonly&filter=^{PREFIX}[.]{COUNTER}"
_LINE = re.compile(rf"{PREFIX}\.{COUNTER}\.caller\.(.+){re.escape(SEPARATOR)}(\d+): (\d+)")

log = logging.getLogger("plaintext")


def read_callers(page: str) -> dict[tuple[int, str], int]:
    """Counts by port and address from Envoy's statistics as text. Envoy writes the colons of IPv6 as underscores."""
    found: dict[tuple[int, str], int] = {}
    for line in page.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            address = match[1] if "." in match[1] else match[1].replace("_", ":")
            found[int(match[2]), address] = int(match[3])
    return found


class PlaintextWatch:
    """What Envoy counted and nobody was told yet."""

    def __init__(self, proxy: Proxy, news: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._proxy = proxy
        self._news = news
        self._clock = clock
        self._counted: dict[tuple[int, str], int] = {}
        self._pending: dict[tuple[int, str], PlaintextCaller] = {}

    async def run(self) -> None:
        """Ask Envoy every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                answer = await self._proxy.admin(_TARGET)
            except http.HTTPFailure as error:
                log.debug("Envoy was not asked: %s", error)
                continue
            if answer.status == 200:
                self.seen(read_callers(answer.body.decode("utf-8", "replace")))

    def seen(self, counts: dict[tuple[int, str], int]) -> None:
        """Envoy's counters now. One that fell begins anew: Envoy was restarted."""
        for key, count in counts.items():
            before = self._counted.get(key, 0)
            more = count - before if count >= before else count
            if more:
                self._add(PlaintextCaller(key[0], key[1], more, self._clock()))
        self._counted = counts
        if self._pending:
            self._news()

    def take(self) -> tuple[PlaintextCaller, ...]:
        """What is to be reported; give it back if that fails."""
        chosen = list(self._pending)[:MAX_CALLERS]
        return tuple(self._pending.pop(key) for key in chosen)

    def give_back(self, callers: tuple[PlaintextCaller, ...]) -> None:
        """A report did not arrive."""
        for one in callers:
            self._add(one)

    def _add(self, one: PlaintextCaller) -> None:
        key = (one.port, one.address)
        known = self._pending.get(key)
        if known is not None:
            one = PlaintextCaller(one.port, one.address, one.count + known.count, max(one.last, known.last))
        self._pending[key] = one
