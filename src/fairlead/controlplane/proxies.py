"""What is known of connected proxies: health, refusals, and how far each is in sync."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, cast

from fairlead.compiler.publish import Publisher
from fairlead.controlplane.conditions import set_condition
from fairlead.controlplane.delivery import view_of
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from fairlead.model.ref import Ref
from fairlead.store.store import Store
from fairlead.xds.messages import Acked, Event, Health, Nacked
from fairlead.xds.server import Connection

_log = logging.getLogger(__name__)
_ENTRY_GROUP = "networking.istio.io"
_POLICY_GROUPS = ("networking.istio.io", "security.istio.io", "fairlead.dev")
_TITLES = {"CDS": CLUSTER, "LDS": LISTENER, "EDS": ENDPOINT, "RDS": ROUTE, "SDS": SECRET}


class Proxies:
    """The observer of all xDS streams."""

    def __init__(self, store: Store, publisher: Publisher, revision: str = "default") -> None:
        self._store = store
        self._publisher = publisher
        self._revision = revision
        self._connections: dict[int, tuple[Connection, float]] = {}
        self._blamed: dict[tuple[int, str, str], tuple[Ref, ...]] = {}

    def connected(self, connection: Connection) -> None:
        """A proxy was admitted."""
        self._connections[connection.id] = (connection, time.time())
        _log.info("proxy %s connected as %s", connection.node.id, connection.peer)

    def disconnected(self, connection: Connection) -> None:
        """The stream has ended: what it refused is no longer known to be refused by anyone here."""
        self._connections.pop(connection.id, None)
        for key in [key for key in self._blamed if key[0] == connection.id]:
            self._forgive(key)
        _log.info("proxy %s disconnected", connection.node.id)

    def events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Acknowledgements, refusals, health."""
        for event in events:
            if isinstance(event, Health):
                self._health(connection, event)
            elif isinstance(event, Nacked):
                self._refused(connection, event)
            else:
                self._accepted(connection, event)

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
        found = self._publisher.catalog(view_of(connection.node))
        return {type_url: {name: one.body for name, one in sorted(rows.items())} for type_url, rows in found.items()}

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
        return {
            "name": name.partition(".")[0],
            "namespace": name.partition(".")[2] or connection.peer.namespace,
            "type": kind,
            "address": address,
            "identity": str(connection.peer),
            "version": connection.node.agent,
            "revision": self._revision,
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
        set_condition(self._store, ref, "Healthy", event.healthy, reason, event.message[:1024])

    def _refused(self, connection: Connection, event: Nacked) -> None:
        _log.warning(
            "proxy %s refused %s %s: %s",
            connection.node.id,
            event.type_url.rpartition(".")[2],
            event.name,
            event.message,
        )
        key = (connection.id, event.type_url, event.name)
        found = tuple(self._sources(connection, event))
        self._blamed[key] = found
        said = f"refused by {connection.node.id.split('~')[2]}: {event.message}"[:2048]
        for ref in found:
            set_condition(self._store, ref, "Programmed", False, "RefusedByProxy", said)

    def _accepted(self, connection: Connection, event: Acked) -> None:
        for name in (*(name for name, _ in event.resources), *event.removed):
            self._forgive((connection.id, event.type_url, name))

    def _forgive(self, key: tuple[int, str, str]) -> None:
        for ref in self._blamed.pop(key, ()):
            if not any(ref in refs for refs in self._blamed.values()):
                set_condition(self._store, ref, "Programmed", True, "AcceptedByProxies", "")

    def _sources(self, connection: Connection, event: Nacked) -> list[Ref]:
        """The policies behind a refused resource: of those that it depends on, the ones that changed last.

        What the proxy ran before was fine, so the culprit is among what is newer than everything else.
        """
        refs = [
            ref
            for ref in self._publisher.origins(view_of(connection.node), event.type_url, event.name)
            if isinstance(ref, Ref) and ref.group in _POLICY_GROUPS and ref.kind != "WorkloadEntry"
        ]
        versions: dict[Ref, int] = {}
        for ref in refs:
            document = self._store.get(ref)
            if document is not None and _is_configuration(document):
                versions[ref] = _changed_at(self._store, ref)
        newest = max(versions.values(), default=0)
        return [ref for ref, revision in versions.items() if revision == newest]


def _is_configuration(document: dict[str, Any]) -> bool:
    return "spec" in document


def _changed_at(store: Store, ref: Ref) -> int:
    """The revision at which an object's spec last changed (status writes do not count)."""
    versions = store.history(ref)
    at = 0
    generation = None
    for version in versions:
        if version.document is None:
            continue
        found = version.document["metadata"].get("generation")
        if found != generation:
            generation, at = found, version.revision
    return at
