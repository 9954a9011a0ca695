"""Channels that are in step: where they stand is one object for all of them.

Thousands of proxies are told of the same change, sent the same bytes, and give the same answer. What a change makes
due, the response, and what is left when that is acknowledged are found out for the first of them; the others take the
step that was found. So a change costs each session the same few operations, however many names are in it.

A channel is in step when its client lacks nothing, and as long as it takes the same steps as others: who refuses, asks
for what others do not, or must be told that something has gone, goes on by itself (`Channel.leave`) and comes back when
it lacks nothing again (`Channel.join`). Who is slow stays in step, some steps behind.

Must not: be changed once it is made, but for what is worked out of it. A catalog may be another mapping for each
session; steps are taken together only where it has the same under the names in question.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple
from weakref import ref

from fairlead.envoy.resource import Resource
from fairlead.xds.flight import Flight, bases_of
from fairlead.xds.held import Before
from fairlead.xds.messages import NO_BASES, Acked, Event, Response, Shared

MUCH = 4 << 20
"""Bytes of resources; more are sent to each client by itself, in parts."""
_KEPT = 32
"""So many steps from one place are looked through for those that nobody has taken or stands on any more."""

_RECENT = 16

Named = Mapping[str, Resource]
_Key = int | tuple[int, tuple[str, ...], tuple[str, ...]]


class Plan(NamedTuple):
    """What is sent (None: nothing after all), and where a channel stands then."""

    response: Response | None
    after: Step


class _Due(NamedTuple):
    adds: tuple[Resource, ...]
    introduces: bool


class Course:
    """What steps of one type have in common: the type, whether clients take differences, and where all begin."""

    def __init__(self, type_url: str, nonce: Callable[[], str], *, patches: bool) -> None:
        self.type_url = type_url
        self.nonce = nonce
        self.patches = patches
        self.recent: deque[Step] = deque(maxlen=_RECENT)
        """Steps that each client takes and leaves at once, so that nobody stands there when the next one comes."""
        self.start = Step(self, {}, set(), set())
        """Where a client stands that lacks nothing."""
        self.parted: tuple[Before, tuple[str, ...] | None, tuple[str, ...]] = {}, None, ()
        """The last change, its names that were there before (None: all), and those that were not."""


class Together:
    """All sessions that may be in step with each other."""

    def __init__(self) -> None:
        self._courses: dict[tuple[str, bool], Course] = {}
        self._numbers = itertools.count(1)

    def start(self, type_url: str, *, patches: bool) -> Step:
        """Where a client stands that lacks nothing of a type."""
        course = self._courses.get((type_url, patches))
        if course is None:
            course = self._courses[type_url, patches] = Course(type_url, self._nonce, patches=patches)
        return course.start

    def _nonce(self) -> str:
        # No session counts like this, so none has the same for two responses.
        return f"all-{next(self._numbers)}"


class Step:
    """Where channels stand. Its sets and mappings belong to all of them: they are read, and never changed."""

    __slots__ = (
        "__weakref__",
        "_catalog",
        "_course",
        "_due",
        "_following",
        "_landed",
        "_now",
        "_of",
        "_plans",
        "behind",
        "dirty",
        "events",
        "flight",
        "force",
        "kept",
    )

    def __init__(
        self,
        course: Course,
        behind: dict[str, Resource | None],
        dirty: set[str],
        force: set[str],
        flight: Flight | None = None,
    ) -> None:
        self._course = course
        self.behind = behind
        """Names of which clients hold something else than the catalog has, with that (None: nothing)."""
        self.dirty = dirty
        """Names that may have to be sent."""
        self.force = force
        """Those of them that are sent although clients hold them."""
        self.flight = flight
        """The response that waits for its answer."""
        self.events: list[Event] = []
        """What its acknowledgement means."""
        self.kept = True
        """Whether all names that changed last were there before, and are there."""
        self._of: object = None
        """What led here. It is kept, so that its identity stands for nothing else."""
        self._catalog: Named | None = None
        self._now: tuple[tuple[str, Resource | None], ...] = ()
        """What the catalog had under the names in question when this step was found."""
        # Steps live as long as somebody stands on them, or on what leads to them.
        self._following: dict[_Key, ref[Step]] = {}
        self._due: _Due | None = None
        self._plans: dict[str, Plan] = {}
        self._landed: Step | None = None

    # Changes.

    def parted(self, before: Before) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
        """Which of the changed names were there before (None: all of them), and which were not."""
        course = self._course
        change, were, came = course.parted
        if change is not before:
            came = tuple([name for name, was in before.items() if was is None])
            were = tuple([name for name, was in before.items() if was is not None]) if came else None
            course.parted = before, were, came
        return were, came

    def moved(
        self, catalog: Named, before: Before, names: tuple[str, ...] | None = None, came: tuple[str, ...] = ()
    ) -> Step | None:
        """The catalog has changed, of which these names (None: all) are wanted; None if this client goes by itself.

        `came` are names that are there now, and that the client has not asked for.
        """
        key = id(before) if names is None else (id(before), names, came)
        found = self._found(key, before)
        if found is None:
            made = self._changed(catalog, before, tuple(before) if names is None else names, came)
            return self._remember(key, before, made)
        return found if found._alike(catalog) else None

    def _changed(self, catalog: Named, before: Before, names: tuple[str, ...], came: tuple[str, ...]) -> Step:
        behind = {**self.behind, **dict.fromkeys(came)}
        kept = True
        for name in names:
            target, was = catalog.get(name), before[name]
            kept = kept and target is not None and was is not None
            held = behind.get(name, was)
            if held == target:
                behind.pop(name, None)
            else:
                behind[name] = held
        made = Step(self._course, behind, self.dirty.union(names), self.force, self.flight)
        made.kept, made.events = kept, self.events
        return made._seen(catalog, (*names, *came))

    def resent(self, catalog: Named, names: Mapping[str, Resource] | tuple[str, ...]) -> Step | None:
        """These are to be sent, also where clients hold them; None if this client goes by itself."""
        found = self._found(id(names), names)
        if found is not None:
            return found if found._alike(catalog) else None
        made = Step(self._course, self.behind, self.dirty.union(names), self.force.union(names), self.flight)
        made.events = self.events
        self._course.recent.append(made)
        return self._remember(id(names), names, made._seen(catalog, tuple(names)))

    def _seen(self, catalog: Named, names: tuple[str, ...]) -> Step:
        self._catalog = catalog
        self._now = tuple([(name, catalog.get(name)) for name in names])
        return self

    def _alike(self, catalog: Named) -> bool:
        """Whether this catalog has what the one had with which this step was found."""
        return catalog is self._catalog or all(catalog.get(name) is now for name, now in self._now)

    def _found(self, key: _Key, of: object) -> Step | None:
        kept = self._following.get(key)
        found = kept() if kept is not None else None
        return found if found is not None and found._of is of else None

    def _remember(self, key: _Key, of: object, step: Step) -> Step:
        if len(self._following) >= _KEPT:
            self._following = {at: kept for at, kept in self._following.items() if kept() is not None}
        step._of = of
        self._following[key] = ref(step)
        return step

    # Responses.

    def introduces(self, catalog: Named) -> bool | None:
        """Whether resources that clients never had are due or in flight; None if this client goes by itself."""
        if self.flight is not None and self.flight.introduces:
            return True
        due = self._is_due(catalog)
        return None if due is None else due.introduces

    def _is_due(self, catalog: Named) -> _Due | None:
        """What is to be sent; None where something has gone, or there is very much: that is told to each by itself."""
        if self._due is None:
            adds: list[Resource] = []
            introduces = False
            for name in sorted(self.dirty):
                target = catalog.get(name)
                held = self.behind.get(name, target)
                if target is None:
                    if held is None and name not in self.force:
                        continue
                    return None
                if held is None or held.version != target.version or name in self.force:
                    adds.append(target)
                    introduces = introduces or held is None
            if sum([one.size for one in adds]) > MUCH:
                return None
            self._due = _Due(tuple(adds), introduces)
        return self._due

    def plan(self, catalog: Named, version: str) -> Plan | None:
        """What is sent next, as of a version of the catalog; None if this client goes by itself."""
        found = self._plans.get(version)
        if found is not None:
            return found
        due = self._is_due(catalog)
        if due is None:
            return None
        course = self._course
        if due.adds:
            nonce = course.nonce()
            sent = {resource.name: resource for resource in due.adds}
            held = {name: self.behind.get(name, one) for name, one in sent.items()}
            bases = bases_of(due.adds, held.get) if course.patches else NO_BASES
            response = Response(course.type_url, nonce, version, due.adds, (), bases, Shared())
            after = Step(
                course,
                self.behind,
                set(),
                self.force.difference(sent),
                Flight(nonce, version, sent, (), (), due.introduces),
            )
            after.events = [Acked(course.type_url, tuple([(name, one.version) for name, one in sent.items()]))]
            made = Plan(response, after)
        else:
            behind = {name: held for name, held in self.behind.items() if name not in self.dirty}
            made = Plan(None, Step(course, behind, set(), set()) if behind else course.start)
        self._plans[version] = made
        return made

    def landed(self, catalog: Named) -> Step:
        """The response in flight is acknowledged."""
        if self._landed is None:
            sent: Mapping[str, Resource] = {} if self.flight is None else self.flight.sent
            behind = {name: held for name, held in self.behind.items() if name not in sent}
            dirty = set(self.dirty)
            for name, resource in sent.items():
                now = catalog.get(name)
                if now is not resource:
                    dirty.add(name)
                    if now != resource:
                        behind[name] = resource
            lacking = behind or dirty or self.force
            self._landed = Step(self._course, behind, dirty, self.force) if lacking else self._course.start
        return self._landed
