"""Tells the timeline what becomes of endpoints: who came, went, moved or failed, of which hosts, and why.

What happens within a second to the same hosts is one event where it is more than a few, and in a storm over many hosts
all that is alike is one: it says how many, names the first of them, and numbers all of them.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from fairlead.compiler.roster import SORTS, Move, Roster
from fairlead.controlplane.conditions import condition_of
from fairlead.controlplane.feed import Pass
from fairlead.inc import Engine
from fairlead.model.ref import Ref
from fairlead.store.answers import How, answered
from fairlead.store.change import Change, Json
from fairlead.store.timeline import Happening

_ALIKE = 10
"""So many endpoints are told one by one."""
_EVENTS = 20
"""So many events of one sort are told of a second."""
_NAMED = 100
_VERBS = {
    "added": "added to",
    "removed": "removed from",
    "healthy": "healthy in",
    "unhealthy": "unhealthy in",
    "moved": "moved in",
}


class _News(msgspec.Struct, frozen=True):
    time: float
    move: Move
    why: str


class EndpointNews:
    """Follows the passes of a feed; `tell` gives what has been gathered. On the event loop.

    `number` gives the number of a proxy in rows of answers (`Timeline.number`).
    """

    def __init__(self, engine: Engine, number: Callable[[str], int], clock: Callable[[], float] = time.time) -> None:
        self._roster = Roster(engine)
        self._number = number
        self._clock = clock
        self._news: list[_News] = []

    def passed(self, made: Pass) -> None:
        """A pass is over."""
        moves = self._roster.moves()
        if moves:
            now = self._clock()
            self._news += (_News(now, move, _why(move, made.commits)) for move in moves)

    def tell(self) -> list[Happening]:
        """What has happened since the last call, in as few events as say it, in the order of time."""
        news, self._news = self._news, []
        out: list[Happening] = []
        for sort in SORTS:
            found = [one for one in news if one.move.sort == sort]
            alike: dict[tuple[str, ...], list[_News]] = {}
            for one in found:
                alike.setdefault(one.move.hosts, []).append(one)
            events: list[list[_News]] = []
            for group in alike.values():
                events += [group] if len(group) > _ALIKE else [[one] for one in group]
            out += map(self._event, [found] if len(events) > _EVENTS else events)
        return sorted(out, key=lambda one: one.time)

    def _event(self, found: Sequence[_News]) -> Happening:
        first = found[0]
        hosts = tuple(dict.fromkeys(host for one in found for host in one.move.hosts))
        what = f"{_VERBS[first.move.sort]} {_some(hosts, 'hosts')}"
        detail: Json = {"change": first.move.sort, "hosts": list(hosts[:_NAMED])}
        if len(found) == 1:
            move = first.move
            where = f" from {move.before} to {move.after}" if move.before else f": {move.address}"
            state = ", not healthy yet" if move.sort == "added" and not move.is_healthy else ""
            detail |= {"address": move.address, "object": str(move.origin), "why": first.why}
            text = f"{what}{where}{state}{f' ({first.why})' if first.why else ''}"
            return Happening(first.time, "endpoint", text, _named(move), _proxy(move), detail=detail)
        # The commonest reason stands for all: in a storm most have the same one, or each its own.
        why, times = Counter(one.why for one in found).most_common(1)[0]
        reason = f" ({why}{'' if times == len(found) else ', and other reasons'})" if why else ""
        detail |= {"count": len(found), "addresses": [one.move.address for one in found[:_NAMED]], "why": why}
        detail["proxies"] = [name for name in (_proxy(one.move) for one in found) if name][:_NAMED]
        numbers = {self._number(name): one.time for one in found if (name := _proxy(one.move))}
        rows = array("Q", (answered(at, when - first.time, How.ACKNOWLEDGED) for at, when in numbers.items()))
        text = f"{len(found)} endpoints {what}{reason}"
        return Happening(first.time, "endpoint", text, _some(hosts, "hosts"), "", detail=detail, rows=rows)


def _why(move: Move, commits: Mapping[Ref, Change]) -> str:
    change = commits.get(move.origin)
    if change is None:
        return ""
    if move.sort in ("healthy", "unhealthy") and change.new is not None:
        said = condition_of(change.new, "Healthy") or {}
        if said.get("message") or said.get("reason"):
            return str(said.get("message") or said["reason"])[:500]
    by = change.message or change.command or f"{change.author}, {change.via}".strip(", ")
    own = move.workload is None or (move.workload.kind, move.workload.name) == (change.ref.kind, change.ref.name)
    return by if own else f"{change.ref} {change.operation.lower()}: {by}"


def _named(move: Move) -> str:
    return str(move.origin) if move.workload is None else f"{move.workload.kind} {move.workload.name}"


def _proxy(move: Move) -> str:
    """What the workload's proxy is called: entries that nodes and groups write bear its name."""
    return "" if move.workload is None else f"{move.workload.name}.{move.workload.namespace}"


def _some(names: Sequence[str], what: str) -> str:
    more = f" and {len(names) - 3} more {what}" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
