"""Which ports take plaintext, who still uses that, and which could be made STRICT: for `fairlead mtls`."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.compiler.inboundports import inbound_ports
from fairlead.compiler.model import MeshModel
from fairlead.compiler.mtls import workload_mtls
from fairlead.controlplane.delivery import view_of
from fairlead.controlplane.plaintext import Entry, PlaintextLedger, Seen
from fairlead.controlplane.proxies import Proxies
from fairlead.inc import Reader, rule
from fairlead.ir.view import View
from fairlead.store.transaction import timestamp


class _Ports(msgspec.Struct, frozen=True):
    served: tuple[int, ...]
    modes: tuple[tuple[int, str], ...]
    general: str


@rule
def _ports(r: Reader, view: View) -> _Ports:
    mtls = workload_mtls(r, (view.namespace, view.labels))
    served = tuple(one.port for one in inbound_ports(r, view))
    return _Ports(served, tuple((number, mtls.on(number)) for number in served), mtls.mode)


def mtls_report(model: MeshModel, proxies: Proxies, ledger: PlaintextLedger, workload: str = "") -> dict[str, Any]:
    """One row for each port of each connected sidecar (of WORKLOAD: NAME or NAME.NAMESPACE), JSON-shaped.

    `ready` of a port: it takes plaintext, its agent reports, and nobody has used plaintext since the agent's first
    report or the last week. What Envoy has forgotten or not counted yet is not in the ledger.
    """
    known: dict[tuple[str, int], Entry] = {
        (f"{one.workload}.{one.namespace}", one.port): one for one in ledger.entries(workload=workload)
    }
    reporting = ledger.reporting()
    rows: list[dict[str, Any]] = []
    for connection in proxies.connections():
        node = connection.node.parts
        if node.type != "sidecar" or workload not in ("", node.called, node.name):
            continue
        view = view_of(connection.node)
        ports = model.engine.call(_ports, view)
        extra = sorted(port for name, port in known if name == node.called and port not in ports.served)
        for port, mode in (*ports.modes, *((one, ports.general) for one in extra)):
            entry = known.get((node.called, port))
            callers = entry.callers if entry is not None else ()
            heard = node.called in reporting
            rows.append(
                {
                    "workload": node.name,
                    "namespace": view.namespace,
                    "serviceAccount": view.service_account,
                    "port": port,
                    "mode": mode,
                    "reporting": heard,
                    "ready": mode == "PERMISSIVE" and heard and not callers,
                    "callers": [_caller(one) for one in callers],
                }
            )
    return {"ports": sorted(rows, key=lambda one: (one["namespace"], one["workload"], one["port"]))}


def _caller(one: Seen) -> dict[str, Any]:
    return {"address": one.address, "count": one.count, "first": timestamp(one.first), "last": timestamp(one.last)}
