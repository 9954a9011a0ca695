"""Outbound and inbound clusters of a view."""

from __future__ import annotations

from itertools import chain
from typing import Literal, NamedTuple

from envoy.config.core.v3.base_pb2 import TransportSocket
from msgspec.structs import replace

from fairlead.compiler.endpoints import EndpointsKey, endpoints_of, groups_of, identities_of, stands_anywhere
from fairlead.compiler.hosts import (
    WHOLE,
    ChunkKey,
    NameKey,
    chunks,
    host,
    host_named,
    hosts_in,
    settings,
)
from fairlead.compiler.inbound import InboundPort, inbound_ports
from fairlead.compiler.near import Near, Placing, placing, zones_setting
from fairlead.compiler.policies import PolicyKey, above, effective, policy_for
from fairlead.compiler.providing import sources_of
from fairlead.compiler.reaching import is_reached, reached
from fairlead.compiler.scope import special
from fairlead.compiler.sidecars import is_limited, namespace_of
from fairlead.compiler.statnames import inbound_stat_name, outbound_stat_name
from fairlead.envoy import names
from fairlead.envoy.cluster import ClusterPlan, Described, Discovery, Http, cluster, speaks_http2
from fairlead.envoy.endpoint import Group, LbEndpoint
from fairlead.envoy.resource import Resource
from fairlead.envoy.upstreamtls import (
    DETECTED_MESH_ALPN,
    HTTP1_MESH_ALPN,
    HTTP2_MESH_ALPN,
    TCP_MESH_ALPN,
    mesh_tls,
    origin_tls,
)
from fairlead.inc import Reader, rule
from fairlead.ir.credential import is_public
from fairlead.ir.families import ANYWHERE, ANYWHERE_V6, application_sources, loopbacks, version_of
from fairlead.ir.filters import Pairs
from fairlead.ir.host import Host, HostKey, HostPort, Resolution
from fairlead.ir.protocol import Protocol
from fairlead.ir.sidecar import Endpoint
from fairlead.ir.traffic import ClientTls, HttpPool, Policy, Subset, TrafficPolicy, credentials_in, effective_policy
from fairlead.ir.view import View

Way = Literal["", "name", "gateway"]
"""How clients call: by address, by name, or by name and as gateways, which have credentials."""


class ClusterKey(NamedTuple):
    """An outbound cluster as the clients of a namespace with these labels have it.

    `by_name` says that these clients name the host when they call (an HTTP proxy, an explicit bind), so that there is
    no original destination to forward to; `gateway`: that they are gateways, where it matters. `near` is where they
    are, as far as it matters for this cluster.
    """

    client_namespace: str
    client_labels: Pairs
    host: HostKey
    port: int
    subset: str = ""
    by_name: Way = ""
    near: Near | None = None


class OutboundKey(NamedTuple):
    """The clusters of a host as the clients of a namespace with these labels have them."""

    client_namespace: str
    client_labels: Pairs
    host: HostKey
    by_name: Way = ""
    near: Near | None = None


_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
"""Where an application is dialled at its own address of a family of which the workload has none."""


@rule
def clusters_of(r: Reader, key: OutboundKey) -> tuple[ClusterKey, ...]:
    """The clusters of one host: one a port, and one a port and subset."""
    found = host(r, key.host)
    if found is None:
        return ()
    policy = policy_for(r, PolicyKey(key.client_namespace, key.client_labels, key.host))
    # Gateways share clusters with others that call by name, unless they have credentials for them.
    with_credentials = policy is not None and bool(credentials_in(policy))
    way: Way = "name" if key.by_name == "gateway" and not with_credentials else key.by_name
    subsets = ["", *(subset.name for subset in policy.subsets)] if policy is not None else [""]
    return tuple(
        ClusterKey(
            key.client_namespace,
            key.client_labels,
            key.host,
            port.number,
            subset,
            way,
            _near(r, key, found, effective(r, policy, subset, port.number, found)),
        )
        for port in found.ports
        if port.protocol is not Protocol.UDP
        for subset in subsets
    )


def _near(r: Reader, key: OutboundKey, found: Host, said: Policy) -> Near | None:
    """What of the caller's place this cluster depends on: clients for which that is the same share it."""
    placed = placing(r, key.near, found, said)
    return placed.near if placed is not None else None


@rule
def outbound_keys(r: Reader, key: tuple[str, Pairs, Way, Near | None]) -> tuple[ClusterKey, ...]:
    """Every outbound cluster of a client, in the order of chunks of hosts, ports and subsets."""
    namespace = key[0]
    # What a Sidecar limits is one chunk, and those are added to which it leads.
    at = (WHOLE,) if is_limited(namespace) else chunks(r, 0)
    return tuple(chain.from_iterable(keys_in(r, (*key, chunk)) for chunk in at))


