"""Which hosts lead to a proxy: Services and ServiceEntries of its namespace that choose or list it.

Only hosts of the proxy's own namespace count, as in Istio: nobody opens ports on workloads of other namespaces.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fairlead.compiler.hosts import host
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.host import HOSTS, HOSTS_AT_INSTANCES, HOSTS_BY_ADDRESS, HOSTS_BY_SELECTOR, Host, HostKey
from fairlead.ir.view import selects
from fairlead.ir.workload import (
    ENDPOINTS,
    ENDPOINTS_BY_ADDRESS,
    ENDPOINTS_BY_NAMESPACE,
    WORKLOADS,
    WORKLOADS_BY_ADDRESS,
    WORKLOADS_NAMING_PORTS,
)

NamedPorts = tuple[tuple[str, int], ...]


class ProxyKey(NamedTuple):
    """What of a proxy decides which hosts lead to it."""

    namespace: str
    labels: Pairs
    addresses: tuple[str, ...]


class Serving(msgspec.Struct, frozen=True):
    """A host that leads to a proxy; `ports` are the numbers of the proxy's ports by name, as its object says."""

    host: Host
    ports: NamedPorts


@rule
def serving_hosts(r: Reader, key: ProxyKey) -> tuple[Serving, ...]:
    """The hosts that lead to a proxy: those that select its labels, then those that list its addresses."""
    named = _named_ports(r, key)
    seen: dict[tuple[HostKey, str], Serving] = {}
    for name, value in (("", ""), *key.labels):
        for at in r.find(HOSTS_BY_SELECTOR, (key.namespace, name, value)):
            found = host(r, at)
            if found is not None and selects(found.selector or (), key.labels):
                seen.setdefault((at, ""), Serving(found, named))
    for address in key.addresses:
        for position in r.find(ENDPOINTS_BY_ADDRESS, address):
            at = position.host
            endpoint, found = r.get(ENDPOINTS, position), host(r, at)
            if endpoint is None or found is None or at.namespace != key.namespace or (at, "") in seen:
                continue
            if not found.is_defined_by(position.owner):
                continue
            if endpoint.serves or endpoint.only_named:
                found = msgspec.structs.replace(found, ports=tuple(filter(endpoint.is_for, found.ports)))
            seen.setdefault((at, position.owner), Serving(found, endpoint.ports))
    return tuple(seen.values())


def telling_addresses(r: Reader, namespace: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a proxy's addresses at which something stands, or of which something is said.

    Nothing depends on the others, and without them replicas are alike. Asks first what is cheap to know of many.
    """
    listed, named = r.has(ENDPOINTS_BY_NAMESPACE, namespace), r.has(WORKLOADS_NAMING_PORTS, namespace)
    return tuple(
        address
        for address in addresses
        if (listed and r.has(ENDPOINTS_BY_ADDRESS, address))
        or (named and r.has(WORKLOADS_NAMING_PORTS, (namespace, address)))
        or stands_at(r, address)
    )


def stands_at(r: Reader, address: str) -> bool:
    """Whether a host may have listeners at this very address: it is virtual, or that of an instance of the host."""
    if r.has(HOSTS_BY_ADDRESS, address):
        return True
    return r.has(HOSTS_AT_INSTANCES, "") and is_called_directly(r, address)


@rule
def is_called_directly(r: Reader, address: str) -> bool:
    """Whether an address is that of an instance of a host that has no virtual one."""
    if r.has(ENDPOINTS_BY_ADDRESS, address):
        return True
    for at, workload in r.rows(WORKLOADS_BY_ADDRESS, address):
        for name, value in (("", ""), *workload.labels):
            for key in r.find(HOSTS_BY_SELECTOR, (at.namespace, name, value)):
                found = r.get(HOSTS, key)
                if found is not None and found.stands_at_instances and selects(found.selector or (), workload.labels):
                    return True
    return False


def _named_ports(r: Reader, key: ProxyKey) -> NamedPorts:
    """Numbers of ports by name, as the workload's object says."""
    named: dict[str, int] = {}
    for address in key.addresses:
        for at in r.find(WORKLOADS_BY_ADDRESS, address):
            workload = r.get(WORKLOADS, at)
            if workload is not None and at.namespace == key.namespace:
                named.update(workload.ports)
    return tuple(sorted(named.items()))
