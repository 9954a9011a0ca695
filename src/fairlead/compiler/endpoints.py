"""Endpoints of a host's port or subset: which workloads and listed endpoints serve it, and how they are dialled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import lcm
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.compiler.hosts import NameKey, host, host_named, settings
from fairlead.compiler.mtls import MtlsKey, inbound_mtls
from fairlead.compiler.near import Near, Placing
from fairlead.compiler.networks import addresses_of, cluster_at, has_gateways, network_at, networks
from fairlead.compiler.placement import placed, seen_labels
from fairlead.envoy import peer
from fairlead.envoy.endpoint import MOST, Group, LbEndpoint, load_assignment, sum_of
from fairlead.envoy.names import LOCAL_CLUSTER, dns_srv_name, subset_key
from fairlead.envoy.resource import Resource
from fairlead.inc import Reader, rule
from fairlead.ir.families import of_family
from fairlead.ir.filters import Pairs
from fairlead.ir.host import Host, HostKey, HostPort, Resolution
from fairlead.ir.locality import LocalityLb
from fairlead.ir.view import selects
from fairlead.ir.workload import (
    ENDPOINTS,
    ENDPOINTS_BY_HOST,
    WORKLOADS,
    WORKLOADS_BY_LABEL,
    WORKLOADS_BY_NAME,
    Endpoint,
    Workload,
    WorkloadKey,
)
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.syntax import is_ip

_NO_PORT = 1
_BY_NAME = (Resolution.DNS_LB, Resolution.DNS_ROUND_ROBIN)


class EndpointsKey(NamedTuple):
    """Endpoints of a host's port with these labels; `subset` is the name that the cluster has.

    `placing` says how a caller has them placed, None if it has no preference and is in no network.
    `sni_dnat` is for the clusters that a gateway chooses by SNI: only those are behind it that take mesh mTLS.
    """

    host: HostKey
    port: int
    subset: str = ""
    labels: Pairs = ()
    placing: Placing | None = None
    sni_dnat: bool = False


class GatewayKey(NamedTuple):
    """The gateways of a network, by its name."""

    network: str


class PeersKey(NamedTuple):
    """The instances of a workload by its name, as one of them in this locality sees them."""

    namespace: str
    workload: str
    locality: str = ""


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
    """The endpoints, in a fixed order; unhealthy workloads are left out.

    Those whose address is "" are reached through the gateways of their network only.
    """
    found = host(r, key.host)
    port = found.port(key.port) if found is not None else None
    if found is None or port is None:
        return ()
    setting = key.placing.setting if key.placing is not None else None
    wanted = setting.labels if setting is not None else ()
    return tuple(
        sorted({one for one in _endpoints(r, found, port, key.labels, wanted) if one.port > 0 or "://" in one.address})
    )


@rule
def groups_of(r: Reader, key: EndpointsKey) -> tuple[Group, ...]:
    """The endpoints as the caller prefers them; those of other networks are their networks' gateways.

    Of a host that has addresses of both families a caller of one family gets those that it can dial.
    """
    placing = key.placing
    ordered = placing is not None and placing.setting is not None and bool(placing.setting.priority)
    found = endpoints_of(r, key if ordered else key._replace(placing=None))
    if key.sni_dnat:
        found = tuple(one for one in found if one.mtls)
    if placing is not None and placing.near.cluster:
        found = tuple(one for one in found if one.cluster == placing.near.cluster)
    if placing is not None and placing.near.sees:
        found = tuple(one for one in found if placing.near.told(one.network))
    if placing is not None and networks(r, "").known:
        found = tuple(_across(r, found, placing))
    known = [one for one in found if one.address]
    dialled = set(of_family((one.address for one in known), placing.near.families if placing is not None else "IPv4"))
    return placed((one for one in known if one.address in dialled), placing)


@rule
def gateways_into(r: Reader, key: GatewayKey) -> tuple[LbEndpoint, ...]:
    """Where a network is entered from outside, as endpoints of mesh mTLS."""
    out: list[LbEndpoint] = []
    for gateway in next((one.gateways for one in networks(r, "").known if one.name == key.network), ()):
        if gateway.address:
            found = addresses_of(r, gateway.address)
            out.extend(LbEndpoint(gateway.locality, one, gateway.port, mtls=True) for one in found)
            continue
        at = host_named(r, NameKey(settings(r).root_namespace, gateway.service))
        behind = host(r, at) if at is not None else None
        if at is not None and behind is not None and behind.outside:
            found = (address for one in behind.outside for address in addresses_of(r, one))
            out.extend(LbEndpoint(gateway.locality, one, gateway.port, mtls=True) for one in found)
        elif at is not None:
            members = endpoints_of(r, EndpointsKey(at, gateway.port))
            out.extend(
                LbEndpoint(gateway.locality or one.locality, one.address, one.port, mtls=True)
                for one in members
                if one.address
            )
    return tuple(sorted(set(out)))


@rule
def assignment_of(r: Reader, key: EndpointsKey) -> Resource:
    """The EDS resource of a cluster."""
    name = subset_key("outbound", key.port, key.subset, key.host.hostname)
    if key.sni_dnat:
        name = dns_srv_name(key.port, key.subset, key.host.hostname)
    return load_assignment(name, groups_of(r, key))


@rule
def peers_of(r: Reader, key: PeersKey) -> Resource:
    """The EDS resource of a proxy's own workload: Envoy compares only what is of the first priority, so those of other
    regions, to which zone-aware balancing does not apply, come behind.
    """
    found = (workload for _, workload in r.rows(WORKLOADS_BY_NAME, (key.namespace, key.workload)))
    # Nobody calls them by this: only where they are counts.
    members = {LbEndpoint(one.locality, one.address, _NO_PORT) for one in found if one.healthy}
    placing = Placing(Near(key.locality), LocalityLb(zone_aware=True)) if key.locality else None
    return load_assignment(LOCAL_CLUSTER, placed(members, placing))


@rule
def identities_of(r: Reader, key: HostKey) -> tuple[str, ...]:
    """The SPIFFE identities of a host's mesh workloads: what a client must find in the peer's certificate."""
    found = host(r, key)
    if found is None:
        return ()
    mesh = settings(r)
    # While a mesh moves, some workloads still have certificates of the former trust domain.
    domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
    sans = set(found.subject_alt_names)
    sans.update(spiffe(one, key.namespace, account) for one in domains for account in found.service_accounts)
    for workload in _workloads(r, found):
        if workload.mesh:
            sans.update(spiffe(one, workload.key.namespace, workload.service_account) for one in domains)
    for endpoint in listed(r, found):
        if endpoint.service_account:
            sans.update(spiffe(one, key.namespace, endpoint.service_account) for one in domains)
    return tuple(sorted(sans))


def stands_anywhere(r: Reader, found: Host) -> bool:
    """Whether a host names no instances at all (a ServiceEntry): only the client knows where it is, or its name."""
    if found.resolution is Resolution.DYNAMIC_DNS:
        return True
    listed = found.kubernetes or found.selector is not None or r.find(ENDPOINTS_BY_HOST, found.key)
    return found.resolution is Resolution.PASSTHROUGH and not listed


def spiffe(trust_domain: str, namespace: str, service_account: str) -> str:
    """The SPIFFE id of a service account."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account or 'default'}"