@rule
def keys_in(r: Reader, key: tuple[str, Pairs, Way, Near | None, str]) -> tuple[ClusterKey, ...]:
    """Those of one chunk."""
    namespace, labels, by_name, place, chunk = key
    found: list[ClusterKey] = []
    # A policy speaks to the clients of a namespace, whatever their Sidecars let them see.
    seen = special(r, namespace_of(namespace))
    for at in reached(r, namespace) if chunk == WHOLE else hosts_in(r, ChunkKey(namespace, 0, chunk)):
        near = seen.seen_by(at.hostname)
        found.extend(clusters_in(r, namespace, OutboundKey(near, labels if near else (), at, by_name, place)))
    return tuple(found)


def clusters_in(r: Reader, scope: str, key: OutboundKey) -> tuple[ClusterKey, ...]:
    """The clusters of a host at the ports that clients of a scope may call."""
    found = clusters_of(r, key)
    if not is_limited(scope):
        return found
    return tuple(one for one in found if is_reached(r, scope, one.host, one.port))


@rule
def endpoints_key(r: Reader, key: ClusterKey) -> EndpointsKey | None:
    """Where the endpoints of an outbound cluster come from, if by EDS."""
    found = host(r, key.host)
    if found is None or _discovery(r, found, key) != "EDS":
        return None
    policy, subset = _policy(r, key)
    placed = placing(r, key.near, found, effective(r, policy, key.subset, key.port, found))
    return EndpointsKey(key.host, key.port, key.subset, subset.labels if subset is not None else (), placed)


@rule
def all_speak_mtls(r: Reader, key: EndpointsKey) -> bool:
    """Whether a host has endpoints and each of them takes mesh mTLS."""
    found = endpoints_of(r, key)
    return bool(found) and all(one.mtls for one in found)


@rule
def outbound_cluster(r: Reader, key: ClusterKey) -> Resource | None:
    """The CDS resource of an outbound cluster."""
    found = host(r, key.host)
    port = found.port(key.port) if found is not None else None
    if found is None or port is None:
        return None
    policy, subset = _policy(r, key)
    said = _said(r, key, policy, found)
    return _with_tls(r, key, found, port, _plan(r, key, found, port, policy, subset), said)


@rule
def named_cluster(r: Reader, key: ClusterKey) -> Resource | None:
    """The CDS resource of a cluster that a gateway chooses by SNI: bytes of mesh mTLS go on as they are.

    Only endpoints of the gateway's own network are behind it, and only those that take mesh mTLS: all others would
    take what comes through the gateway for a caller inside of the mesh. So hosts outside of it have none.
    """
    found = host(r, key.host)
    port = found.port(key.port) if found is not None else None
    if found is None or port is None or found.external:
        return None
    policy, subset = _policy(r, key)
    plan = _plan(r, key, found, port, policy, subset)
    if plan.discovery in ("ORIGINAL_DST", "FORWARD"):
        return None
    if plan.groups is not None:
        labels = subset.labels if subset is not None else ()
        within = Placing(key.near.bare, within=True) if key.near is not None else None
        plan = replace(plan, groups=groups_of(r, EndpointsKey(key.host, key.port, key.subset, labels, within, True)))
    name = names.dns_srv_name(key.port, key.subset, key.host.hostname)
    said = replace(_said(r, key, policy, found), tls=None, proxy_protocol="", tunnel=None)
    return cluster(replace(plan, name=name, http="none", by_locality=False), said)


@rule
def named_endpoints_key(r: Reader, key: ClusterKey) -> EndpointsKey | None:
    """Where the endpoints of such a cluster come from, if by EDS."""
    found, at = endpoints_key(r, key), host(r, key.host)
    if found is None or at is None or at.external:
        return None
    near = found.placing.near if found.placing is not None else Near()
    return found._replace(placing=Placing(near.bare, within=True), sni_dnat=True)


def _said(r: Reader, key: ClusterKey, policy: TrafficPolicy | None, found: Host) -> Policy:
    said = effective(r, policy, key.subset, key.port, found)
    if key.by_name and said.load_balancer is not None and said.load_balancer.simple == "PASSTHROUGH":
        said = replace(said, load_balancer=None)  # there is no destination to pass on to
    tls = said.tls
    named = tls.credential_name if tls is not None and key.by_name != "gateway" else ""
    if tls is not None and named and not is_public(named) and not (policy and policy.selector):
        # Only gateways, and workloads that the policy selects, are given credentials: others have files, or none.
        mode = tls.mode if tls.mode != "MUTUAL" or tls.client_certificate else "SIMPLE"
        said = replace(said, tls=replace(tls, mode=mode, credential_name=""))
    return said


