"""The TCP proxy, and network filters before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.config_source_pb2 import ExtensionConfigSource
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.network.sni_cluster.v3.sni_cluster_pb2 import SniCluster
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.type.v3.hash_policy_pb2 import HashPolicy

from fairlead.envoy import names
from fairlead.envoy.extension import DISCOVERED
from fairlead.envoy.forwardproxy import sni_forward_filter
from fairlead.envoy.pack import pack, packed, seconds
from fairlead.envoy.rbac import NETWORK_RBAC
from fairlead.envoy.rbac_match import regex
from fairlead.envoy.upstreamtls import TCP_MESH_ALPN
from fairlead.ir.families import Families
from fairlead.ir.filters import Filter
from fairlead.ir.traffic import Tunnel

_ALPN_KEY = "envoy.network.application_protocols"


class TcpTarget(msgspec.Struct, frozen=True):
    """Where connections go: clusters with weights (one cluster takes all), and the name in statistics.

    Times are seconds; None leaves Envoy's default. `hash_source_ip` is for consistent hashing by source address.
    `detected` says that the clusters serve HTTP and other bytes alike (see `forwarding`). With `tunnel` the clusters
    are HTTP proxies that are asked for a tunnel. With `sni_port` the client's SNI is looked up (for addresses of
    `families`), and that port dialled.
    """

    clusters: tuple[tuple[str, int], ...]
    stat_prefix: str = ""
    idle_timeout: float | None = None
    max_connection_duration: float | None = None
    hash_source_ip: bool = False
    detected: bool = False
    tunnel: Tunnel | None = None
    sni_port: int = 0
    families: Families = "IPv4"


def to_cluster(name: str, stat_prefix: str = "") -> TcpTarget:
    """Everything to one cluster."""
    return TcpTarget(((name, 1),), stat_prefix)


BLACK_HOLE = to_cluster(names.BLACKHOLE_CLUSTER)


def by_server_name(
    hosts: Iterable[str], fragments: Sequence[Filter], access_logs: Iterable[AccessLog]
) -> list[NetworkFilter]:
    """The filters of a chain that forwards bytes to the cluster that the client's SNI names, if there is one.

    It must be one for mesh mTLS to a host that one of the patterns covers: a client that could name any cluster would
    be taken into the mesh by those that have the gateway's own identity.
    """
    named = [Permission(requested_server_name=regex(names.dns_srv_pattern(one))) for one in hosts]
    only = Policy(permissions=named, principals=[Principal(any=True)])
    rules = rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW, policies={"server names": only})
    guard = network_pb2.RBAC(stat_prefix="server_names.", rules=rules)
    chooser = NetworkFilter(name="envoy.filters.network.sni_cluster", typed_config=pack(SniCluster()))
    return [
        NetworkFilter(name=NETWORK_RBAC, typed_config=pack(guard)),
        chooser,
        *forwarding(BLACK_HOLE, fragments, access_logs),
    ]


def tcp_proxy(target: TcpTarget, access_logs: Iterable[AccessLog] = ()) -> NetworkFilter:
    """The terminal network filter that forwards bytes to `target`."""
    weighted = [(name, weight) for name, weight in target.clusters if weight > 0]
    made = TcpProxy(stat_prefix=target.stat_prefix or target.clusters[0][0], access_log=access_logs)
    # Connections are counted when they open, too: the log must be written then.
    made.access_log_options.flush_access_log_on_connected = True
    if len(weighted) > 1:
        for name, weight in weighted:
            made.weighted_clusters.clusters.add(name=name, weight=weight)
    else:
        made.cluster = (weighted or target.clusters)[0][0]
    if target.idle_timeout is not None:
        made.idle_timeout.CopyFrom(seconds(target.idle_timeout))
    if target.max_connection_duration is not None:
        made.max_downstream_connection_duration.CopyFrom(seconds(target.max_connection_duration))
    if target.hash_source_ip:
        made.hash_policy.append(HashPolicy(source_ip=HashPolicy.SourceIp()))
    if target.tunnel is not None:
        made.tunneling_config.hostname = target.tunnel.target
        made.tunneling_config.use_post = target.tunnel.post
    return NetworkFilter(name="envoy.filters.network.tcp_proxy", typed_config=pack(made))


def forwarding(
    target: TcpTarget,
    fragments: Sequence[Filter] = (),
    access_logs: Iterable[AccessLog] = (),
    idle_timeout: float | None = None,
) -> list[NetworkFilter]:
    """The filters of a chain that forwards bytes: kinds' filters, then the TCP proxy.

    `idle_timeout` (seconds) holds where the target does not say one.

    Ports whose protocol is detected have one cluster for HTTP and other bytes; only the listener knows what was
    detected, so it has mesh mTLS offer the protocol names for TCP. The server's filter chains are chosen by them.
    """
    marker = [_mesh_tcp_marker()] if target.detected else []
    made = [_added(one) for one in fragments]
    looked_up = [sni_forward_filter(target.sni_port, target.families)] if target.sni_port else []
    if target.idle_timeout is None and idle_timeout is not None:
        target = msgspec.structs.replace(target, idle_timeout=idle_timeout)
    return [*marker, *made, *looked_up, tcp_proxy(target, access_logs)]


def _added(one: Filter) -> NetworkFilter:
    if one.type_url == DISCOVERED:
        return NetworkFilter(name=one.name, config_discovery=ExtensionConfigSource.FromString(one.config))
    return NetworkFilter(name=one.name, typed_config=packed(one.type_url, one.config))


def _mesh_tcp_marker() -> NetworkFilter:
    value = FilterStateValue(
        object_key=_ALPN_KEY,
        format_string=SubstitutionFormatString(
            text_format_source=DataSource(inline_string=",".join(TCP_MESH_ALPN)),
        ),
        shared_with_upstream=FilterStateValue.ONCE,
    )
    return NetworkFilter(
        name="envoy.filters.network.set_filter_state", typed_config=pack(SetFilterState(on_new_connection=[value]))
    )
