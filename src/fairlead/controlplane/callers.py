"""Who calls whom, as `diff` asks: the ledgers of calls and of plaintext, by the view of who is called.

Made where a question is answered (`aside`), from what is in memory.
"""

from __future__ import annotations

from fairlead.compiler.inboundports import inbound_ports
from fairlead.compiler.model import MeshModel
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.plaintext import PlaintextLedger
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.traffic import TrafficLedger
from fairlead.effect import Caller, Known
from fairlead.inc import Reader, rule
from fairlead.ir.view import View


@rule
def _served(r: Reader, view: View) -> tuple[tuple[int, str], ...]:
    """The ports of the application, and the hosts through which they are called."""
    return tuple((one.port, one.hostname) for one in inbound_ports(r, view))


class Callers:
    """What the ledgers know of the callers of a view's proxies."""

    def __init__(
        self,
        model: MeshModel,
        delivery: Delivery,
        proxies: Proxies,
        traffic: TrafficLedger,
        plaintext: PlaintextLedger,
    ) -> None:
        self._model = model
        self._delivery = delivery
        self._reporting = plaintext.reporting()
        identities: dict[tuple[str, str], set[str]] = {}
        for known in proxies.known():
            who = proxies.caller(known.connection.node.id)
            if who is not None:
                identities.setdefault((who.namespace, who.workload), set()).add(str(known.connection.peer))
        self._of_host: dict[str, set[Caller]] = {}
        for calls in traffic.workloads():
            who = calls.caller
            for host in calls.services:
                for identity in identities.get((who.namespace, who.workload), ()):
                    caller = Caller(f"{who.workload}.{who.namespace}", identity)
                    self._of_host.setdefault(host, set()).add(caller)
        self._plaintext: dict[str, dict[int, tuple[str, ...]]] = {}
        for entry in plaintext.entries():
            ports = self._plaintext.setdefault(f"{entry.workload}.{entry.namespace}", {})
            ports[entry.port] = tuple(one.address for one in entry.callers)

    def known(self, view: View) -> Known | None:
        """What is known of who calls the proxies of a view; None for gateways, which anybody may call."""
        if view.type != "sidecar":
            return None
        served = self._model.engine.call(_served, view)
        names = self._delivery.names(view)
        callers = {one for _, host in served for one in self._of_host.get(host, ())}
        plaintext: dict[int, set[str]] = {}
        for name in names:
            for port, addresses in self._plaintext.get(name, {}).items():
                plaintext.setdefault(port, set()).update(addresses)
        return Known(
            tuple(sorted(callers)),
            tuple((port, tuple(sorted(found))) for port, found in sorted(plaintext.items())),
            all(name in self._reporting for name in names),
            tuple(sorted({port for port, _ in served})),
        )
