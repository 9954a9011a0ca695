"""Further roots for proxies: those in the mesh's settings, and those of SPIFFE bundles that are fetched and refreshed.

A bundle that cannot be fetched keeps the roots that it had, across restarts, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from fairlead.controlplane.feed import Feed
from fairlead.controlplane.fetching import FetchError
from fairlead.controlplane.keeping import Keepers, Remembered
from fairlead.ir.anchors import Bundle, bundles
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh

_log = logging.getLogger(__name__)
REFRESH = 300.0
"""Seconds between two looks at a bundle that does not say how often (SPIFFE's advice)."""
_PATIENCE = 10.0
_RETRY = 5.0

Fetch = Callable[[str, float], Awaitable[Bundle]]
"""(URL, seconds) to a bundle; raises FetchError."""


class Bundles:
    """Keeps what proxies are to trust; `trust` is told of it, by trust domain. `path` remembers bundles."""

    def __init__(self, feed: Feed, fetch: Fetch, trust: Callable[[dict[str, str]], None], path: Path) -> None:
        self._feed = feed
        self._fetch = fetch
        self._trust = trust
        self._remembered = Remembered(path, "bundles")
        self._roots: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self._keepers = Keepers(self._keep)

    def start(self) -> None:
        """Begin."""
        self._roots = self._remembered.read()
        self._feed.listen(lambda _: self._look())
        self._look()

    async def stop(self) -> None:
        """Fetch no more."""
        await self._keepers.stop()

    def findings(self) -> list[str]:
        """The bundles that cannot be fetched now, and why."""
        remedy = "Peers are judged by the roots that it had before, if any. See that it can be reached [FL2605]"
        return [f"warning: SPIFFE bundle {url}: {why}. {remedy}" for url, why in sorted(self._problems.items())]

    def _look(self) -> None:
        wanted = {one.url for one in self._mesh().anchors if one.url}
        for url in self._keepers.drop(wanted):
            self._problems.pop(url, None)
            if self._roots.pop(url, None) is not None:
                self._remembered.write(self._roots)
        for url in wanted:
            self._keepers.take(url)
        self._tell()

    def _mesh(self) -> Mesh:
        return self._feed.model.engine.get(MESHES, MESH_KEY) or Mesh()

    def _tell(self) -> None:
        mesh = self._mesh()
        self._trust(bundles(mesh.anchors, self._roots, (mesh.trust_domain, *mesh.trust_domain_aliases)))

    async def _keep(self, url: str) -> None:
        while True:
            try:
                found = await self._fetch(url, _PATIENCE)
            except FetchError as error:
                if self._problems.get(url) != str(error):
                    _log.warning("SPIFFE bundle %s cannot be fetched: %s", url, error)
                self._problems[url] = str(error)
                await asyncio.sleep(_RETRY)
                continue
            self._problems.pop(url, None)
            if self._roots.get(url) != found.pem:
                _log.info("SPIFFE bundle %s: %d roots", url, found.pem.count("BEGIN CERTIFICATE"))
                self._roots[url] = found.pem
                self._remembered.write(self._roots)
                self._tell()
            await asyncio.sleep(found.refresh or REFRESH)
