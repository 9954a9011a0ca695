"""Gives the compiler the hosts that workloads are known to call, and widens that where a proxy asks for more."""

from __future__ import annotations

import logging
from collections.abc import Collection

from fairlead.controlplane.delivery import Delivery, view_of
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.traffic import MAX_SERVICES, Caller, TrafficLedger
from fairlead.envoy.resource import CLUSTER
from fairlead.ir.learned import EVERYTHING, LEARNED
from fairlead.model.ref import NamespacedName
from fairlead.xds.server import Connection

_log = logging.getLogger(__name__)


class Learning:
    """The rows of learned hosts: what the ledger of calls has, and what proxies have asked for.

    A row only grows as long as this process runs. A proxy asks once for a name and counts on it from then on, so
    nothing may be taken away while it is connected; when it connects anew it names again what it has asked for.
    """

    def __init__(self, feed: Feed, delivery: Delivery, ledger: TrafficLedger) -> None:
        self._feed = feed
        self._delivery = delivery
        self._ledger = ledger
        self._known: dict[NamespacedName, set[str]] = {}
        ledger.learned = self._called

    def start(self) -> None:
        """Put what is remembered; before proxies are served."""
        for one in self._ledger.workloads():
            self._called(one.caller, one.services)

    def asked(self, connection: Connection, names: tuple[str, ...]) -> None:
        """A proxy asks for clusters that it has not been given. What it may have is there when this returns."""
        view = view_of(connection.node)
        if view.on_demand in ("", "false") or not view.workload_name:
            return
        wanted = {host for name in names if (host := host_of(name))}
        if not wanted or not self._widen(NamespacedName(view.namespace, view.workload_name), wanted):
            return
        self._feed.flush()
        given = self._delivery.served(view).get(CLUSTER, {})
        for name in names:
            if name in given:
                _log.info("proxy %s has asked for %s", connection.node.id, name)
                self._ledger.ask(connection.node.id, host_of(name))

    def _called(self, caller: Caller, hosts: Collection[str]) -> None:
        self._widen(NamespacedName(caller.namespace, caller.workload), hosts)

    def _widen(self, workload: NamespacedName, hosts: Collection[str]) -> bool:
        known = self._known.setdefault(workload, set())
        if len(known) > MAX_SERVICES or known.issuperset(hosts):
            return False
        known.update(hosts)
        if len(known) > MAX_SERVICES:
            _log.warning("%s calls more than %d hosts: it is given all that it sees", workload, MAX_SERVICES)
        return self._feed.put(LEARNED, workload, EVERYTHING if len(known) > MAX_SERVICES else tuple(sorted(known)))


def host_of(cluster: str) -> str:
    """The host of an outbound cluster, by its name; "" if it is another cluster, or no host that could be called."""
    direction, _, rest = cluster.partition("|")
    host = rest.rpartition("|")[2]
    return host if direction == "outbound" and rest.count("|") == 2 and 0 < len(host) <= 253 else ""
