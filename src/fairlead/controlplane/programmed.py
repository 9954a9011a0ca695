"""Says `Programmed` on policies, and says it only when the proxies have said so.

An edit causes a pass, and the pass changes resources of views. The objects of the pass are programmed when every proxy
that was connected then has acknowledged, of these resources, the newest version. Objects that one pass took together
wait for each other: that may be late, but it is never early. A resource that a proxy refuses counts against the objects
behind it: those that were just edited, else the one that was edited last. They stay marked until the proxy accepts.

Outcomes are gathered and written in one commit, a moment after the last news; writing a status is no edit, so nothing
comes of it. A proxy that connects later gets everything anew and is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, cast

import msgspec

from fairlead.compiler.credentials import secret_keys
from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.controlplane.conditions import Outcome, condition_of, set_condition
from fairlead.controlplane.feed import Pass
from fairlead.envoy.names import CA_SUFFIX
from fairlead.envoy.resource import CLUSTER, LISTENER, SECRET
from fairlead.ir.credential import resource_name
from fairlead.ir.view import View
from fairlead.model.ref import Ref
from fairlead.store.errors import StoreError
from fairlead.store.store import Store
from fairlead.xds.messages import Nacked
from fairlead.xds.server import Connection

_log = logging.getLogger(__name__)
CONDITION = "Programmed"
_GROUPS = ("networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io")
_NO_POLICY = ("WorkloadEntry", "WorkloadGroup", "ProxyConfig")
_PAUSE = 0.25
_ALL_PAUSE, _ALL = 2.0, "all"
"""Seconds between news and the writing of what follows from it."""
_AFTER_START = 10.0
"""Seconds in which proxies come back to a control plane that was started anew."""
_ABSENT = 60.0
"""Seconds for which a proxy's refusal stands after it has gone."""
_MANY_WAVES = 16
_NO_NAMES: set[str] = set()
_NONE: dict[str, set[str]] = {}
_SHARE = 19
"""So many times as long as the last look took, no other is made: looks have at most a twentieth of the processor."""


def is_policy(ref: Ref) -> bool:
    """Whether an object of this kind carries the condition."""
    return ref.group in _GROUPS and ref.kind not in _NO_POLICY


class _State(Enum):
    OK = 0
    PENDING = 1
    REFUSED = 2
    UNASKED = 3


class _Wave:
    """Edits that went through one pass, and who has not acknowledged all of it yet."""

    def __init__(self, refs: dict[Ref, int], names: dict[View, dict[str, set[str]]] | None) -> None:
        self.refs = refs
        self.names = names
        """None stands for everything that a proxy has."""
        self.waiting: dict[int, None] = {}
        self.concerned = 0


class _Look:
    """One look at a proxy: what it lacks is found out once for all waves.

    `together` has what was found out in this round of looks of proxies that stand in one place: whether they have all
    that a description names, by the identities of the place and the description.
    """

    def __init__(
        self,
        connection: Connection,
        view: View,
        catalog: Mapping[str, Mapping[str, Any]],
        together: dict[tuple[tuple[int, ...], int], bool],
    ) -> None:
        self.connection = connection
        self.view = view
        self.together = together
        self.known: dict[tuple[str, str], bool] = {}
        """Of resources that were looked at, whether the proxy has them."""
        self._told = connection.session.follows(catalog)
        """Where a push is held the session does not know what there is."""
        self.has_everything = self._told and connection.session.settled
        self.place = connection.session.place() if self._told and not self.has_everything else None
        """Where the proxy stands together with others; None if it is to be looked at by itself."""
        self._open: dict[str, set[str]] = {}

    def suspects(self, kind: str, names: set[str]) -> set[str]:
        """Those of the names that the proxy may lack: what its session has yet to send or to hear of."""
        if not self._told:
            return names
        if kind not in self._open:
            self._open[kind] = set(self.connection.session.unanswered(kind))
        return names & self._open[kind]


class _Blame(msgspec.Struct):
    """A refused resource, whose fault it is, and the loop's time since when its proxy is away."""

    refs: tuple[Ref, ...]
    said: str
    away_since: float | None = None


