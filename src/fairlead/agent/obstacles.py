"""What made Envoy refuse something on this host, and may go by itself: a port that something else has, a file that is
not there. Looked at until it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from fairlead.agent.backoff import Backoff

_TAKEN = re.compile(r"cannot bind '\[?([0-9a-fA-F.:]+?)\]?:(\d+)': Address already in use")
_MISSING = re.compile(r"Invalid path: (.+?)(?=, \S+: |\n|$)")
"""Envoy's words for a file that a configuration names itself: `caCrl` beside a Secret, and what EnvoyFilters say."""
FIRST_SECONDS, LAST_SECONDS = 0.5, 15.0
_QUIET_SECONDS = 60.0
"""So long after a refusal the next one is another matter."""

log = logging.getLogger("obstacles")


class TakenPort(msgspec.Struct, frozen=True):
    """Something else has this port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    def is_gone(self) -> bool:
        """Whether the port is free."""
        with socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.address, self.port))
            except OSError:
                return False
        return True


class MissingFile(msgspec.Struct, frozen=True):
    """There is no such file; a path that is not absolute begins where Envoy runs."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def is_gone(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file()


class Obstacles:
    """Reads refusals, and calls `again` when an obstacle is gone: what was refused may be sent again.

    `base` is the directory in which Envoy runs.
    """

    def __init__(self, base: Path, again: Callable[[], None]) -> None:
        self._base = base
        self._again = again
        self._standing: set[TakenPort | MissingFile] = set()
        self._watching: asyncio.Task[None] | None = None
        self._backoff = Backoff(FIRST_SECONDS, LAST_SECONDS)
        self._last = 0.0

    def refused(self, words: str) -> None:
        """Envoy has refused something, in these words."""
        found: set[TakenPort | MissingFile] = {TakenPort(address, int(port)) for address, port in _TAKEN.findall(words)}
        missing = (MissingFile(self._base / path) for path in _MISSING.findall(words))
        found.update(one for one in missing if not one.is_gone())  # else it is no path that Envoy reads at all
        if not found:
            return
        now = asyncio.get_running_loop().time()
        if now - self._last > _QUIET_SECONDS:
            self._backoff.reset()
        self._last = now
        self._standing |= found
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="obstacles")

    async def close(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._backoff.next())
            gone = sorted(str(one) for one in self._standing if one.is_gone())
            if gone:
                log.info("no obstacle any more: %s", ", ".join(gone))
                self._standing.clear()
                self._again()
                return
