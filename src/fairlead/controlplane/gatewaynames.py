"""Looks up the gateways of networks that are known by a DNS name only: proxies get their addresses.

A name that cannot be looked up keeps the addresses that it had. The resolver of the host is asked, which tells no time
to live, so names are asked for anew at an interval.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from fairlead.compiler.networks import named_gateways
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.keeping import Keepers
from fairlead.ir.network import GATEWAY_ADDRESSES

_log = logging.getLogger(__name__)
REFRESH = 30.0
"""Seconds between two looks at a name; after one that failed it is tried again sooner."""
_RETRY = 2.0

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]
"""A name to its addresses, in order; raises OSError."""


async def resolved(name: str) -> tuple[str, ...]:
    """The addresses of a name, as this host knows them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(sorted({str(address[0]) for *_, address in found}))


class GatewayNames:
    """Keeps the engine's table of gateways' addresses. Lives on the event loop."""

    def __init__(self, feed: Feed, resolve: Resolve = resolved, refresh: float = REFRESH) -> None:
        self._feed = feed
        self._resolve = resolve
        self._refresh = refresh
        self._keepers = Keepers(self._keep)
        self._problems: dict[str, str] = {}

    def start(self) -> None:
        """Begin."""
        self._feed.listen(lambda _: self._look())
        self._look()

    async def stop(self) -> None:
        """Look up no more."""
        await self._keepers.stop()

    def findings(self) -> list[str]:
        """The names that cannot be looked up now, and why."""
        remedy = "See that the control plane's host can look it up, or give the gateway's address [FL2901]"
        return [
            f"warning: gateway {name} of a network cannot be looked up: {why}. {remedy}"
            for name, why in sorted(self._problems.items())
        ]

    def _look(self) -> None:
        wanted = set(self._feed.model.engine.call(named_gateways, ""))
        for name in self._keepers.drop(wanted):
            self._problems.pop(name, None)
            self._feed.put(GATEWAY_ADDRESSES, name, None)
        for name in wanted:
            self._keepers.take(name)

    async def _keep(self, name: str) -> None:
        while True:
            try:
                found = await self._resolve(name)
            except OSError as error:
                why = error.strerror or str(error)
                if self._problems.get(name) != why:
                    _log.warning("gateway %s cannot be looked up: %s", name, why)
                self._problems[name] = why
                await asyncio.sleep(min(_RETRY, self._refresh))
                continue
            self._problems.pop(name, None)
            if self._feed.put(GATEWAY_ADDRESSES, name, found):
                _log.info("gateway %s is at %s", name, ", ".join(found))
            await asyncio.sleep(self._refresh)
