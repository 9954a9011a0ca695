"""Fetched Wasm modules on disk, by their digest, and which URL led to which.

The cache answers without the server, also after a restart; the server is asked where the module is not there, and
where a new configuration wants it asked again. What was not used for longest goes when there is too much.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from pathlib import Path

import msgspec

from fairlead.agent.fetching import Fetcher
from fairlead.agent.files import private_directory, write_private
from fairlead.agent.modules import Module
from fairlead.agent.ociimage import ModuleError

MAX_BYTES = 1024 * 1024 * 1024
MAX_MODULES = 64
MAX_URLS = 1024
PARALLEL = 4
_INDEX = "index.json"

log = logging.getLogger("modules")


class _Known(msgspec.Struct):
    """Where a URL led: the file's digest, and for which version of the configuration the server was asked."""

    digest: str
    version: str = ""


class ModuleStore:
    """The cache of one agent. Raises OSError where its directory cannot be used."""

    def __init__(self, directory: Path, fetcher: Fetcher, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._fetcher = fetcher
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(PARALLEL)
        private_directory(directory)
        self._index = self._read_index()

    async def get(self, module: Module) -> str:
        """The file of a module. Raises ModuleError."""
        known = self._index.get(_key(module))
        path = self._path(known.digest) if known is not None else None
        if path is not None and not await asyncio.to_thread(_is_intact, path):
            path = None
        if known is not None and path is not None and module.version in ("", known.version):
            os.utime(path)
            return str(path)
        try:
            async with self._turns:
                body = await self._fetcher.fetch(module)
        except ModuleError as error:
            if path is None:
                raise
            log.warning("taking the module %s from the cache: %s", module.url, error)
            os.utime(path)
            return str(path)
        return str(await self._keep(module, body))

    async def _keep(self, module: Module, body: bytes) -> Path:
        digest = hashlib.sha256(body).hexdigest()
        path = self._path(digest)
        try:
            await asyncio.to_thread(write_private, path, body)
            self._index.pop(_key(module), None)
            self._index[_key(module)] = _Known(digest, module.version)
            self._bound(path)
            await asyncio.to_thread(write_private, self._directory / _INDEX, msgspec.json.encode(self._index))
        except OSError as error:
            raise ModuleError(f"it cannot be kept on disk: {error.strerror}") from None
        log.info("fetched the module %s: %d bytes, sha256 %s", module.url, len(body), digest)
        return path

    def _bound(self, newest: Path) -> None:
        """Remove what was not used for longest. Envoy has loaded what it runs; after its restart it is fetched."""
        found = sorted(
            ((one.stat().st_mtime, one.stat().st_size, one) for one in self._directory.glob("*.wasm")), reverse=True
        )
        total = 0
        for count, (_, size, path) in enumerate(found):
            total += size
            if path != newest and (total > self._max_bytes or count >= MAX_MODULES):
                path.unlink(missing_ok=True)
        for key in list(self._index)[:-MAX_URLS]:
            del self._index[key]

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.wasm"

    def _read_index(self) -> dict[str, _Known]:
        try:
            return msgspec.json.decode((self._directory / _INDEX).read_bytes(), type=dict[str, _Known])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("starting with an empty cache of modules: %s", error)
            return {}


def _key(module: Module) -> str:
    """Who may have a module is part of its name: other credentials are tried anew."""
    secret = hashlib.sha256(module.secret.encode()).hexdigest() if module.secret else ""
    return f"{module.url} {module.sha256} {secret}"


def _is_intact(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == path.stem
    except OSError:
        return False
