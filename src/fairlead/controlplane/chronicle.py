"""Tells the timeline what happens to proxies: who came, who got which push and when, who refused it, and the rest.

A push is one row however many proxies it reached: counts by what they are, who took longest and who refused, and
beside it what each proxy did and after how long. It is written when the last proxy has answered; one that somebody does
not answer is also told while it waits, with those.
"""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.ca.service import CertificateEvent
from fairlead.compiler.publish import Changes
from fairlead.controlplane.feed import Pass
from fairlead.controlplane.progress import MAX_OPEN
from fairlead.controlplane.proxylist import Known
from fairlead.ir.view import View
from fairlead.model.nodeid import called
from fairlead.store.answers import How, answered
from fairlead.store.change import Json
from fairlead.store.errors import StoreError
from fairlead.store.timeline import Happening, Timeline
from fairlead.xds.messages import Health, Nacked

_log = logging.getLogger(__name__)
_BATCH_SECONDS = 1.0
_LATE_SECONDS = 5.0
_NAMED = 20
_ACKNOWLEDGED = How.ACKNOWLEDGED
_NONE: tuple[Changes, int] = {}, 0


class Push:
    """A push that is under way. `since` is when its oldest change was committed, on the chronicle's clock."""

    __slots__ = (
        "answered",
        "detail",
        "first",
        "gone",
        "last",
        "late",
        "refused",
        "refusing",
        "revision",
        "rows",
        "since",
        "told",
    )

    def __init__(self, first: int, revision: int, since: float, told: int, detail: Json) -> None:
        self.first = first
        self.revision = revision
        self.since = since
        self.told = told
        self.detail = detail
        self.answered = self.gone = 0
        self.rows = array("Q")
        """What each proxy did (see `store.answers`)."""
        self.refused: dict[str, str] = {}
        """What some of those say that have refused."""
        self.refusing: set[str] = set()
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
        self.endpoints: Callable[[], Iterable[Happening]] = tuple
        """Gives what has become of endpoints since it was last asked (`EndpointNews.tell`)."""
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
        for number, push in self._open.items():
            self._give_up(number, push, "when the control plane ended")
        self._open.clear()
        self.timeline.note(*self.endpoints())
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
            self.timeline.note(*self.endpoints())
            if self.timeline.waiting:
                try:
                    await asyncio.to_thread(self.timeline.flush)
                except StoreError as error:
                    _log.warning("%s", error)

    # Proxies

    def joined(self, known: Known) -> None:
        """A proxy has connected."""
        self.note("joined", "connected", str(known.connection.peer), known.called)

    def gone(self, known: Known, passes: Sequence[int]) -> None:
        """A proxy has disconnected; it owed answers to these passes."""
        self.note("left", "disconnected", str(known.connection.peer), known.called)
        self._well.pop(known.connection.node.id, None)
        self._answered(known, passes, How.LEFT)

    def synced(self, known: Known, seconds: float) -> None:
        """A proxy has, for the first time since it connected so many seconds ago, all that it asked for."""
        detail: Json = {"seconds": {known.called: round(seconds, 4)}}
        self.note("synced", "has all that it asked for", "", known.called, detail)

    def health(self, known: Known, said: Health) -> None:
        """An agent has said how its application is; told where that is news."""
        node = known.connection.node.id
        if self._well.get(node) is not said.healthy:
            self._well[node] = said.healthy
            text = "healthy" if said.healthy else f"not healthy: {said.message}"[:500]
            self.note("health", text, proxy=known.called)

    def refused(self, known: Known, event: Nacked) -> None:
        """A proxy has refused a resource."""
        what = f"{event.type_url.rpartition('.')[2]} {event.name}"
        self.note("nack", event.message[:2000], what, known.called)
        for push in self._of(known.standing.passes):
            push.refusing.add(known.called)
            if len(push.refused) < _NAMED:
                push.refused[known.called] = f"{what}: {event.message}"[:500]

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
        groups: dict[tuple[str, str], int] = {}
        alike: dict[int, tuple[Changes, int]] = {}
        for view, proxies in told.items():
            group, changes = (view.type, view.namespace), made.changed[view]
            groups[group] = groups.get(group, 0) + proxies
            alike[id(changes)] = changes, alike.get(id(changes), _NONE)[1] + proxies
        resources: dict[str, int] = {}
        for changes, proxies in alike.values():
            for type_url, names in changes.items():
                resources[type_url] = resources.get(type_url, 0) + len(names) * proxies
        detail: Json = {
            "proxies": count,
            "groups": {" ".join(group): number for group, number in Counter(groups).most_common(_NAMED)},
            "resources": {type_url.rpartition(".")[2]: number for type_url, number in resources.items()},
        }
        push = Push(min(first, revision), revision, made.since, count, detail)
        if not count:
            self._done(push)
            return
        self._open[number] = push
        if len(self._open) > MAX_OPEN:
            oldest, given_up = self._open.popitem(last=False)
            self._give_up(oldest, given_up, "when newer ones came")

    def caught_up(self, known: Known, passes: Sequence[int]) -> None:
        """A proxy has everything of these passes."""
        self._answered(known, passes, _ACKNOWLEDGED)

    def _answered(self, known: Known, passes: Sequence[int], how: How) -> None:
        # Once for each proxy and push: this is what the record costs.
        now, name, opened = self._now(), known.called, self._open
        number = self.timeline.number(name)
        for at in passes:
            push = opened.get(at)
            if push is None:
                continue
            took = max(now - push.since, 0.0)
            if how is _ACKNOWLEDGED:
                push.answered += 1
                push.last = (name, took)
                said = How.REFUSED if push.refusing and name in push.refusing else how
            else:
                push.gone += 1
                said = how
            push.rows.append(answered(number, took, said))
            if push.answered + push.gone == push.told:
                del opened[at]
                self._done(push)

    def open_pushes(self) -> list[Push]:
        """Those that somebody has not answered."""
        return list(self._open.values())

    def _of(self, passes: Sequence[int]) -> list[Push]:
        return [self._open[number] for number in passes if number in self._open]

    def _remind(self) -> None:
        """Name those who do not answer a push for long, once."""
        now = self._now()
        for number, push in self._open.items():
            if push.late or now - push.since < _LATE_SECONDS:
                continue
            push.late = True
            names = self._silent(number)
            push.detail["late"] = names[:_NAMED]
            rows = self._silence(push, names)
            self._done(push, f"after {now - push.since:.0f} s, among them {', '.join(names[:3])}", rows)

    def _silent(self, number: int) -> list[str]:
        """The proxies that have not answered a push."""
        return sorted(one.called for one in self.connected() if number in one.standing.passes)

    def _silence(self, push: Push, names: Iterable[str]) -> array[int]:
        took = max(self._now() - push.since, 0.0)
        return array("Q", (answered(self.timeline.number(one), took, How.SILENT) for one in names))

    def _done(self, push: Push, unanswered: str = "", rows: array[int] | None = None) -> None:
        detail = {**push.detail, "acknowledged": push.answered - len(push.refusing), "left": push.gone}
        if push.refused:
            detail["refused"] = dict(push.refused)
        if push.last[0]:
            detail["last"] = {"proxy": push.last[0], "seconds": round(push.last[1], 4)}
        text = _sentence(push, unanswered)
        self.timeline.note(
            Happening(
                time.time(),
                "push",
                text,
                _revisions(push),
                "",
                push.first,
                push.revision,
                detail,
                rows=push.rows if rows is None else rows,
            )
        )

    def _give_up(self, number: int, push: Push, when: str) -> None:
        """Follow a push no longer that some proxies have not answered."""
        self._done(push, when, push.rows + self._silence(push, self._silent(number)))

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
    good = push.answered - len(push.refusing)
    out = f"{said}: acknowledged by {'all' if good == push.told else good}{took if good else ''}"
    if push.refused:
        name, why = next(iter(push.refused.items()))
        out += f"; refused by {len(push.refusing)}, {name}: {why[:200]}"
    return out + (f"; {push.gone} left before" if push.gone else "")


def _revisions(push: Push) -> str:
    return f"revision {push.revision}" if push.first == push.revision else f"revisions {push.first}-{push.revision}"