def target_port(port: HostPort, ports: tuple[tuple[str, int], ...]) -> int:
    """The number of a host's port on one endpoint; 0 where a named target port is unknown there."""
    named = {name: number for name, number in ports if number}
    if isinstance(port.target, str) and port.target:
        return named.get(port.target, named.get(port.name, 0))
    return named.get(port.name) or port.target or port.number  # type: ignore[return-value]


def _workloads(r: Reader, found: Host) -> Iterator[Workload]:
    """The workloads that a host chooses: those with a name or a socket for an address where names are looked up."""
    if found.selector is None:
        return
    for at in selected(r, SelectionKey(found.key.namespace, found.selector)):
        workload = r.get(WORKLOADS, at)
        if workload is None:
            continue
        if found.resolution in _BY_NAME or is_ip(workload.address) or not workload.address:
            yield workload
        else:
            r.report(_unusable(workload, found))


def _unusable(workload: Workload, found: Host) -> Diagnostic:
    message = f"{found.key.hostname} chooses this workload, but its address {workload.address} is no IP address"
    remedy = "Give it one, or choose it by a ServiceEntry with resolution: DNS."
    return Diagnostic("FL0313", Severity.WARNING, f"{message}: no call goes there", workload.origin, remedy)


def _across(r: Reader, endpoints: Iterable[LbEndpoint], placing: Placing) -> Iterator[LbEndpoint]:
    """The endpoints as a caller in a network reaches them.

    Istio's split horizon: all endpoints of another network together are its gateways, each with a share of their
    weight; endpoints without mesh mTLS have no name that a gateway could go by, and are left out. A network without
    gateways is taken to be reachable. Weights of all grow alike, so that each gateway can have a whole share.
    """
    behind: dict[tuple[str, str], list[LbEndpoint]] = {}
    direct: list[LbEndpoint] = []
    for one in endpoints:
        if not placing.near.network or one.network in ("", placing.near.network):
            direct.append(one)
        elif placing.within:
            continue
        elif not gateways_into(r, GatewayKey(one.network)):
            direct.append(one)
        elif one.mtls:
            behind.setdefault((one.network, one.locality), []).append(one)
    ways = {network: gateways_into(r, GatewayKey(network)) for network, _ in behind}
    times = lcm(*map(len, ways.values()))
    yield from (replace(one, weight=min(one.weight * times, MOST)) if times > 1 else one for one in direct)
    for (network, locality), members in sorted(behind.items()):
        share = sum_of(members) * times // len(ways[network])
        for gateway in ways[network]:
            # The locality is that of the instances: that is what a caller prefers.
            labels = members[0].labels
            yield replace(gateway, locality=locality, weight=min(share, MOST), network=network, labels=labels)


