"""Which ports of a workload are served, and as what.

A port comes from the hosts that choose the workload (Services by selector, ServiceEntries by selector or by listing the
workload's address), else from what the workload itself declares. The oldest host decides a port's protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from fairlead.compiler.endpoints import target_port
from fairlead.compiler.hosts import host
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.host import HOSTS_BY_SELECTOR, Host, HostKey
from fairlead.ir.protocol import Protocol, port_protocol
from fairlead.ir.view import View, selects
from fairlead.ir.workload import ENDPOINTS, ENDPOINTS_BY_ADDRESS, WORKLOADS, WORKLOADS_BY_ADDRESS
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.launch import AppPort

NamedPorts = tuple[tuple[str, int], ...]


class InboundPort(msgspec.Struct, frozen=True, order=True):
    """A port on which the application serves.

    `port` is the application's own number, `service_port` the one that clients call, `hostname` the host through which
    they do ("" where no host does).
    """

    port: int
    protocol: Protocol
    service_port: int
    hostname: str = ""


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
    for found, known in sorted(_hosts(r, key), key=lambda one: (one[0].created, one[0].key)):
        for port in found.ports:
            # The application's own names count only where the host's port asks by name: peers do not know them.
            named = (*declared.items(), *known) if isinstance(port.target, str) and port.target else known
            number = 0 if port.protocol is Protocol.UDP else target_port(port, named)
            if not number:
                continue
            made = InboundPort(number, port.protocol, port.number, found.key.hostname)
            taken = chosen.setdefault(number, made)
            if taken.protocol is not port.protocol and taken.hostname != made.hostname:
                r.report(_disagreement(taken, made, found))
    for one in key.ports:
        protocol = port_protocol(one.port, one.name, one.protocol)
        if one.port not in chosen and protocol is not Protocol.UDP:
            chosen[one.port] = InboundPort(one.port, protocol, one.port)
    return tuple(sorted(chosen.values()))


def inbound_ports(r: Reader, view: View) -> tuple[InboundPort, ...]:
    """The ports that a proxy serves for its application."""
    return served_ports(r, ServedKey.of(view))


def _hosts(r: Reader, key: ServedKey) -> Iterator[tuple[Host, NamedPorts]]:
    named = _named_ports(r, key)
    seen: set[HostKey] = set()
    for name, value in (("", ""), *key.labels):
        for at in r.find(HOSTS_BY_SELECTOR, (key.namespace, name, value)):
            found = host(r, at)
            if found is not None and at not in seen and selects(found.selector or (), key.labels):
                seen.add(at)
                yield found, named
    for address in key.addresses:
        for at in r.find(ENDPOINTS_BY_ADDRESS, address):
            endpoint = r.get(ENDPOINTS, at)
            found = host(r, at.host)
            if endpoint is not None and found is not None and at.host not in seen:
                seen.add(at.host)
                yield found, endpoint.ports


def _named_ports(r: Reader, key: ServedKey) -> NamedPorts:
    """Numbers of ports by name, as the workload's object says."""
    named: dict[str, int] = {}
    for address in key.addresses:
        for at in r.find(WORKLOADS_BY_ADDRESS, address):
            workload = r.get(WORKLOADS, at)
            if workload is not None and at.namespace == key.namespace:
                named.update(workload.ports)
    return tuple(sorted(named.items()))


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
