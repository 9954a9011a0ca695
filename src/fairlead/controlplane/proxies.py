"""What is known of connected proxies: health, refusals, and how far each is in sync."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import msgspec

from fairlead.compiler.model import MeshModel
from fairlead.controlplane.conditions import Outcome, set_condition
from fairlead.controlplane.delivery import Delivery, view_of
from fairlead.controlplane.enrolment import Enrolment
from fairlead.controlplane.feed import Pass
from fairlead.controlplane.programmed import Programmed
from fairlead.controlplane.progress import Progress, Standing
from fairlead.controlplane.proxylist import Asked, Counts, Known, chosen, counts, described
from fairlead.controlplane.traffic import Caller
from fairlead.envoy.resource import CLUSTER
from fairlead.inc.few import Few, joined, parted
from fairlead.ir.view import View
from fairlead.model.names import meant
from fairlead.model.ref import Ref
from fairlead.store.errors import StoreError
from fairlead.store.store import Store
from fairlead.xds.messages import Acked, Event, Health, Lacking, Nacked
from fairlead.xds.server import Connection

_log = logging.getLogger(__name__)
_ENTRY_GROUP = "networking.istio.io"


class Follower(Protocol):
    """Who keeps a record of proxies (`chronicle.Chronicle`)."""

    def joined(self, known: Known) -> None:
        """A proxy has connected."""
        ...

    def gone(self, known: Known, passes: Sequence[int]) -> None:
        """A proxy has disconnected, and owed answers to these passes."""
        ...

    def pushed(self, made: Pass, number: int, told: Mapping[View, int]) -> None:
        """A pass gave proxies something new."""
        ...

    def caught_up(self, known: Known, passes: Sequence[int]) -> None:
        """A proxy has all of these passes."""
        ...

    def synced(self, known: Known, seconds: float) -> None:
        """A proxy has all that it asked for, for the first time since it connected so many seconds ago."""
        ...

    def refused(self, known: Known, event: Nacked) -> None:
        """A proxy has refused a resource."""
        ...

    def health(self, known: Known, said: Health) -> None:
        """An agent has said how its application is."""
        ...


class Proxies:
    """The observer of all xDS streams."""

    def __init__(self, store: Store, model: MeshModel, delivery: Delivery, revision: str = "default") -> None:
        self._store = store
        self._revision = revision
        self._known: dict[int, Known] = {}
        self._of_view: dict[View, Few[Known]] = {}
        self._of_node: dict[str, Known] = {}
        self._delivery = delivery
        self._answers = {"ack": 0, "nack": 0}
        self.progress = Progress(delivery.feed.stages, time.monotonic)
        self.asked: Callable[[Connection, tuple[str, ...]], None] = lambda _connection, _names: None
        """Told of clusters that a proxy asks for by name and has not been given; called before it is answered."""
        self.follower: Follower | None = None
        """Told of everything that happens to proxies, for the record."""
        self.enrolment = Enrolment(store, model.kinds)
        self.programmed = Programmed(store, model, self._live, self._view)

    def connected(self, connection: Connection) -> None:
        """A proxy was admitted."""
        known = self._known[connection.id] = Known(connection, self._delivery.view_of(connection.node))
        self._of_view[known.view] = joined(self._of_view.get(known.view, ()), known)
        self._of_node[connection.node.id] = known
        self.progress.began(known.standing)
        self.enrolment.joined(connection)
        if self.follower is not None:
            self.follower.joined(known)
        _log.info("proxy %s connected as %s", connection.node.id, connection.peer)

    def disconnected(self, connection: Connection) -> None:
        """The stream has ended."""
        known = self._known.pop(connection.id, None)
        if known is not None:
            members = parted(self._of_view[known.view], known)
            if self._of_node.get(connection.node.id) is known:
                del self._of_node[connection.node.id]
            if members:
                self._of_view[known.view] = members
            else:
                del self._of_view[known.view]
            if self.follower is not None:
                self.follower.gone(known, known.standing.passes)
            self.progress.left(known.standing)
        self.programmed.left(connection)
        self.enrolment.left(connection)
        _log.info("proxy %s disconnected", connection.node.id)

    def passed(self, made: Pass) -> None:
        """A pass is over, and streams have been told: who must now be sent something."""
        for_all: list[Standing] = []
        told: dict[View, int] = {}
        held = self._delivery.held
        for view in made.changed:
            members = self._of_view.get(view)
            if members is None or view in held:
                continue
            behind = [one.standing for one in members if not one.connection.session.settled]
            if behind:
                for_all += behind
                told[view] = len(behind)
        number = self.progress.changed(made.since, for_all)
        if self.follower is not None:
            self.follower.pushed(made, number, told)

    def settled(self, connection: Connection) -> None:
        """A proxy has everything that it asked for so far."""
        known = self._known.get(connection.id)
        if known is None or known.standing.behind_since is None:
            return
        standing, follower = known.standing, self.follower
        if follower is not None and standing.passes:
            follower.caught_up(known, standing.passes)
        first = standing.last_seconds is None
        self.progress.caught_up(standing)
        if first and follower is not None and standing.last_seconds is not None:
            follower.synced(known, standing.last_seconds)

    def events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Acknowledgements, refusals, health."""
        for event in events:
            if isinstance(event, Acked):
                # Nearly all that is ever said.
                known = self._known.get(connection.id)
                if known is not None:
                    known.standing.answered = True
                self._answers["ack"] += 1
                self.programmed.acknowledged(connection)
                continue
            if isinstance(event, Health):
                self._health(connection, event)
                if self.follower is not None and connection.id in self._known:
                    self.follower.health(self._known[connection.id], event)
                continue
            if isinstance(event, Lacking):
                if event.type_url == CLUSTER:
                    self.asked(connection, event.names)
                continue
            known = self._known.get(connection.id)
            if known is not None:
                self.progress.answered(known.standing)
            kind = event.type_url.rpartition(".")[2]
            _log.warning("proxy %s refused %s %s: %s", connection.node.id, kind, event.name, event.message)
            self._answers["nack"] += 1
            if self.follower is not None and known is not None:
                self.follower.refused(known, event)
            self.programmed.refused(connection, event)

    def answers(self) -> dict[str, int]:
        """How many answers of each sort proxies have given."""
        return dict(self._answers)

    def counts(self) -> Counts:
        """How many proxies there are, and how they stand."""
        return counts(self._known.values(), self._delivery.held)

    def page(self, wanted: Asked) -> dict[str, Any]:
        """The proxies that are asked for and counts of all, JSON-shaped."""
        held = self._delivery.held
        page, after = chosen(self._known.values(), held, wanted)
        now = self.progress.clock()
        found = [
            described(
                one,
                now,
                held[one.view].reason if held and one.view in held else "",
                self._revision,
                brief=wanted.brief and not wanted.slow,
            )
            for one in page
        ]
        return {**msgspec.to_builtins(self.counts()), "continue": after, "proxies": found}

    def connections(self) -> list[Connection]:
        """The proxies that are connected."""
        return self._live()

    def known(self) -> Iterable[Known]:
        """The proxies that are connected, each with its view."""
        return self._known.values()

    def nodes(self) -> list[str]:
        """The node ids of connected proxies."""
        return [known.connection.node.id for known in self._known.values()]

    def caller(self, node: str) -> Caller | None:
        """The workload of a connected sidecar's node id; None for gateways and for who is not connected."""
        known = self._of_node.get(node)
        if known is None or not node.startswith("sidecar~"):
            return None
        return _caller(known)

    def visible(self) -> dict[str, frozenset[str]]:
        """The hosts that each connected workload (NAMESPACE/NAME) has clusters for. Equal ones share a set."""
        found: dict[str, frozenset[str]] = {}
        sets: dict[int, frozenset[str]] = {}
        for known in self._known.values():
            caller = _caller(known)
            key = f"{caller.namespace}/{caller.workload}"
            if key in found:
                continue
            rows = self._delivery.served(known.view).get(CLUSTER, {})
            if id(rows) not in sets:
                sets[id(rows)] = frozenset(name.split("|")[3] for name in rows if name.startswith("outbound|"))
            found[key] = sets[id(rows)]
        return found

    def connection(self, name: str) -> Connection | None:
        """The proxy called `name.namespace`, or with this node id."""
        for known in self._known.values():
            node = known.connection.node
            if name in (node.id, node.called):
                return known.connection
        return None

    def missing(self, name: str) -> str:
        """That no such proxy is connected, and which one was probably meant."""
        near = meant(name, (one.called for one in self._known.values()))
        return f"no proxy {name!r} is connected{near or '; `fairlead proxy-status` lists those that are'}"

    def catalog(self, connection: Connection) -> dict[str, dict[str, bytes]]:
        """What the control plane has for a proxy: serialised resources by type and name."""
        found = self._delivery.served(self._view(connection))
        return {type_url: {name: one.body for name, one in sorted(rows.items())} for type_url, rows in found.items()}

    def _view(self, connection: Connection) -> View:
        known = self._known.get(connection.id)
        return known.view if known is not None else view_of(connection.node)

    def _live(self) -> list[Connection]:
        return [known.connection for known in self._known.values()]

    def _health(self, connection: Connection, event: Health) -> None:
        reason = "HealthCheckSucceeded" if event.healthy else "HealthCheckFailed"
        outcome = Outcome(event.healthy, reason, event.message[:1024])
        self.enrolment.heard(connection, outcome)
        entry = str(connection.node.metadata.get("FAIRLEAD_ENTRY") or "")
        ref = self.enrolment.entry_of(connection)
        if ref is None and not entry:
            return
        ref = ref or Ref(_ENTRY_GROUP, "WorkloadEntry", connection.peer.namespace, entry)
        document = self._store.get(ref)
        if document is None:
            return
        spec = cast("dict[str, Any]", document.get("spec") or {})
        account = str(spec.get("serviceAccount") or "default")
        if account != connection.peer.service_account:
            _log.warning("%s may not report health of %s, which is of %s", connection.peer, ref, account)
            return
        try:
            set_condition(self._store, "Healthy", {ref: outcome})
        except StoreError as error:
            _log.warning("the health of %s cannot be written: %s", ref, error)


_PASSING_LABELS = frozenset(
    (
        "pod-template-hash",
        "controller-revision-hash",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    )
)
"""Labels that name one replica or one roll-out, not the workload."""


def _caller(known: Known) -> Caller:
    metadata = known.connection.node.metadata
    said: object = metadata.get("LABELS")
    labels = cast("dict[object, object]", said) if isinstance(said, dict) else {}
    kept = {str(key): str(value) for key, value in sorted(labels.items(), key=str) if key not in _PASSING_LABELS}
    return Caller(known.namespace, str(metadata.get("WORKLOAD_NAME") or known.name), kept)
