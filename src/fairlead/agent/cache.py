"""The last good configuration on disk: one file per resource type, itself a DeltaDiscoveryResponse.

Writes are gathered for a moment and done in a thread; every file is replaced whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.message import DecodeError

from fairlead.agent.files import private_directory, write_private
from fairlead.agent.relaystate import Stored

MAX_FILE_BYTES = 512 * 1024 * 1024
GATHER_SECONDS = 0.3

log = logging.getLogger("cache")


def load(directory: Path) -> dict[str, dict[str, tuple[str, bytes]]]:
    """All types found; a damaged file is skipped and named in the log."""
    found: dict[str, dict[str, tuple[str, bytes]]] = {}
    for path in sorted(directory.glob("*.pb")):
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError("too large")
            message = discovery.DeltaDiscoveryResponse.FromString(path.read_bytes())
        except (OSError, ValueError, DecodeError) as error:
            log.warning("ignoring the cached configuration %s: %s", path, error)
            continue
        items = {one.name: (one.version, one.SerializeToString()) for one in message.resources}
        found[message.type_url] = items
    return found


def store(directory: Path, type_url: str, items: Stored) -> None:
    """Replace the file of one type. Raises OSError."""
    message = discovery.DeltaDiscoveryResponse(type_url=type_url)
    for name in sorted(items):
        message.resources.append(discovery.Resource.FromString(items[name][1]))
    write_private(directory / f"{type_url.rpartition('.')[2]}.pb", message.SerializeToString())


class CacheWriter:
    """Writes the types marked as changed, soon; `flush` writes them now."""

    def __init__(self, directory: Path, read: Callable[[str], Stored]) -> None:
        private_directory(directory)
        self._directory = directory
        self._read = read
        self._changed: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def mark(self, type_url: str) -> None:
        """This type changed."""
        self._changed.add(type_url)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._later())

    async def _later(self) -> None:
        while self._changed:
            await asyncio.sleep(GATHER_SECONDS)
            await self._write()

    async def _write(self) -> None:
        changed, self._changed = self._changed, set()
        for kind in changed:
            items = dict(self._read(kind))
            try:
                await asyncio.to_thread(store, self._directory, kind, items)
            except OSError as error:
                log.warning("cannot keep the last good configuration in %s: %s", self._directory, error)

    async def flush(self) -> None:
        """Write what is marked."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._write()
