"""Requests into the mesh: single, in numbers, and as a load that runs while something else happens."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, cast

import aiohttp
import msgspec

CONCURRENCY = 8
_LIMIT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_MOST = 50_000
"""Requests of one load, at most."""
_PAUSE = 0.004


class Reply(msgspec.Struct, frozen=True):
    """An answer; status 0: none came, and `body` says why."""

    status: int
    body: Any
    seconds: float
    headers: dict[str, str] = {}

    def field(self, name: str, default: Any = None) -> Any:
        """A field of the answer; `default` where the answer is no JSON object, or has none."""
        return cast("dict[str, Any]", self.body).get(name, default) if isinstance(self.body, dict) else default

    @property
    def inner(self) -> dict[str, Any]:
        """What the service that was called through `/call/` answered."""
        found = self.field("body")
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    @property
    def inner_status(self) -> int:
        """Its status; 0 if it was not reached."""
        return int(self.field("status", 0))


class Load:
    """Counts of a load that runs in the background."""

    def __init__(self) -> None:
        self.sent = 0
        self.failed: list[str] = []
        self.slowest = 0.0

    def note(self, reply: Reply) -> None:
        """Count an answer."""
        self.sent += 1
        self.slowest = max(self.slowest, reply.seconds)
        if reply.status != 200:
            self.failed.append(f"{reply.status} {str(reply.body)[:300]}")


class Traffic:
    """An HTTP client. Use as an async context manager."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Traffic:
        self._session = aiohttp.ClientSession(timeout=_LIMIT, connector=aiohttp.TCPConnector(limit=64))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        base: str = "",
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
    ) -> Reply:
        """GET without following redirects; what goes wrong on the way is a reply with status 0."""
        assert self._session is not None
        began = time.monotonic()
        try:
            async with self._session.get(
                f"{base or self.base}{path}",
                headers=headers,
                allow_redirects=False,
                ssl=tls if tls is not None else True,
                server_hostname=name,
            ) as answer:
                text = await answer.read()
                try:
                    body: Any = msgspec.json.decode(text)
                except msgspec.DecodeError:
                    body = text.decode(errors="replace")
                found = {key.lower(): value for key, value in answer.headers.items()}
                return Reply(answer.status, body, time.monotonic() - began, found)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Reply(0, f"{type(error).__name__}: {error}", time.monotonic() - began)

    async def many(
        self, count: int, path: str, headers: Mapping[str, str] | None = None, concurrency: int = CONCURRENCY
    ) -> list[Reply]:
        """The answers to `count` requests, some at a time."""
        replies: list[Reply] = []
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                replies.append(await self.get(path, headers))

        await asyncio.gather(*(work() for _ in range(min(count, concurrency))))
        return replies

    @contextlib.asynccontextmanager
    async def load(self, path: str, concurrency: int = 4) -> AsyncGenerator[Load]:
        """Requests without a break while the body runs; they are all answered when it has ended."""
        found = Load()
        ending = asyncio.Event()

        async def work() -> None:
            while not ending.is_set() and found.sent < _MOST:
                found.note(await self.get(path))
                await asyncio.sleep(_PAUSE)

        tasks = [asyncio.create_task(work()) for _ in range(concurrency)]
        try:
            yield found
        finally:
            ending.set()
            await asyncio.gather(*tasks)
