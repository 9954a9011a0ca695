"""Ports that Envoy could not bind because something else has them: looked at until they are free."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable

from fairlead.agent.backoff import Backoff

_TAKEN = re.compile(r"cannot bind '\[?([0-9a-fA-F.:]+?)\]?:(\d+)': Address already in use")
FIRST_SECONDS, LAST_SECONDS = 0.5, 15.0
_QUIET_SECONDS = 60.0
"""So long after a refusal the next one is another matter."""

log = logging.getLogger("ports")


class TakenPorts:
    """Reads refusals, and calls `free` when a port that was taken is free: what was refused may be sent again."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free = free
        self._taken: set[tuple[str, int]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._backoff = Backoff(FIRST_SECONDS, LAST_SECONDS)
        self._last = 0.0

    def refused(self, words: str) -> None:
        """Envoy has refused something, in these words."""
        found = {(address, int(port)) for address, port in _TAKEN.findall(words)}
        if not found:
            return
        now = asyncio.get_running_loop().time()
        if now - self._last > _QUIET_SECONDS:
            self._backoff.reset()
        self._last = now
        self._taken |= found
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="taken ports")

    async def close(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._backoff.next())
            free = sorted(one for one in self._taken if _is_free(*one))
            if free:
                log.info("free again: %s", ", ".join(f"{address}:{port}" for address, port in free))
                self._taken.clear()
                self._free()
                return


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
