"""Tells the timeline what happens to proxies: who came, who got which push and when, who refused it, and the rest.

A push is one row however many proxies it reached: counts by what they are, who took longest, who refused, and, where
they are few, how long each took. It is written when the last proxy has answered; one that somebody does not answer is
also told while it waits, with the names of those.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.ca.service import CertificateEvent
from fairlead.controlplane.feed import Pass
from fairlead.controlplane.progress import MAX_OPEN
from fairlead.controlplane.proxylist import Known
from fairlead.ir.view import View
from fairlead.model.nodeid import called
from fairlead.store.change import Json
from fairlead.store.errors import StoreError
from fairlead.store.timeline import Happening, Timeline
from fairlead.xds.messages import Health, Nacked

_log = logging.getLogger(__name__)
_BATCH_SECONDS = 1.0
_FEW = 50
"""Pushes to so many proxies say how long each took."""
_LATE_SECONDS = 5.0
_NAMED = 20


class Push:
    """A push that is under way. `since` is when its oldest change was committed, on the chronicle's clock."""

    __slots__ = ("acks", "answered", "detail", "first", "gone", "last", "late", "refused", "revision", "since", "told")

    def __init__(self, first: int, revision: int, since: float, told: int, detail: Json) -> None:
        self.first = first
        self.revision = revision
        self.since = since
        self.told = told
        self.detail = detail
        self.answered = self.gone = 0
        self.acks: dict[str, float] | None = {} if told <= _FEW else None
        self.refused: dict[str, str] = {}
        self.last: tuple[str, float] = ("", 0.0)
        self.late = False

    @property
    def waiting(self) -> int:
        return self.told - self.answered - self.gone


