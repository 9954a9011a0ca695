"""Workloads, and endpoints that are written out in an object."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.host import SLICE, HostKey, HostPort
from fairlead.model.diagnostic import Origin


class WorkloadKey(NamedTuple):
    """A workload: the kind of object that describes it, namespace and name."""

    kind: str
    namespace: str
    name: str


class Workload(msgspec.Struct, frozen=True):
    """One running instance of an application (WorkloadEntry; a pod on Kubernetes).

    `ports` maps port names to numbers where the instance's differ from the host's. `weight` 0 means 1. `address` is ""
    where only the gateways of its network lead to it.
    """

    key: WorkloadKey
    origin: Origin
    address: str
    labels: Pairs
    service_account: str
    ports: tuple[tuple[str, int], ...] = ()
    network: str = ""
    locality: str = ""
    weight: int = 0
    healthy: bool = True
    workload_name: str = ""
    mesh: bool = True
    """Whether the instance has a sidecar that accepts mesh mTLS."""


class EndpointKey(NamedTuple):
    """An endpoint inside an object that defines a host; `owner` is the object's name (`slice_owner` of a slice)."""

    host: HostKey
    position: int
    owner: str = ""


def slice_owner(name: str) -> str:
    """The owner of endpoints that an EndpointSlice has: it belongs to a Service that does not name it."""
    return f"{SLICE}{name}"


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint that an object (ServiceEntry) lists. `address` is an IP, a DNS name, `unix:///path`, or "" where
    only the gateways of its network lead to it.

    `serves` are the numbers of the host's ports for which it is listed: another object may define further ones.
    `only_named`: it is listed for those whose names stand in `ports`, 0 there being the host's own number.
    """

    key: EndpointKey
    origin: Origin
    address: str
    labels: Pairs = ()
    service_account: str = ""
    ports: tuple[tuple[str, int], ...] = ()
    network: str = ""
    locality: str = ""
    weight: int = 0
    mesh: bool = False
    serves: tuple[int, ...] = ()
    only_named: bool = False
    healthy: bool = True
    hostname: str = ""
    """The first label of a name of its own, before that of its host."""

    def is_for(self, port: HostPort) -> bool:
        """Whether the endpoint is listed for a port of its host."""
        if self.only_named:
            return any(name == port.name for name, _ in self.ports)
        return not self.serves or port.number in self.serves


def _labels(key: WorkloadKey, workload: Workload) -> list[tuple[str, str, str]]:
    return [(key.namespace, "", ""), *((key.namespace, name, value) for name, value in workload.labels)]


def _naming(namespace: str, workload: Workload) -> list[str | tuple[str, str]]:
    return [namespace, (namespace, workload.address)] if workload.ports and workload.address else []


WORKLOADS: Table[WorkloadKey, Workload] = Table("workloads", stage=1)
WORKLOADS_BY_LABEL = WORKLOADS.index("label", _labels)
"""Workloads under (namespace, label, value) for each of their labels, and under (namespace, "", "")."""
WORKLOADS_BY_ADDRESS = WORKLOADS.index("address", lambda key, workload: [workload.address] if workload.address else [])
WORKLOADS_BY_NAME = WORKLOADS.index("name", lambda key, workload: [(key.namespace, workload.workload_name or key.name)])
"""Instances under (namespace, name of the workload that they are of)."""
WORKLOADS_NAMING_PORTS = WORKLOADS.index("naming-ports", lambda key, workload: _naming(key.namespace, workload))
"""Workloads that say which port is meant by a name, under their namespaces and under (namespace, address)."""

ENDPOINTS: Table[EndpointKey, Endpoint] = Table("endpoints", stage=1)
ENDPOINTS_BY_HOST = ENDPOINTS.index("host", lambda key, endpoint: [key.host])
ENDPOINTS_BY_ADDRESS = ENDPOINTS.index("address", lambda key, endpoint: [endpoint.address] if endpoint.address else [])
ENDPOINTS_BY_NAMESPACE = ENDPOINTS.index("namespace", lambda key, endpoint: [key.host.namespace])
