"""The order in which streams are served after changes, and who may be told everything at once.

Must not: know what is sent.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

SLICE_SECONDS = 0.005
"""So long streams are served before requests are read again."""


class Pushed(Protocol):
    """A stream that may have something to send."""

    def push(self) -> None:
        """Send what is due."""
        ...


class Pushing:
    """Serves streams in slices. A change that few proxies see goes before one that many see.

    Streams that are added in one turn of the event loop belong to one change. A stream in several of them is served
    with the smallest, once: what is due is due together.
    """

    def __init__(self) -> None:
        self._fresh: dict[Pushed, None] = {}
        self._batches: list[tuple[int, int, dict[Pushed, None]]] = []
        self._of: dict[Pushed, dict[Pushed, None]] = {}
        self._count = 0
        self._scheduled = False

    @property
    def waiting(self) -> int:
        """How many streams wait to be served."""
        return len(self._of) + len(self._fresh)

    def add(self, stream: Pushed) -> None:
        """This stream may have something to send."""
        self._fresh[stream] = None
        self._schedule()

    def forget(self, stream: Pushed) -> None:
        """This stream is over."""
        self._fresh.pop(stream, None)
        batch = self._of.pop(stream, None)
        if batch is not None:
            batch.pop(stream, None)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._scheduled = False
        self._gather()
        loop = asyncio.get_running_loop()
        until = loop.time() + SLICE_SECONDS
        while self._batches:
            batch = self._batches[0][2]
            while batch:
                stream = next(iter(batch))
                del batch[stream]
                self._of.pop(stream, None)
                stream.push()
                if loop.time() >= until:
                    self._schedule()
                    return
            heapq.heappop(self._batches)

    def _gather(self) -> None:
        fresh, self._fresh = self._fresh, {}
        if not fresh:
            return
        batch: dict[Pushed, None] = {}
        for stream in fresh:
            older = self._of.get(stream)
            if older is not None and len(older) <= len(fresh):
                continue
            if older is not None:
                older.pop(stream, None)
            batch[stream] = None
            self._of[stream] = batch
        if batch:
            self._count += 1
            heapq.heappush(self._batches, (len(fresh), self._count, batch))


class Admission:
    """Lets so many clients at once be told everything; the others wait, the longest first.

    One that does not come to the end of it within `PATIENCE` seconds no longer counts.
    """

    PATIENCE = 5.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: OrderedDict[object, Callable[[], None]] = OrderedDict()
        self._inside: dict[object, asyncio.TimerHandle] = {}
        self.admitted = 0
        """How many clients were let in since the start."""

    @property
    def waiting(self) -> int:
        """How many clients wait."""
        return len(self._waiting)

    def ask(self, client: object, admit: Callable[[], None]) -> None:
        """Call `admit` when it is this client's turn."""
        self._waiting[client] = admit
        self._next()

    def leave(self, client: object) -> None:
        """This client has been told everything, or is gone."""
        self._waiting.pop(client, None)
        timer = self._inside.pop(client, None)
        if timer is not None:
            timer.cancel()
            self._next()

    def _next(self) -> None:
        while self._waiting and len(self._inside) < self._most:
            client, admit = self._waiting.popitem(last=False)
            self._inside[client] = asyncio.get_running_loop().call_later(self.PATIENCE, self.leave, client)
            self.admitted += 1
            admit()
