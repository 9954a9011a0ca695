"""Clusters that come from no host: what is let through unknown or not at all, and ways to the proxy itself."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from fairlead.compiler.clients import caller
from fairlead.compiler.hosts import PortKey, settings
from fairlead.compiler.outboundports import PRIVILEGED, bound_hosts
from fairlead.compiler.routes_hosts import http_ports
from fairlead.compiler.scope import scope
from fairlead.compiler.sidecars import on_port, outbound_of
from fairlead.envoy import names
from fairlead.envoy.cluster import ClusterPlan, Described, blackhole, cluster
from fairlead.envoy.endpoint import LbEndpoint
from fairlead.envoy.listener import Socket
from fairlead.envoy.resource import Resource
from fairlead.envoy.upstreamtls import origin_tls
from fairlead.inc import Reader, rule
from fairlead.ir.families import Families, application_sources
from fairlead.ir.traffic import Policy
from fairlead.ir.view import View
from fairlead.model.launch import CaptureMode


class FixedKey(NamedTuple):
    """A cluster that every proxy of a capture mode and with the same families of addresses has."""

    name: str
    mode: CaptureMode
    netns: str = ""
    transparent: bool = False
    families: Families = "IPv4"


_LOOPBACK_TIMEOUT = 1.0
"""Seconds to connect to a listener of the same Envoy."""


@rule
def fixed_cluster(r: Reader, key: FixedKey) -> Resource:
    """A cluster that does not come from any host: what is let through unknown, and what is not let through."""
    if key.name == names.BLACKHOLE_CLUSTER:
        return blackhole(key.name)
    mesh = settings(r)
    own = key.name == names.INBOUND_PASSTHROUGH_CLUSTER and not key.transparent
    plan = ClusterPlan(
        key.name,
        # An application that calls its proxy by address has no other destination than the proxy itself.
        "FORWARD" if key.mode == "explicit" or key.name == names.DYNAMIC_CLUSTER else "ORIGINAL_DST",
        "downstream",
        Described(),
        mesh.connect_timeout,
        bind_addresses=application_sources(key.families) if own else (),
        bind_netns=key.netns if own else "",
        keep_case=mesh.headers.keep_case,
        families=key.families,
    )
    said = mesh.outbound_tls if key.name == names.DYNAMIC_CLUSTER else None
    policy = replace(mesh.baseline, outlier=None, tls=said)
    if said is None or said.mode == "DISABLE":
        return cluster(plan, policy)
    # Which names of protocols it offers Envoy decides by the protocol of the request, as long as none are said.
    return cluster(plan, policy, tls=origin_tls(said, http2=False, limits=mesh.other_tls))


@rule
def tunnel_cluster(_: Reader, key: Socket) -> Resource:
    """A cluster from the HTTP proxy's CONNECT to the proxy's own listener for a port, where requests are routed."""
    plan = ClusterPlan(
        names.tunnel_cluster(key.port),
        "STATIC",
        "none",
        Described(),
        _LOOPBACK_TIMEOUT,
        endpoints=(LbEndpoint("", key.address, key.port),),
    )
    return cluster(plan, Policy())


def tunnel_keys(r: Reader, view: View) -> tuple[Socket, ...]:
    """The ports that an explicitly captured application reaches by CONNECT, and that speak HTTP."""
    capture = view.capture
    if capture.mode != "explicit" or not capture.outbound_address:
        return ()
    where = scope(r, caller(r, view).namespace)
    return tuple(
        Socket(capture.outbound_address, port)
        for port in http_ports(r, where)
        if port >= PRIVILEGED and bound_hosts(r, PortKey(on_port(r, where, port), port))
    )


def fixed_keys(r: Reader, view: View) -> tuple[FixedKey, ...]:
    """The clusters that a proxy has whatever hosts there are."""
    mode = view.capture.mode
    wanted = [names.BLACKHOLE_CLUSTER, names.PASSTHROUGH_CLUSTER]
    if view.type == "sidecar" and outbound_of(r, caller(r, view).namespace).mode == "ALLOW_ANY_DYNAMIC_DNS":
        wanted.append(names.DYNAMIC_CLUSTER)
    if view.type == "sidecar" and mode in ("redirect", "netns"):
        wanted.append(names.INBOUND_PASSTHROUGH_CLUSTER)
    return tuple(FixedKey(name, mode, view.capture.netns, view.capture.transparent, view.speaks) for name in wanted)
