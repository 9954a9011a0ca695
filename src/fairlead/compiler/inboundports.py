"""Which ports of a workload are served, and as what.

A port comes from the hosts that choose the workload (Services by selector, ServiceEntries by selector or by listing the
workload's address), else from what the workload itself declares. The oldest host decides a port's protocol.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from fairlead.compiler.endpoints import target_port
from fairlead.compiler.serving import ProxyKey, serving_hosts
from fairlead.compiler.sidecars import SidecarKey, sidecar
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.host import Host
from fairlead.ir.protocol import Protocol, port_protocol
from fairlead.ir.sidecar import IngressListener
from fairlead.ir.traffic import HttpPool, TcpPool
from fairlead.ir.view import View
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.launch import AppPort


class InboundPort(msgspec.Struct, frozen=True, order=True):
    """A port on which the application serves.

    `port` is the application's own number, `service_port` the one that clients call, `hostname` the host through which
    they do ("" where no host does). `ingress` is the Sidecar's listener that serves it; `tcp` and `http` limit
    connections to the application.
    """

    port: int
    protocol: Protocol
    service_port: int
    hostname: str = ""
    ingress: IngressListener | None = None
    tcp: TcpPool | None = None
    http: HttpPool | None = None


class ServedKey(NamedTuple):
    """What of a proxy decides which ports it serves."""

    namespace: str
    labels: Pairs
    addresses: tuple[str, ...]
    ports: tuple[AppPort, ...]

    @staticmethod
    def of(view: View) -> ServedKey:
        """The key of a view."""
        return ServedKey(view.namespace, view.labels, view.addresses, view.ports)


@rule
def served_ports(r: Reader, key: ServedKey) -> tuple[InboundPort, ...]:
    """The ports in the order of numbers. Reports hosts that disagree on a port's protocol."""
    chosen: dict[int, InboundPort] = {}
    declared = {one.name: one.port for one in key.ports if one.name}
    serving = serving_hosts(r, ProxyKey(key.namespace, key.labels, key.addresses))
    for one in sorted(serving, key=lambda one: (one.host.created, one.host.key)):
        found = one.host
        for port in found.ports:
            # The application's own names count only where the host's port asks by name: peers do not know them.
            named = (*declared.items(), *one.ports) if isinstance(port.target, str) and port.target else one.ports
            number = 0 if port.protocol is Protocol.UDP else target_port(port, named)
            if not number:
                continue
            made = InboundPort(number, port.protocol, port.number, found.key.hostname)
            taken = chosen.setdefault(number, made)
            if taken.protocol is not port.protocol and taken.hostname != made.hostname:
                r.report(_disagreement(taken, made, found))
    for own in key.ports:
        protocol = port_protocol(own.port, own.name, own.protocol)
        if own.port not in chosen and protocol is not Protocol.UDP:
            chosen[own.port] = InboundPort(own.port, protocol, own.port)
    return tuple(sorted(chosen.values()))


def inbound_ports(r: Reader, view: View) -> tuple[InboundPort, ...]:
    """The ports that a proxy serves for its application."""
    return sidecar_ports(r, (ServedKey.of(view), view.type == "sidecar"))


@rule
def sidecar_ports(r: Reader, key: tuple[ServedKey, bool]) -> tuple[InboundPort, ...]:
    """The ports in the order of numbers; those of a Sidecar's ingress, if it has any, take the place of all others."""
    wanted, limited = key
    served = served_ports(r, wanted)
    said = sidecar(r, SidecarKey(wanted.namespace, wanted.labels)) if limited else None
    if said is None:
        return served
    if not said.ingress:
        return tuple(replace(one, tcp=said.tcp, http=said.http) for one in served)
    by_number = {one.port: one for one in served}
    made: list[InboundPort] = []
    for one in said.ingress:
        # Clients still know the port by the host that leads to it.
        led = by_number.get(one.port) or InboundPort(one.port, one.protocol, one.port)
        pooled = one.tcp is not None or one.http is not None
        tcp, http = (one.tcp, one.http) if pooled else (said.tcp, said.http)
        made.append(replace(led, protocol=one.protocol, ingress=one, tcp=tcp, http=http))
    return tuple(sorted(made, key=lambda one: one.port))


def _disagreement(taken: InboundPort, lost: InboundPort, found: Host) -> Diagnostic:
    return Diagnostic(
        "FL0310",
        Severity.WARNING,
        f"port {lost.port} of the workloads is {_said(lost.protocol)} here but {_said(taken.protocol)} "
        f"by {taken.hostname}, which stands",
        found.origin,
        "Give the port the same protocol in both (name or appProtocol), or another target port.",
    )


def _said(protocol: Protocol) -> str:
    return "without a protocol" if protocol is Protocol.AUTO else protocol.value