def _endpoints(r: Reader, found: Host, port: HostPort, labels: Pairs, wanted: tuple[str, ...]) -> Iterator[LbEndpoint]:
    workloads = list(_workloads(r, found))
    for workload in workloads:
        if (workload.healthy or found.publish_not_ready) and selects(labels, workload.labels):
            one = _of_workload(r, workload, port, wanted)
            _check_way(r, one, workload.origin)
            yield one
    known = {workload.address for workload in workloads}
    for endpoint in listed(r, found):
        if endpoint.only_named and endpoint.address in known:
            continue  # A slice repeats what the selector finds, and the workload says more of itself.
        there = endpoint.healthy or found.publish_not_ready
        if there and selects(labels, endpoint.labels) and endpoint.is_for(port):
            one = _of_endpoint(r, endpoint, port, wanted)
            _check_way(r, one, endpoint.origin)
            yield one


def _check_way(r: Reader, one: LbEndpoint, origin: Origin) -> None:
    """Report an instance without an address to which no gateway can lead."""
    if one.address:
        return
    wrong, remedy = "", ""
    if not has_gateways(r, one.network):
        wrong = f"network {one.network!r} has no gateway"
        remedy = "Name its gateways in meshNetworks, or label the Service of one with topology.istio.io/network."
    elif not one.mtls:
        wrong = "gateways pass mesh mTLS only, and the instance is not known to accept it"
        remedy = "Set serviceAccount, or the label security.istio.io/tlsMode: istio."
    if wrong:
        said = f"the instance has no address and cannot be reached: {wrong}"
        r.report(Diagnostic("FL2900", Severity.WARNING, said, origin, remedy))


def listed(r: Reader, found: Host) -> Iterator[Endpoint]:
    """The endpoints that the objects behind a host list."""
    for at in r.find(ENDPOINTS_BY_HOST, found.key):
        endpoint = r.get(ENDPOINTS, at) if found.is_defined_by(at.owner) else None
        if endpoint is not None:
            yield endpoint


def _of_workload(r: Reader, workload: Workload, port: HostPort, wanted: tuple[str, ...]) -> LbEndpoint:
    number = target_port(port, workload.ports)
    mtls = workload.mesh and inbound_mtls(r, MtlsKey(workload.key.namespace, workload.labels, number)) != "DISABLE"
    name = workload.workload_name or workload.key.name
    network = network_at(r, workload.network, workload.address, workload.labels)
    return LbEndpoint(
        locality=workload.locality,
        address=workload.address,
        port=number,
        weight=max(workload.weight, 1),
        mtls=mtls,
        workload=peer.Workload.of(name, workload.key.namespace, dict(workload.labels), cluster_at(workload.labels)),
        network=network,
        cluster=cluster_at(workload.labels),
        labels=seen_labels(wanted, workload.labels, workload.locality, network) if wanted else (),
    )


def _of_endpoint(r: Reader, endpoint: Endpoint, port: HostPort, wanted: tuple[str, ...]) -> LbEndpoint:
    network = network_at(r, endpoint.network, endpoint.address, endpoint.labels)
    return LbEndpoint(
        locality=endpoint.locality,
        address=endpoint.address,
        port=target_port(port, endpoint.ports),
        weight=max(endpoint.weight, 1),
        mtls=endpoint.mesh,
        network=network,
        cluster=cluster_at(endpoint.labels),
        labels=seen_labels(wanted, endpoint.labels, endpoint.locality, network) if wanted else (),
    )