def _plan(
    r: Reader, key: ClusterKey, found: Host, port: HostPort, policy: TrafficPolicy | None, subset: Subset | None
) -> ClusterPlan:
    said = _said(r, key, policy, found)
    discovery = _discovery(r, found, key)
    groups: tuple[Group, ...] | None = None
    placed = placing(r, key.near, found, said)
    if discovery not in ("EDS", "ORIGINAL_DST", "FORWARD"):
        labels = subset.labels if subset else ()
        groups = groups_of(r, EndpointsKey(key.host, key.port, key.subset, labels, placed))
    mesh = settings(r)
    described = Described(
        host=key.host.hostname,
        name=found.name or key.host.hostname,
        namespace=key.host.namespace,
        port=key.port,
        subset=key.subset,
        config=_config_path(policy),
    )
    return ClusterPlan(
        name=names.subset_key("outbound", key.port, key.subset, key.host.hostname),
        discovery=discovery,
        http=_http(port.protocol),
        described=described,
        connect_timeout=mesh.connect_timeout,
        groups=groups,
        by_locality=placed is not None and placed.setting is not None and not placed.setting.zone_aware,
        zones=zones_setting(r, found, said),
        dns_refresh=mesh.dns_refresh_rate,
        keepalive=mesh.tcp_keepalive,
        stat_name=outbound_stat_name(r, found, key.port, key.subset),
        keep_case=mesh.headers.keep_case,
        # Of a Service's headless ports the client dials the target itself.
        dialled_port=port.target if isinstance(port.target, int) and not found.kubernetes else 0,
        families=placed.near.families if placed is not None else "IPv4",
    )


@rule
def inbound_cluster(r: Reader, key: tuple[View, InboundPort]) -> Resource:
    """The CDS resource of one of a workload's own ports: it dials the application."""
    view, port = key
    mesh, number = settings(r), port.port
    said = port.ingress.endpoint if port.ingress is not None else None
    dialled = said.port if said is not None and said.port else number
    if said is not None and said.address:
        discovery: Discovery = "STATIC"
        endpoints: tuple[LbEndpoint, ...] = (_ingress_endpoint(view, said),)
    elif view.capture.mode == "redirect":
        # Istio dials the address that the peer dialled, so that applications bound to their own address are reached.
        discovery, endpoints = "ORIGINAL_DST", ()
        if mesh.inbound_policy == "LOCALHOST":
            discovery, endpoints = "STATIC", (LbEndpoint("", loopbacks(view.speaks)[0], dialled),)
    else:
        discovery, endpoints = "STATIC", (LbEndpoint("", view.capture.app_address, dialled),)
    limits, described = _served(r, view, port)
    socket = said is not None and said.address.startswith("unix://")
    terminated = port.ingress is not None and port.ingress.tls is not None
    plan = ClusterPlan(
        name=names.inbound_cluster(number),
        discovery=discovery,
        http=_http(Protocol.HTTP if terminated and port.protocol is Protocol.HTTPS else port.protocol),
        described=described,
        connect_timeout=mesh.connect_timeout,
        endpoints=endpoints,
        bind_addresses=_application_bind(view) if not socket else (),
        bind_netns="" if socket else view.capture.netns,
        stat_name=inbound_stat_name(r, view.namespace, port),
        keep_case=mesh.headers.keep_case,
        dialled_port=dialled if discovery == "ORIGINAL_DST" and dialled != number else 0,
    )
    return cluster(plan, replace(above(mesh.baseline, limits), outlier=None))


def _served(r: Reader, view: View, port: InboundPort) -> tuple[Policy, Described]:
    """What the policy of a port's host says of the application's side, and how the cluster is described."""
    served = host_named(r, NameKey(view.namespace, port.hostname)) if port.hostname else None
    found = host(r, served) if served is not None else None
    bare = _limits(port, Policy())
    if found is None:
        return bare, Described(port=port.service_port)
    near = special(r, view.namespace).seen_by(found.key.hostname)
    policy = policy_for(r, PolicyKey(near, (), found.key))
    limits = _limits(port, effective_policy(policy, "", port.service_port))
    return limits, Described(
        found.key.hostname,
        found.name or found.key.hostname,
        found.key.namespace,
        port.service_port,
        # An object that says nothing of limits leaves the cluster as it is.
        config=_config_path(policy) if limits != bare else "",
    )


def _limits(port: InboundPort, said: Policy) -> Policy:
    """Limits of connections to the application: those of its host's policy, unless its Sidecar says some.

    As in Istio nothing else of the policy is for the application's own side.
    """
    pooled = port.tcp is not None or port.http is not None
    tcp, http = (port.tcp, port.http) if pooled else (said.tcp, said.http)
    # Which HTTP the application speaks its port says.
    return Policy(
        tcp=tcp, http=replace(http, h2_upgrade="") if http is not None else None, retry_budget=said.retry_budget
    )


