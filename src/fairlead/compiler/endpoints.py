"""Endpoints of a host's port or subset: which workloads and listed endpoints serve it, and how they are dialled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fairlead.compiler.hosts import host, settings
from fairlead.compiler.mtls import MtlsKey, inbound_mtls
from fairlead.envoy import peer
from fairlead.envoy.endpoint import LbEndpoint, load_assignment
from fairlead.envoy.names import subset_key
from fairlead.envoy.resource import Resource
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.host import Host, HostKey, HostPort, Resolution
from fairlead.ir.view import selects
from fairlead.ir.workload import (
    ENDPOINTS,
    ENDPOINTS_BY_HOST,
    WORKLOADS,
    WORKLOADS_BY_LABEL,
    Endpoint,
    Workload,
    WorkloadKey,
)

_CLUSTER_ID = "Kubernetes"
"""Istio's name of the only cluster."""


class EndpointsKey(NamedTuple):
    """Endpoints of a host's port with these labels; `subset` is the name that the cluster has."""

    host: HostKey
    port: int
    subset: str = ""
    labels: Pairs = ()


class SelectionKey(NamedTuple):
    """Workloads of a namespace with these labels."""

    namespace: str
    selector: Pairs


@rule
def selected(r: Reader, key: SelectionKey) -> tuple[WorkloadKey, ...]:
    """The workloads that a selector chooses in its namespace."""
    if not key.selector:
        return r.find(WORKLOADS_BY_LABEL, (key.namespace, "", ""))
    first, *rest = (r.find(WORKLOADS_BY_LABEL, (key.namespace, name, value)) for name, value in key.selector)
    return tuple(sorted(set(first).intersection(*rest)))


@rule
def endpoints_of(r: Reader, key: EndpointsKey) -> tuple[LbEndpoint, ...]:
    """The endpoints, in a fixed order; unhealthy workloads are left out."""
    found = host(r, key.host)
    port = found.port(key.port) if found is not None else None
    if found is None or port is None:
        return ()
    return tuple(
        sorted({one for one in _endpoints(r, found, port, key.labels) if one.port > 0 or "://" in one.address})
    )


@rule
def assignment_of(r: Reader, key: EndpointsKey) -> Resource:
    """The EDS resource of a cluster."""
    name = subset_key("outbound", key.port, key.subset, key.host.hostname)
    return load_assignment(name, endpoints_of(r, key))


@rule
def identities_of(r: Reader, key: HostKey) -> tuple[str, ...]:
    """The SPIFFE identities of a host's mesh workloads: what a client must find in the peer's certificate."""
    found = host(r, key)
    if found is None:
        return ()
    domain = settings(r).trust_domain
    sans = set(found.subject_alt_names)
    for workload in _workloads(r, found):
        if workload.mesh:
            sans.add(spiffe(domain, workload.key.namespace, workload.service_account))
    for endpoint in _listed(r, found):
        if endpoint.service_account:
            sans.add(spiffe(domain, key.namespace, endpoint.service_account))
    return tuple(sorted(sans))


def stands_anywhere(r: Reader, found: Host) -> bool:
    """Whether a host names no instances at all (ServiceEntry without resolution): only the client knows where it is."""
    listed = found.kubernetes or found.selector is not None or r.find(ENDPOINTS_BY_HOST, found.key)
    return found.resolution is Resolution.PASSTHROUGH and not listed


def spiffe(trust_domain: str, namespace: str, service_account: str) -> str:
    """The SPIFFE id of a service account."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account or 'default'}"


def target_port(port: HostPort, ports: tuple[tuple[str, int], ...]) -> int:
    """The number of a host's port on one endpoint; 0 where a named target port is unknown there."""
    named = dict(ports)
    if isinstance(port.target, str) and port.target:
        return named.get(port.target, named.get(port.name, 0))
    return named.get(port.name) or port.target or port.number  # type: ignore[return-value]


def _workloads(r: Reader, found: Host) -> Iterator[Workload]:
    if found.selector is None:
        return
    for at in selected(r, SelectionKey(found.key.namespace, found.selector)):
        workload = r.get(WORKLOADS, at)
        if workload is not None:
            yield workload


def _endpoints(r: Reader, found: Host, port: HostPort, labels: Pairs) -> Iterator[LbEndpoint]:
    for workload in _workloads(r, found):
        if (workload.healthy or found.publish_not_ready) and selects(labels, workload.labels):
            yield _of_workload(r, workload, port)
    for endpoint in _listed(r, found):
        if selects(labels, endpoint.labels) and (not endpoint.serves or port.number in endpoint.serves):
            yield _of_endpoint(endpoint, port)


def _listed(r: Reader, found: Host) -> Iterator[Endpoint]:
    """The endpoints that the objects behind a host list."""
    for at in r.find(ENDPOINTS_BY_HOST, found.key):
        endpoint = r.get(ENDPOINTS, at) if found.is_defined_by(at.owner) else None
        if endpoint is not None:
            yield endpoint


def _of_workload(r: Reader, workload: Workload, port: HostPort) -> LbEndpoint:
    number = target_port(port, workload.ports)
    mtls = workload.mesh and inbound_mtls(r, MtlsKey(workload.key.namespace, workload.labels, number)) != "DISABLE"
    name = workload.workload_name or workload.key.name
    return LbEndpoint(
        locality=workload.locality,
        address=workload.address,
        port=number,
        weight=max(workload.weight, 1),
        mtls=mtls,
        workload=peer.Workload.of(name, workload.key.namespace, dict(workload.labels), _CLUSTER_ID),
    )


def _of_endpoint(endpoint: Endpoint, port: HostPort) -> LbEndpoint:
    return LbEndpoint(
        locality=endpoint.locality,
        address=endpoint.address,
        port=target_port(port, endpoint.ports),
        weight=max(endpoint.weight, 1),
        mtls=endpoint.mesh,
    )
