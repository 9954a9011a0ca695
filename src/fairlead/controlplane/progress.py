"""How far proxies are behind, and how old a revision is when everybody has it.

A proxy falls behind with a change that it must be sent, and has caught up when nothing is due or unanswered. The age of
a revision runs from the commit of its oldest change until the last proxy that had to be told of it has caught up.
Costs a few operations for each proxy and change; keeps numbers only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from fairlead.controlplane.stages import Stages

MAX_OPEN = 256
"""Passes that are followed at once: beyond, the oldest are given up and counted, since somebody does not answer."""


class Standing:
    """How one proxy stands. Times are those of the clock that `Progress` was given."""

    __slots__ = ("answered", "behind_since", "last_seconds", "passes")

    def __init__(self) -> None:
        self.behind_since: float | None = None
        """When the oldest change that it has not acknowledged was committed (or when it connected)."""
        self.last_seconds: float | None = None
        """How long it was behind the last time."""
        self.answered = False
        self.passes: list[int] = []


class _Open:
    __slots__ = ("last", "since", "waiting")

    def __init__(self, since: float, waiting: int) -> None:
        self.since = since
        self.waiting = waiting
        self.last: float | None = None


class Progress:
    """Follows all proxies. `clock` gives seconds that only grow."""

    def __init__(self, stages: Stages, clock: Callable[[], float]) -> None:
        self._stages = stages
        self.clock = clock
        self._count = 0
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self.given_up = 0
        """Revisions that were followed no longer because too many newer ones were open."""

    def began(self, standing: Standing) -> None:
        """A proxy has connected: it is behind until it has what it asks for."""
        standing.behind_since = self.clock()
        standing.answered = False

    def changed(self, since: float, affected: Iterable[Standing]) -> int:
        """A pass over changes that were committed at `since` gave these proxies something new; the pass's number."""
        self._count = count = self._count + 1
        waiting = 0
        oldest = next(iter(self._open), count)
        for one in affected:
            waiting += 1
            passes = one.passes
            if one.behind_since is None:
                one.behind_since = since
                one.answered = False
            elif len(passes) >= MAX_OPEN:
                passes = one.passes = [number for number in passes if number >= oldest]
            passes.append(count)
        if not waiting:
            return self._count
        self._open[self._count] = _Open(since, waiting)
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
            self.given_up += 1
        return self._count

    def answered(self, standing: Standing) -> None:
        """A proxy has acknowledged or refused something."""
        standing.answered = True

    def caught_up(self, standing: Standing) -> None:
        """Nothing is due to a proxy, and nothing unanswered."""
        since = standing.behind_since
        if since is None:
            return
        now = self.clock() if standing.answered else None
        standing.behind_since = None
        if now is not None:
            standing.last_seconds = max(now - since, 0.0)
            self._stages.observe("ack", now - since)
        self._leave(standing, now)

    def left(self, standing: Standing) -> None:
        """A proxy has gone: nobody waits for it."""
        standing.behind_since = None
        self._leave(standing, None)

    def oldest(self) -> float:
        """How old the oldest revision is that not everybody has; 0 if there is none."""
        first = next(iter(self._open.values()), None)
        return max(self.clock() - first.since, 0.0) if first is not None else 0.0

    @property
    def open(self) -> int:
        """How many revisions not everybody has."""
        return len(self._open)

    def _leave(self, standing: Standing, now: float | None) -> None:
        passes, standing.passes = standing.passes, []
        opened = self._open
        for number in passes:
            found = opened.get(number)
            if found is None:
                continue
            found.waiting -= 1
            if now is not None:
                found.last = now
            if not found.waiting:
                del opened[number]
                if found.last is not None:
                    self._stages.observe_age(found.last - found.since)
