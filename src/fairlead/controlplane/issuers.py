"""Keeps the keys of issuers whose tokens join the mesh: fetched at the start, refreshed, and fetched anew on demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from fairlead.ca.oidc import JoinIssuer
from fairlead.controlplane.fetching import FetchError

_log = logging.getLogger(__name__)
_PATIENCE = 10.0
_SOONEST = 5.0
"""Seconds between two fetches that failed, or that tokens with an unknown key ask for."""

Fetch = Callable[[str, float], Awaitable[str]]


class IssuerKeys:
    """Key sets by issuer. `refresh` is in seconds."""

    def __init__(self, issuers: Sequence[JoinIssuer], fetch: Fetch, refresh: float) -> None:
        self._fetch = fetch
        self._refresh = refresh
        self._keys = {one.issuer: one.jwks for one in issuers if one.jwks}
        self._wanted = {one.issuer: asyncio.Event() for one in issuers if one.jwks_uri}
        self._issuers = [one for one in issuers if one.jwks_uri]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to fetch."""
        self._tasks = [asyncio.get_running_loop().create_task(self._keep(one)) for one in self._issuers]

    async def stop(self) -> None:
        """Fetch no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def keys(self, issuer: JoinIssuer) -> str | None:
        """The newest key set that was fetched, or None."""
        return self._keys.get(issuer.issuer)

    def missing(self, issuer: JoinIssuer) -> None:
        """A token names a key that is not there: the issuer may have a new one."""
        if issuer.issuer in self._wanted:
            self._wanted[issuer.issuer].set()

    async def _keep(self, issuer: JoinIssuer) -> None:
        wanted = self._wanted[issuer.issuer]
        while True:
            pause = self._refresh
            try:
                self._keys[issuer.issuer] = await self._fetch(issuer.jwks_uri, _PATIENCE)
            except FetchError as error:
                _log.warning("keys of %s cannot be fetched: %s", issuer.issuer, error)
                pause = _SOONEST
            wanted.clear()
            # An unknown key must not make everybody's tokens fetch without end.
            await asyncio.sleep(min(_SOONEST, pause))
            try:
                async with asyncio.timeout(max(pause - _SOONEST, 0)):
                    await wanted.wait()
            except TimeoutError:
                continue
