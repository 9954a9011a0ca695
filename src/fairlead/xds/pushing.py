"""The order in which streams are served after changes, and who may be told everything at once.

Must not: know what is sent.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

SHORTEST, LONGEST = 0.001, 0.005
"""Seconds for which streams are served before others have their turn."""
ALONE_SHORTEST, ALONE_LONGEST = 0.005, 0.01
"""The same where changes come one by one."""
ALONE_STREAM = 0.00001
"""And for each stream of a large change, if that is longer than `ALONE_LONGEST`; at least half of it."""
FEW = 3
"""Changes that come one by one, though some of them together."""
READ_SHARE = 4
"""One message of clients is read for so many streams that were served, while others wait that are due."""
PUSH_SECONDS = 0.0001
"""About what one push costs: how long a change that many see lets one go first that few see."""


MANY = 200
"""Clients; fewer come back as they like."""
STARTING, RETURNING = 1.5, 0.002
"""About the seconds that a control plane is away that is started anew, and those that one client's return costs it; a
little less, because agents add a random part."""


def comes_again(place: int, count: int) -> float | None:
    """Seconds after which the client at this place of so many should come again when the control plane has ended.

    None: it need not be told. Left to themselves those of many would find it away again and again, wait longer each
    time, and be away when it is back, or all come in one moment and wait for each other.
    """
    return STARTING + place * RETURNING if count >= MANY else None


class Pushed(Protocol):
    """A stream that may have something to send."""

    def push(self) -> None:
        """Send what is due."""
        ...


class _Batch:
    """Streams of one change, in the order in which they are served; who goes with an earlier one is passed over."""

    __slots__ = ("due", "streams")

    def __init__(self, due: float) -> None:
        self.due = due
        self.streams: deque[Pushed] = deque()


class Pushing:
    """Serves streams in slices. A change that few proxies see goes before one that many see.

    A slice takes as long as all else has taken since the last one (reading answers, requests to the API, compiling),
    but at least `SHORTEST` and at most `LONGEST`: while others have work, pushing has at most half of the core. Where
    changes come one by one (`alone`), answers have less than that (`defers`): nobody waits for them, and many wait for
    what is pushed. Where changes follow each other, whoever has not answered cannot be told of the next one with the
    others, and requests to the API wait: then answers are read as they come.

    Streams that are added in one turn of the event loop belong to one change. It is due after as long as its pushes
    take alone, and what is due first goes first: so a small change overtakes large ones, and small ones that come again
    and again keep nobody waiting. A stream in several changes is served with the earliest, once: what is due is due
    together.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock = clock
        self._used = used
        """Tells the processor time of this thread."""
        self._fresh: dict[Pushed, None] = {}
        self._again: dict[Pushed, None] = {}
        self._batches: list[tuple[float, int, _Batch]] = []
        self._of: dict[Pushed, _Batch] = {}
        """The batch with which a stream is served."""
        self._count = 0
        self._reads = 0
        """How many messages are still read in this turn, if streams wait."""
        self._most = 0
        """How many streams waited when the last of them came."""
        self.alone = True
        """Whether changes come one by one, as far as is known."""
        self._scheduled = False
        self._left: float | None = None
        """When the last slice ended; None if nothing was left to do then."""
        self.spent = 0.0
        """Seconds of processor time that went into pushes and their answers since the start."""
        self.longest = 0.0
        """The longest time for which others kept streams waiting that were due (seconds)."""

    @property
    def waiting(self) -> int:
        """How many streams wait to be served."""
        return len(self._of) + len(self._fresh) + len(self._again)

    def follows(self, changes: int) -> None:
        """So many changes are told of now, in one go."""
        self.alone = changes <= FEW

    def add(self, stream: Pushed) -> None:
        """The catalog has changed: this stream may have something to send."""
        # Once for each of thousands of streams that a change concerns.
        if self._again:
            self._again.pop(stream, None)
        self._fresh[stream] = None
        if not self._scheduled:
            self._schedule()

    def answered(self, stream: Pushed) -> None:
        """The client has answered, and there is more for it: served now, or after those who wait already."""
        if not self.waiting:
            stream.push()
        elif stream not in self._of and stream not in self._fresh:
            self._again[stream] = None
            self._schedule()

    def forget(self, stream: Pushed) -> None:
        """This stream is over."""
        self._fresh.pop(stream, None)
        self._again.pop(stream, None)
        self._of.pop(stream, None)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def defers(self) -> bool:
        """Whether what a client says may wait for the next turn: streams wait, and enough was read in this one."""
        if self._left is None or not self.alone:
            return False
        self._reads -= 1
        return self._reads < 0

    def _serve(self) -> None:
        self._scheduled = False
        self._gather()
        used = self._used()
        begun = now = self._clock()
        others = 0.0 if self._left is None else begun - self._left
        self.longest = max(self.longest, others)
        until = begun + self._slice(others)
        self._left = None
        served, of, clock = 0, self._of, self._clock
        while self._batches and now < until:
            batch = self._batches[0][2]
            streams = batch.streams
            while streams and now < until:
                stream = streams.popleft()
                if of.get(stream) is batch:
                    del of[stream]
                    stream.push()
                    served += 1
                    now = clock()
            if not streams:
                heapq.heappop(self._batches)
        if of:
            self._left, self._reads = now, served // READ_SHARE
            self._schedule()
        self.spent += self._used() - used

    def _slice(self, others: float) -> float:
        """How long streams are served now, when all else has taken so long."""
        if not self.alone:
            return min(max(others, SHORTEST), LONGEST)
        # Sockets that are passed over are looked at again in each turn: the more there are, the fewer turns must be.
        large = self._most * ALONE_STREAM
        return min(max(others, ALONE_SHORTEST, large / 2), max(ALONE_LONGEST, large))

    def _gather(self) -> None:
        now, ahead = self._clock(), len(self._of)
        # Who is served again waits for all that wait now.
        for streams, before in ((self._fresh, 0), (self._again, ahead + len(self._fresh))):
            if not streams:
                continue
            batch = _Batch(now + (before + len(streams)) * PUSH_SECONDS)
            for stream in streams:
                older = self._of.get(stream)
                if older is None or older.due > batch.due:
                    batch.streams.append(stream)
                    self._of[stream] = batch
            if batch.streams:
                self._count += 1
                heapq.heappush(self._batches, (batch.due, self._count, batch))
        if self._fresh:
            self._most = len(self._of)
        self._fresh, self._again = {}, {}


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
