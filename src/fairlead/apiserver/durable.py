"""Answers to what changes something go out when it is on the disk.

The store commits without waiting for the disk, on the event loop; the disk is waited for in a thread, once for all
requests that came meanwhile. So a slow disk delays those who write and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead.apiserver.answers import refused
from fairlead.apiserver.refusal import Refusal
from fairlead.store import Store, StoreUnusable

_CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS")


class Disk:
    """Waits for the disk, once for all who wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reached = -1
        """The newest commit that is known to be on the disk."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._busy = False
        # Not the loop's own threads, which others keep busy for long.
        self._thread = ThreadPoolExecutor(1, "disk")

    async def wait(self) -> None:
        """Return when all that is committed now is on the disk. Raises StoreUnusable."""
        wanted, loop = self._store.written, asyncio.get_running_loop()
        if self._reached >= wanted:
            return
        # A future and no task: the loop of a busy control plane takes its time for each turn.
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((wanted, written))
        self._next(loop)
        await written

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            self._thread.submit(self._sync, loop, self._store.written)

    def _sync(self, loop: asyncio.AbstractEventLoop, until: int) -> None:
        """In the thread."""
        failed: StoreUnusable | None = None
        try:
            self._store.sync()
        except StoreUnusable as error:
            failed = error
        # A loop that has ended waits for nothing.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._synced, loop, until, failed)

    def _synced(self, loop: asyncio.AbstractEventLoop, until: int, failed: StoreUnusable | None) -> None:
        self._busy = False
        if failed is None:
            self._reached = until
        waiting, self._waiting = self._waiting, []
        for wanted, written in waiting:
            if written.done():
                continue
            if failed is not None:
                written.set_exception(failed)
            elif wanted <= until:
                written.set_result(None)
            else:
                # What had begun before the commit may not have it: there is another turn.
                self._waiting.append((wanted, written))
        self._next(loop)


class Durable:
    """An ASGI application whose answers to changes wait for the disk."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app = app
        self._disk = Disk(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] in _CHANGES_NOTHING:
            await self._app(scope, receive, send)
            return
        lost = False

        async def when_durable(message: Message) -> None:
            nonlocal lost
            if message["type"] == "http.response.start":
                try:
                    await self._disk.wait()
                except StoreUnusable as error:
                    lost = True
                    said = f"the change may be lost when this machine fails, the disk did not take it: {error}"
                    await refused(Refusal(500, said))(scope, receive, send)
            if not lost:
                await send(message)

        await self._app(scope, receive, when_durable)