class Chronicle:
    """Follows proxies and pushes (`Proxies.follower`). `proxies` gives those that are connected, with clock `now`."""

    def __init__(self, timeline: Timeline, revision: Callable[[], int], now: Callable[[], float]) -> None:
        self.timeline = timeline
        self._revision = revision
        self._now = now
        self._told_until = 0
        self._open: OrderedDict[int, Push] = OrderedDict()
        self._well: dict[str, bool] = {}
        self.connected: Callable[[], Iterable[Known]] = tuple
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write, on the running loop."""
        self._told_until = self._revision()
        self.note("started", f"the control plane serves revision {self._told_until}")
        self._task = asyncio.get_running_loop().create_task(self._write_on())

    async def stop(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for push in self._open.values():
            self._done(push, "when the control plane ended")
        self._open.clear()
        self.note("stopped", "the control plane has ended")
        try:
            self.timeline.close()
        except StoreError as error:
            _log.warning("%s", error)

    def note(self, sort: str, text: str, subject: str = "", proxy: str = "", detail: Json | None = None) -> None:
        """Something that happened now."""
        self.timeline.note(Happening(time.time(), sort, text, subject, proxy, detail=detail))

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(_BATCH_SECONDS)
            self._remind()
            if self.timeline.waiting:
                try:
                    await asyncio.to_thread(self.timeline.flush)
                except StoreError as error:
                    _log.warning("%s", error)

    # Proxies

    def joined(self, known: Known) -> None:
        """A proxy has connected."""
        self.note("joined", "connected", str(known.connection.peer), _name(known))

    def gone(self, known: Known, passes: Sequence[int]) -> None:
        """A proxy has disconnected; it owed answers to these passes."""
        self.note("left", "disconnected", str(known.connection.peer), _name(known))
        self._well.pop(known.connection.node.id, None)
        for push in self._of(passes):
            push.gone += 1
        self._close(passes)

    def health(self, known: Known, said: Health) -> None:
        """An agent has said how its application is; told where that is news."""
        node = known.connection.node.id
        if self._well.get(node) is not said.healthy:
            self._well[node] = said.healthy
            text = "healthy" if said.healthy else f"not healthy: {said.message}"[:500]
            self.note("health", text, proxy=_name(known))

    def refused(self, known: Known, event: Nacked) -> None:
        """A proxy has refused a resource."""
        what = f"{event.type_url.rpartition('.')[2]} {event.name}"
        self.note("nack", event.message[:2000], what, _name(known))
        for push in self._of(known.standing.passes):
            if len(push.refused) < _NAMED:
                push.refused[_name(known)] = f"{what}: {event.message}"[:500]

    # Pushes

    def pushed(self, made: Pass, number: int, told: Mapping[View, int]) -> None:
        """A pass gave so many proxies of each view something new; `number` is how their standings know it."""
        first, revision = self._told_until + 1, self._revision()
        count = sum(told.values())
        if not count and not made.edited:
            return
        self._told_until = revision
        if not count and not any(True for _ in self.connected()):
            return
        # There may be as many views as proxies: what is done for each of them is little, and words come last.
        groups: Counter[tuple[str, str]] = Counter()
        resources: dict[str, int] = {}
        for view, proxies in told.items():
            groups[view.type, view.namespace] += proxies
            for type_url, names in made.changed[view].items():
                resources[type_url] = resources.get(type_url, 0) + len(names) * proxies
        detail: Json = {
            "proxies": count,
            "groups": {" ".join(group): number for group, number in groups.most_common(_NAMED)},
            "resources": {type_url.rpartition(".")[2]: number for type_url, number in resources.items()},
        }
        push = Push(min(first, revision), revision, made.since, count, detail)
        if not count:
            self._done(push)
            return
        self._open[number] = push
        if len(self._open) > MAX_OPEN:
            _, oldest = self._open.popitem(last=False)
            self._done(oldest, "when newer ones came")

    def caught_up(self, known: Known, passes: Sequence[int]) -> None:
        """A proxy has everything of these passes."""
        now = self._now()
        for push in self._of(passes):
            took = max(now - push.since, 0.0)
            push.answered += 1
            push.last = (_name(known), took)
            if push.acks is not None:
                push.acks[_name(known)] = round(took, 4)
        self._close(passes)

    def open_pushes(self) -> list[Push]:
        """Those that somebody has not answered."""
        return list(self._open.values())

    def _of(self, passes: Sequence[int]) -> list[Push]:
        return [self._open[number] for number in passes if number in self._open]

    def _close(self, passes: Sequence[int]) -> None:
        for number in passes:
            push = self._open.get(number)
            if push is not None and not push.waiting:
                del self._open[number]
                self._done(push)

    def _remind(self) -> None:
        """Name those who do not answer a push for long, once."""
        now = self._now()
        for number, push in self._open.items():
            if push.late or now - push.since < _LATE_SECONDS:
                continue
            push.late = True
            names = sorted(_name(one) for one in self.connected() if number in one.standing.passes)
            push.detail["late"] = names[:_NAMED]
            self._done(push, f"after {now - push.since:.0f} s, among them {', '.join(names[:3])}")

    def _done(self, push: Push, unanswered: str = "") -> None:
        detail = {**push.detail, "acknowledged": push.answered - len(push.refused), "left": push.gone}
        if push.acks is not None:
            detail["seconds"] = dict(push.acks)
        if push.refused:
            detail["refused"] = dict(push.refused)
        if push.last[0]:
            detail["last"] = {"proxy": push.last[0], "seconds": round(push.last[1], 4)}
        text = _sentence(push, unanswered)
        self.timeline.note(
            Happening(time.time(), "push", text, _revisions(push), "", push.first, push.revision, detail)
        )

    # The rest

    def certificate(self, event: CertificateEvent) -> None:
        """The authority has answered a request."""
        subject = str(event.identity) if event.identity else "unknown"
        detail: Json = {"peer": event.peer}
        if event.refused:
            self.note("certificate", f"refused: {event.refused}"[:500], subject, detail=detail)
            return
        how = "renewed" if event.method == "certificate" else "issued for a join token"
        ends = event.not_after.strftime("%Y-%m-%dT%H:%M:%SZ") if event.not_after else ""
        self.note("certificate", f"{how}, serial {event.serial}, ends {ends}", subject, detail=detail)

    def delivery(self, sort: str, nodes: Sequence[str], reason: str) -> None:
        """A push is held, or a held one goes out."""
        names = [called(node) for node in nodes]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        detail: Json = {"proxies": names[:_NAMED], "count": len(names)}
        self.note(
            sort, f"{', '.join(names[:3])}{more}: {reason}", proxy=names[0] if len(names) == 1 else "", detail=detail
        )


def _sentence(push: Push, unanswered: str) -> str:
    if not push.told:
        return "concerns no connected proxy"
    kinds = ", ".join(f"{count} {kind}" for kind, count in push.detail["resources"].items())
    said = f"{kinds} to {push.told} {'proxy' if push.told == 1 else 'proxies'}"
    if unanswered:
        return f"{said}: {push.waiting} had not answered {unanswered}"
    took = f" within {push.last[1]:.3f} s, last {push.last[0]}" if push.last[0] else ""
    good = push.answered - len(push.refused)
    out = f"{said}: acknowledged by {'all' if good == push.told else good}{took if good else ''}"
    if push.refused:
        name, why = next(iter(push.refused.items()))
        out += f"; refused by {len(push.refused)}, {name}: {why[:200]}"
    return out + (f"; {push.gone} left before" if push.gone else "")


def _revisions(push: Push) -> str:
    return f"revision {push.revision}" if push.first == push.revision else f"revisions {push.first}-{push.revision}"


def _name(known: Known) -> str:
    return f"{known.name}.{known.namespace}"