class Programmed:
    """Follows passes, acknowledgements and refusals. Lives on the event loop."""

    def __init__(
        self,
        store: Store,
        model: MeshModel,
        connections: Callable[[], Iterable[Connection]],
        view: Callable[[Connection], View],
    ) -> None:
        self._store = store
        self._model = model
        self._connections = connections
        self._view = view
        self._waves: list[_Wave] = []
        self._blames: dict[tuple[str, str, str], _Blame] = {}
        self._outcomes: dict[Ref, Outcome] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._took = 0.0
        """Seconds of processor time that the last look took."""
        self._news: dict[int, Connection] = {}
        """Connections that have said something since the last look, or are new to a wave."""

    def start(self) -> None:
        """Begin, on the running loop. What was not programmed when the last control plane ended is looked at later."""
        self._loop = asyncio.get_running_loop()
        self._timers["start"] = self._loop.call_later(_AFTER_START, self._catch_up)

    def stop(self) -> None:
        """Write nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._loop = None

    # News

    def passed(self, made: Pass) -> None:
        """Edits went through a pass."""
        refs = {ref: generation for ref, generation in made.edited.items() if generation and is_policy(ref)}
        for ref in made.edited:
            self._outcomes.pop(ref, None)
            for wave in self._waves:
                wave.refs.pop(ref, None)
        if refs:
            # Views that share what changed share one description of it.
            same: dict[int, dict[str, set[str]]] = {}
            names: dict[View, dict[str, set[str]]] = {}
            for view, found in made.changed.items():
                if id(found) not in same:
                    same[id(found)] = {kind: set(rows) for kind, rows in found.items()}
                names[view] = same[id(found)]
            self._add(_Wave(refs, names))
        elif made.changed and (self._waves or self._blames):
            # Perhaps something is wanted no longer.
            self._settle_in(_ALL_PAUSE, _ALL)

    def acknowledged(self, connection: Connection) -> None:
        """A proxy has acknowledged something."""
        if self._waves or self._blames or self._outcomes:
            self._news[connection.id] = connection
            self._settle_in(_PAUSE)

    def left(self, connection: Connection) -> None:
        """A proxy has gone."""
        self._news.pop(connection.id, None)
        for wave in self._waves:
            wave.waiting.pop(connection.id, None)
        blames = [blame for key, blame in self._blames.items() if key[0] == connection.node.id]
        if blames and self._loop is not None:
            for blame in blames:
                blame.away_since = self._loop.time()
            # One timer for each proxy that leaves: whoever leaves later is looked at later.
            self._settle_in(_ABSENT + _PAUSE, f"absent {connection.node.id}")
        if self._waves or self._blames or self._outcomes:
            self._settle_in(_PAUSE)

    def refused(self, connection: Connection, event: Nacked) -> None:
        """A proxy has refused a resource."""
        key = (connection.node.id, event.type_url, event.name)
        before = self._blames.get(key)
        found = self._suspects(connection, event)
        refs = dict.fromkeys((*(before.refs if before else ()), *found))
        kind = event.type_url.rpartition(".")[2]
        self._blames[key] = _Blame(
            tuple(refs), f"{connection.node.called} refused {kind} {event.name}: {event.message}"
        )
        self._settle_in(_PAUSE)

    # Who is to blame

    def blamed(self, node: str, type_url: str, name: str) -> tuple[Ref, ...]:
        """The objects that carry the blame for what a proxy (its node id) refuses; none if it refuses nothing."""
        found = self._blames.get((node, type_url, name))
        return found.refs if found is not None else ()

    def _suspects(self, connection: Connection, event: Nacked) -> list[Ref]:
        view = self._view(connection)
        behind = self._behind(view, event)
        edited = {
            ref
            for wave in self._waves
            if wave.names is not None and event.name in wave.names.get(view, {}).get(event.type_url, ())
            for ref in wave.refs
            if ref in behind
        }
        if edited:
            return sorted(edited)
        # What the proxy ran before was fine, so the culprit is among what was edited last.
        at = {ref: self._edited_at(ref) for ref in behind}
        newest = max(at.values(), default=0)
        return [ref for ref, revision in at.items() if revision == newest]

    def _behind(self, view: View, event: Nacked) -> list[Ref]:
        """The policies on which a refused resource depends."""
        if event.type_url == SECRET:
            # Secrets have no status: it is said on the Gateways that name it.
            name = event.name.removesuffix(CA_SUFFIX)
            inputs = (key for _, key in self._model.engine.why(secret_keys, view))
            return [ref for ref in inputs if isinstance(ref, Ref) and is_policy(ref) and self._names(ref, name)]
        found = self._model.publisher.origins(view, event.type_url, event.name)
        return [ref for ref in found if isinstance(ref, Ref) and is_policy(ref)]

    def _names(self, ref: Ref, credential: str) -> bool:
        document = self._store.get(ref) or {}
        return credential in {resource_name(one).removesuffix(CA_SUFFIX) for one in _credentials(document.get("spec"))}

    def _edited_at(self, ref: Ref) -> int:
        """The revision at which an object's spec last changed (status writes do not count)."""
        at, generation = 0, None
        for version in self._store.history(ref):
            if version.document is not None and version.document["metadata"].get("generation") != generation:
                generation, at = version.document["metadata"].get("generation"), version.revision
        return at

    # What follows

    def _add(self, wave: _Wave) -> None:
        names = wave.names
        for connection in self._connections():
            if names is None or self._view(connection) in names:
                wave.waiting[connection.id] = None
                self._news[connection.id] = connection
        wave.concerned = len(wave.waiting)
        if len(self._waves) >= _MANY_WAVES:
            # A proxy is slow: what came last waits together, so that this stays small.
            self._merge(self._waves[-1], wave)
        else:
            self._waves.append(wave)
        self._settle_in(_PAUSE)

    @staticmethod
    def _merge(into: _Wave, wave: _Wave) -> None:
        into.refs.update(wave.refs)
        into.waiting.update(wave.waiting)
        into.concerned = max(into.concerned, wave.concerned)
        if into.names is None or wave.names is None:
            into.names = None
            return
        # Views share descriptions, and go on sharing them.
        joined: dict[tuple[int, int], dict[str, set[str]]] = {}
        for view, found in wave.names.items():
            had = into.names.get(view, _NONE)
            key = id(had), id(found)
            if key not in joined:
                kinds = {**had, **found}
                joined[key] = {kind: had.get(kind, _NO_NAMES) | found.get(kind, _NO_NAMES) for kind in kinds}
            into.names[view] = joined[key]

    def _catch_up(self) -> None:
        """After a start: whatever does not say that it is programmed waits for all that every proxy has."""
        refs: dict[Ref, int] = {}
        for kind in self._model.kinds.kinds:
            if not is_policy(kind.ref("", "")):
                continue
            for document in self._store.list(kind.group, kind.kind):
                meta = document["metadata"]
                generation = int(meta.get("generation") or 1)
                said = condition_of(document, CONDITION) or {}
                if said.get("status") != "True" or said.get("observedGeneration") != generation:
                    refs[kind.ref(meta.get("namespace", ""), meta["name"])] = generation
        pending = {ref for wave in self._waves for ref in wave.refs}
        refs = {ref: generation for ref, generation in refs.items() if ref not in pending}
        if refs:
            self._add(_Wave(refs, None))

    def _settle_in(self, seconds: float, name: str = "settle") -> None:
        if self._loop is not None and name not in self._timers:
            self._timers[name] = self._loop.call_later(max(seconds, self._took * _SHARE), self._settle, name)

    def _settle(self, name: str) -> None:
        self._timers.pop(name, None)
        begun = time.thread_time()
        self._look(name)
        self._took = time.thread_time() - begun

    def _look(self, name: str) -> None:
        if self._blames:
            self._forgive({connection.node.id: connection for connection in self._connections()})
        blamed = self._accuse()
        if name == _ALL:
            self._news = {connection.id: connection for connection in self._connections()}
        news, self._news = self._news, {}
        together: dict[tuple[tuple[int, ...], int], bool] = {}
        for at, connection in news.items():
            waves = [wave for wave in self._waves if at in wave.waiting]
            if not waves:
                continue
            # Waves of one resource come one after the other while it changes: it is looked at once.
            view = self._view(connection)
            look = _Look(connection, view, self._model.publisher.catalog(view), together)
            for wave in waves:
                if look.has_everything or self._has(wave, look):
                    del wave.waiting[at]
        for wave in list(self._waves):
            if not wave.waiting:
                self._waves.remove(wave)
                said = "" if wave.concerned else "no connected proxy is concerned"
                for ref, generation in wave.refs.items():
                    if ref not in blamed:
                        self._outcomes[ref] = self._accepted(ref, said, generation)
        self._write()

    def _accepted(self, ref: Ref, said: str, generation: int) -> Outcome:
        """What is said of an object against which no proxy has anything."""
        obj = self._model.engine.get(OBJECTS, ref)
        unseen = self._model.unseen(ref, obj.meta.labels) if obj is not None else None
        if unseen is not None:
            return Outcome(False, "NotLookedAt", unseen.message, generation)
        return Outcome(True, "AcceptedByProxies", said, generation)

    def _write(self) -> None:
        outcomes, self._outcomes = self._outcomes, {}
        try:
            set_condition(self._store, CONDITION, outcomes)
        except StoreError as error:
            _log.warning("conditions cannot be written, and will be later: %s", error)
            self._outcomes = {**outcomes, **self._outcomes}
            self._settle_in(20 * _PAUSE)

    def _forgive(self, live: Mapping[str, Connection]) -> None:
        """Drop refusals that no longer stand; objects that nobody blames any more are programmed."""
        if self._loop is None:
            return
        free: set[Ref] = set()
        for key, blame in list(self._blames.items()):
            connection = live.get(key[0])
            if connection is None:
                blame.away_since = blame.away_since or self._loop.time()
                over = self._loop.time() - blame.away_since >= _ABSENT
            else:
                blame.away_since = None
                state = self._state(connection, self._view(connection), key[1], key[2])
                over = state is _State.OK or (state is _State.UNASKED and self._in_sync(connection))
            if over:
                del self._blames[key]
                free.update(blame.refs)
        free.difference_update(*(blame.refs for blame in self._blames.values()))
        free.difference_update(*(wave.refs for wave in self._waves))
        for ref in free:
            self._outcomes[ref] = Outcome(True, "AcceptedByProxies")

    def _accuse(self) -> set[Ref]:
        found: dict[Ref, list[str]] = {}
        for _, blame in sorted(self._blames.items()):
            for ref in blame.refs:
                found.setdefault(ref, []).append(blame.said)
        for ref, said in found.items():
            more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
            self._outcomes[ref] = Outcome(False, "RefusedByProxy", f"{said[0][:1900]}{more}")
        return set(found)

    # How a proxy stands

    def _has(self, wave: _Wave, look: _Look) -> bool:
        """Whether a proxy has all of a wave."""
        if wave.names is None:
            return self._in_sync(look.connection)
        said = wave.names.get(look.view)
        if said is None:
            return True
        if look.place is None:
            return self._has_all(look, said)
        key = look.place, id(said)
        has = look.together.get(key)
        if has is None:
            has = look.together[key] = self._has_all(look, said)
        return has

    def _has_all(self, look: _Look, said: dict[str, set[str]]) -> bool:
        for kind, names in said.items():
            for name in look.suspects(kind, names):
                has = look.known.get((kind, name))
                if has is None:
                    state = self._state(look.connection, look.view, kind, name)
                    has = look.known[kind, name] = state is not _State.PENDING
                if not has:
                    return False
        return True

    @staticmethod
    def _in_sync(connection: Connection) -> bool:
        return connection.session.settled

    def _state(self, connection: Connection, view: View, kind: str, name: str) -> _State:
        """How a proxy stands with a resource. It is compared with the newest there is, also where a push is held."""
        ledger = connection.session.ledger(kind)
        target = self._model.publisher.catalog(view).get(kind, {}).get(name)
        if ledger is None:
            return _State.UNASKED
        entry = ledger.entry(name)
        if target is None:
            return _State.PENDING if entry.acked or name in ledger.flight else _State.OK
        if entry.acked == target.version:
            return _State.OK
        if entry.nacked is not None and entry.nacked.version == target.version:
            return _State.REFUSED
        # Clusters and listeners are always wanted; of the rest, what was never sent was not asked for.
        wanted = kind in (CLUSTER, LISTENER) or entry.acked or name in ledger.flight or entry.nacked is not None
        return _State.PENDING if wanted else _State.UNASKED


def _credentials(said: object) -> Iterator[str]:
    """The credentials that a document names, wherever in it."""
    if isinstance(said, list):
        for one in cast("list[object]", said):
            yield from _credentials(one)
    elif isinstance(said, dict):
        for name, value in cast("dict[str, object]", said).items():
            if name in ("credentialName", "caCertCredentialName", "credentialNames"):
                listed = cast("list[object]", value) if isinstance(value, list) else [value]
                yield from (one for one in listed if isinstance(one, str))
            else:
                yield from _credentials(value)