def _ingress_endpoint(view: View, said: Endpoint) -> LbEndpoint:
    """Where a Sidecar says that the application listens. Without redirection both names of it are its address."""
    if said.address.startswith("unix://"):
        return LbEndpoint("", said.address, 0)
    if view.capture.mode != "redirect":
        return LbEndpoint("", view.capture.app_address, said.port)
    if said.address not in (ANYWHERE, ANYWHERE_V6):
        # Both names of loopback mean the one that the workload has; they differ only where it has both.
        local = loopbacks(view.speaks)
        return LbEndpoint("", said.address if said.address in local else local[0], said.port)
    # Istio's names for the workload's own address.
    version = version_of(said.address)
    own = (one for one in view.addresses if version_of(one) == version)
    return LbEndpoint("", next(own, _LOOPBACK[version]), said.port)


def inbound_keys(r: Reader, view: View) -> tuple[tuple[View, InboundPort], ...]:
    """The inbound clusters of a workload, one a port of the application."""
    if view.type != "sidecar":
        return ()
    return tuple((view, port) for port in inbound_ports(r, view))


def _application_bind(view: View) -> tuple[str, ...]:
    """Where Envoy dials the application from; nothing for the caller's own address, or any."""
    captured = view.capture.mode in ("redirect", "netns") and not view.capture.transparent
    return application_sources(view.speaks) if captured else ()


def _policy(r: Reader, key: ClusterKey) -> tuple[TrafficPolicy | None, Subset | None]:
    policy = policy_for(r, PolicyKey(key.client_namespace, key.client_labels, key.host))
    if policy is None or not key.subset:
        return policy, None
    return policy, next((one for one in policy.subsets if one.name == key.subset), None)


def _discovery(r: Reader, found: Host, key: ClusterKey) -> Discovery:
    match found.resolution:
        case Resolution.CLIENT_SIDE_LB:
            return "EDS"
        case Resolution.DNS_LB:
            return "STRICT_DNS"
        case Resolution.DNS_ROUND_ROBIN:
            return "LOGICAL_DNS"
        case Resolution.DYNAMIC_DNS:
            return "FORWARD"
        case Resolution.PASSTHROUGH:
            if not key.by_name:
                return "ORIGINAL_DST"
            return "FORWARD" if stands_anywhere(r, found) else "EDS"


def _http(protocol: Protocol) -> Http:
    if protocol.is_http2:
        return "http2"
    if protocol is Protocol.AUTO:
        return "downstream"
    return "http1" if protocol.is_http else "none"


def _with_tls(r: Reader, key: ClusterKey, found: Host, port: HostPort, plan: ClusterPlan, said: Policy) -> Resource:
    pool = said.http or HttpPool()
    http2 = speaks_http2(plan, pool)
    # Listeners that forward bytes to a detected port override its names (envoy.tcpproxy.forwarding).
    detected = plan.http == "downstream" or pool.use_client_protocol
    spoken = HTTP2_MESH_ALPN if http2 else DETECTED_MESH_ALPN if detected else HTTP1_MESH_ALPN
    alpn = TCP_MESH_ALPN if plan.http == "none" else spoken
    tls = said.tls
    if tls is not None and tls.mode != "ISTIO_MUTUAL":
        if not tls.subject_alt_names and not found.kubernetes:
            # What a ServiceEntry says of its servers' names holds where the rule says nothing.
            tls = replace(tls, subject_alt_names=identities_of(r, key.host))
            said = replace(said, tls=tls)
        return cluster(plan, said, tls=None if tls.mode == "DISABLE" else _origin(r, key, tls, http2=http2))
    forced = tls is not None
    if not forced and (not settings(r).auto_mtls or found.external):
        return cluster(plan, said)
    sans = tls.subject_alt_names if tls is not None and tls.subject_alt_names else identities_of(r, key.host)
    sni = (tls.sni if tls is not None else "") or names.dns_srv_name(key.port, key.subset, key.host.hostname)
    socket = mesh_tls(sans, sni, alpn)
    if plan.discovery == "ORIGINAL_DST" and not forced:
        # Envoy knows nothing of the instance that the client dials, so the socket cannot be chosen by what it says.
        return (
            cluster(plan, said, tls=socket)
            if all_speak_mtls(r, EndpointsKey(key.host, key.port))
            else cluster(plan, said)
        )
    return cluster(plan, said, tls=socket) if forced else cluster(plan, said, auto_tls=socket)


def _origin(r: Reader, key: ClusterKey, tls: ClientTls, *, http2: bool) -> TransportSocket:
    sources = sources_of(r, key.client_namespace, (tls.credential_name,))
    return origin_tls(tls, http2=http2, limits=settings(r).other_tls, sources=sources)


def _config_path(policy: TrafficPolicy | None) -> str:
    if policy is None:
        return ""
    group = "/apis/networking.istio.io/v1/namespaces"
    return f"{group}/{policy.key.namespace}/destination-rule/{policy.key.name}"
