"""What is known of connected proxies: health, refusals, and how far each is in sync."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, cast

from fairlead.compiler.model import MeshModel
from fairlead.controlplane.conditions import Outcome, set_condition
from fairlead.controlplane.delivery import Delivery, view_of
from fairlead.controlplane.programmed import Programmed
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from fairlead.model.ref import Ref
from fairlead.store.errors import StoreError
from fairlead.store.store import Store
from fairlead.xds.messages import Event, Health, Nacked
from fairlead.xds.server import Connection

_log = logging.getLogger(__name__)
_ENTRY_GROUP = "networking.istio.io"
_TITLES = {"CDS": CLUSTER, "LDS": LISTENER, "EDS": ENDPOINT, "RDS": ROUTE, "SDS": SECRET}


class Proxies:
    """The observer of all xDS streams."""

    def __init__(self, store: Store, model: MeshModel, delivery: Delivery, revision: str = "default") -> None:
        self._store = store
        self._revision = revision
        self._connections: dict[int, tuple[Connection, float]] = {}
        self._delivery = delivery
        self._answers = {"ack": 0, "nack": 0}
        self.programmed = Programmed(store, model, self._live)

    def connected(self, connection: Connection) -> None:
        """A proxy was admitted."""
        self._connections[connection.id] = (connection, time.time())
        _log.info("proxy %s connected as %s", connection.node.id, connection.peer)

    def disconnected(self, connection: Connection) -> None:
        """The stream has ended."""
        self._connections.pop(connection.id, None)
        self.programmed.left(connection)
        _log.info("proxy %s disconnected", connection.node.id)

    def events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Acknowledgements, refusals, health."""
        for event in events:
            if isinstance(event, Health):
                self._health(connection, event)
            elif isinstance(event, Nacked):
                kind = event.type_url.rpartition(".")[2]
                _log.warning("proxy %s refused %s %s: %s", connection.node.id, kind, event.name, event.message)
                self._answers["nack"] += 1
                self.programmed.refused(connection, event)
            else:
                self._answers["ack"] += 1
                self._delivery.feed.acknowledged()
                self.programmed.acknowledged(connection)

    def counters(self) -> dict[str, int]:
        """How many proxies are `connected`, and how many answers of each sort they have given."""
        return {"connected": len(self._connections), **self._answers}

    def listing(self) -> list[dict[str, Any]]:
        """Each proxy and how each type stands, JSON-shaped, in the order of names."""
        found = [self._describe(connection, since) for connection, since in self._connections.values()]
        return sorted(found, key=lambda one: (one["namespace"], one["name"]))

    def connection(self, name: str) -> Connection | None:
        """The proxy called `name.namespace`, or with this node id."""
        for connection, _ in self._connections.values():
            node = connection.node.id
            if name == node or name == node.split("~")[2]:
                return connection
        return None

    def catalog(self, connection: Connection) -> dict[str, dict[str, bytes]]:
        """What the control plane has for a proxy: serialised resources by type and name."""
        found = self._delivery.served(view_of(connection.node))
        return {type_url: {name: one.body for name, one in sorted(rows.items())} for type_url, rows in found.items()}

    def _live(self) -> list[Connection]:
        return [connection for connection, _ in self._connections.values()]

    def _describe(self, connection: Connection, since: float) -> dict[str, Any]:
        statuses = {one.type_url: one for one in connection.status()}
        kind, address, name, _ = (*connection.node.id.split("~"), "", "", "", "")[:4]
        types: dict[str, Any] = {}
        for title, type_url in _TITLES.items():
            one = statuses.get(type_url)
            if one is None:
                types[title] = {"state": "NOT SENT"}
                continue
            types[title] = {
                "state": str(one.state),
                "resources": one.acked_resources,
                "sent": one.sent,
                "acked": one.acked,
                "nacked": one.nacked,
                "lastAcked": one.last_acked,
                "behind": [
                    {"name": entry.name, "error": entry.nacked.message if entry.nacked else ""}
                    for entry in one.entries[:20]
                ],
            }
        held = self._delivery.held.get(view_of(connection.node))
        return {
            "name": name.partition(".")[0],
            "namespace": name.partition(".")[2] or connection.peer.namespace,
            "type": kind,
            "address": address,
            "identity": str(connection.peer),
            "version": connection.node.agent,
            "revision": self._revision,
            "held": held.reason if held is not None else "",
            "connectedSeconds": round(time.time() - since, 1),
            "types": types,
        }

    def _health(self, connection: Connection, event: Health) -> None:
        entry = str(connection.node.metadata.get("FAIRLEAD_ENTRY") or "")
        if not entry:
            return
        ref = Ref(_ENTRY_GROUP, "WorkloadEntry", connection.peer.namespace, entry)
        document = self._store.get(ref)
        if document is None:
            return
        spec = cast("dict[str, Any]", document.get("spec") or {})
        account = str(spec.get("serviceAccount") or "default")
        if account != connection.peer.service_account:
            _log.warning("%s may not report health of %s, which is of %s", connection.peer, ref, account)
            return
        reason = "HealthCheckSucceeded" if event.healthy else "HealthCheckFailed"
        try:
            set_condition(self._store, "Healthy", {ref: Outcome(event.healthy, reason, event.message[:1024])})
        except StoreError as error:
            _log.warning("the health of %s cannot be written: %s", ref, error)
