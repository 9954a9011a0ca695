"""Further roots for proxies: those in the mesh's settings, and those of SPIFFE bundles that are fetched and refreshed.

A bundle that cannot be fetched keeps the roots that it had, across restarts, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from fairlead.ca.files import write_atomic
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.fetching import FetchError
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
        self._path = path
        self._roots: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begin."""
        self._roots = _read(self._path)
        self._feed.listen(lambda _: self._look())
        self._look()

    async def stop(self) -> None:
        """Fetch no more."""
        tasks = list(self._tasks.values())
        for one in tasks:
            one.cancel()
        self._tasks.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def findings(self) -> list[str]:
        """The bundles that cannot be fetched now, and why."""
        remedy = "Peers are judged by the roots that it had before, if any. See that it can be reached [FL2605]"
        return [f"warning: SPIFFE bundle {url}: {why}. {remedy}" for url, why in sorted(self._problems.items())]

    def _look(self) -> None:
        wanted = {one.url for one in self._mesh().anchors if one.url}
        for url in self._tasks.keys() - wanted:
            self._tasks.pop(url).cancel()
            self._problems.pop(url, None)
            if self._roots.pop(url, None) is not None:
                self._remember()
        for url in wanted - self._tasks.keys():
            self._tasks[url] = asyncio.get_running_loop().create_task(self._keep(url))
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
                self._remember()
                self._tell()
            await asyncio.sleep(found.refresh or REFRESH)

    def _remember(self) -> None:
        try:
            write_atomic(self._path, msgspec.json.encode(self._roots, order="sorted"))
        except OSError as error:
            _log.warning("%s: %s; bundles will have to be fetched again after a restart", self._path, error.strerror)


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("%s: %s; bundles are fetched again", path, error)
        return {}
