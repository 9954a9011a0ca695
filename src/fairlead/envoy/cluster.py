"""Clusters: Cluster messages (envoy.config.cluster.v3), with Istio's names and defaults."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.common.matcher.v3.matcher_pb2 import HttpHeadersMatch, MatchPredicate
from envoy.config.core.v3 import base_pb2, config_source_pb2, protocol_pb2
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    client_side_weighted_round_robin_pb2 as wrr_pb2,
)
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration

from fairlead.envoy.endpoint import TLS_MODE, Group, LbEndpoint, assignment, by_locality, socket_address
from fairlead.envoy.forwardproxy import set_forwarding
from fairlead.envoy.headercase import keep_case
from fairlead.envoy.names import HTTP_OPTIONS, stat_name
from fairlead.envoy.pack import framed
from fairlead.envoy.resource import CLUSTER, Resource
from fairlead.envoy.stats import SERVICE_METADATA, service_metadata
from fairlead.envoy.upstreamtls import checks_host, pack, raw_buffer
from fairlead.ir.families import Families
from fairlead.ir.locality import LocalityLb
from fairlead.ir.traffic import (
    ClientTls,
    HttpPool,
    LoadBalancer,
    OutlierDetection,
    Policy,
    RetryBudget,
    TcpKeepalive,
    TcpPool,
    UtilizationLb,
)

_UNLIMITED = 2**32 - 1
_LOOKED_UP = {
    "IPv4": cluster_pb2.Cluster.V4_ONLY,
    "IPv6": cluster_pb2.Cluster.V6_ONLY,
    "dual": cluster_pb2.Cluster.ALL,
}
"""Which addresses of a name are asked for; of ALL Envoy dials one after the other (RFC 8305)."""
_ORIGINATED = ("SIMPLE", "MUTUAL")
_WEIGHTED = "envoy.load_balancing_policies.client_side_weighted_round_robin"
_PROXY_PROTOCOL = "envoy.transport_sockets.upstream_proxy_protocol"

Discovery = Literal["EDS", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST", "STATIC", "FORWARD"]
"""Envoy's cluster types; FORWARD is the dynamic forward proxy, which resolves the name in each request."""

_ZONED = (cluster_pb2.Cluster.ROUND_ROBIN, cluster_pb2.Cluster.LEAST_REQUEST, cluster_pb2.Cluster.RANDOM)
"""Policies that mind zones: a hash chooses among all endpoints."""

Http = Literal["none", "http1", "http2", "auto", "downstream"]


class Described(msgspec.Struct, frozen=True):
    """What a cluster says of itself in its metadata, for logs, metrics and people."""

    host: str = ""
    name: str = ""
    namespace: str = ""
    port: int = 0
    subset: str = ""
    config: str = ""


class ClusterPlan(msgspec.Struct, frozen=True):
    """Everything about a cluster that is not its policy. Times are seconds.

    `bind_addresses` are the local addresses from which endpoints are dialled, one of a family; `bind_netns` is the
    network namespace ("": Envoy's own). `families` are those for which names are looked up. `groups` are the endpoints
    as this caller prefers them, None where it has no preference; `by_locality` has the weights of localities count;
    `zones` says whether Envoy minds them itself. `stat_name` is its name in statistics where that is another one.
    `keep_case` writes HTTP/1.1 headers as the client has written them. `dialled_port` takes the place of the port that
    the client dialled, where its address is dialled (0: none does).
    """

    name: str
    discovery: Discovery
    http: Http
    described: Described
    connect_timeout: float
    endpoints: tuple[LbEndpoint, ...] = ()
    dns_refresh: float = 60
    keepalive: TcpKeepalive | None = None
    bind_addresses: tuple[str, ...] = ()
    bind_netns: str = ""
    groups: tuple[Group, ...] | None = None
    by_locality: bool = False
    zones: LocalityLb | None = None
    stat_name: str = ""
    keep_case: bool = False
    dialled_port: int = 0
    families: Families = "IPv4"


def duration(seconds: float) -> Duration:
    """A protobuf duration, exact to the nanosecond."""
    nanos = round(seconds * 1_000_000_000)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def cluster(
    plan: ClusterPlan,
    policy: Policy,
    *,
    tls: base_pb2.TransportSocket | None = None,
    auto_tls: base_pb2.TransportSocket | None = None,
) -> Resource:
    """The CDS resource. `tls` holds for every endpoint, `auto_tls` for those that are marked as mesh endpoints."""
    message = cluster_pb2.Cluster(name=plan.name, alt_stat_name=stat_name(plan.stat_name or plan.name))
    _discovery(message, plan)
    tcp = policy.tcp or TcpPool()
    connect = tcp.connect_timeout if tcp.connect_timeout is not None else plan.connect_timeout
    message.connect_timeout.CopyFrom(duration(connect))
    if plan.discovery not in ("ORIGINAL_DST", "FORWARD"):
        _load_balancing(message, policy.load_balancer or LoadBalancer())
        if plan.by_locality and message.lb_policy != cluster_pb2.Cluster.CLUSTER_PROVIDED:
            message.common_lb_config.locality_weighted_lb_config.SetInParent()
        elif plan.zones is not None and message.lb_policy in _ZONED and not message.HasField("load_balancing_policy"):
            _zones(message, plan.zones)
    _limits(message, policy, plan.keepalive)
    codes = policy.outlier.error_codes if policy.outlier is not None else ()
    origin = policy.tls if tls is not None and policy.tls is not None and policy.tls.mode in _ORIGINATED else None
    _protocol(message, plan, policy.http or HttpPool(), tcp, codes, origin)
    if policy.outlier is not None:
        _outliers(message, policy.outlier)
    if tls is not None:
        message.transport_socket.CopyFrom(tls)
    elif auto_tls is not None:
        _auto_tls(message, auto_tls)
    if policy.proxy_protocol:
        _proxy_protocol(message, policy.proxy_protocol)
    for at, address in enumerate(plan.bind_addresses):
        bind = socket_address(address, 0, netns=plan.bind_netns).socket_address
        if not at:
            message.upstream_bind_config.source_address.CopyFrom(bind)
        else:
            # Envoy takes the one that is of the endpoint's family.
            message.upstream_bind_config.extra_source_addresses.add().address.CopyFrom(bind)
    _describe(message, plan.described)
    return Resource.of(CLUSTER, plan.name, message.SerializeToString(deterministic=True))


def blackhole(name: str) -> Resource:
    """A cluster without endpoints: what is sent there fails."""
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC)
    message.connect_timeout.seconds = 10
    return Resource.of(CLUSTER, name, message.SerializeToString(deterministic=True))


def _discovery(message: cluster_pb2.Cluster, plan: ClusterPlan) -> None:
    if plan.discovery == "FORWARD":
        set_forwarding(message, plan.families)
        return
    message.type = cluster_pb2.Cluster.DiscoveryType.Value(plan.discovery)
    if plan.discovery == "EDS":
        message.eds_cluster_config.service_name = plan.name
        message.eds_cluster_config.eds_config.ads.SetInParent()
        message.eds_cluster_config.eds_config.resource_api_version = config_source_pb2.ApiVersion.V3
    elif plan.discovery == "ORIGINAL_DST":
        message.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
        if plan.dialled_port:
            message.original_dst_lb_config.upstream_port_override.value = plan.dialled_port
    else:
        message.load_assignment.CopyFrom(
            assignment(plan.name, by_locality(plan.endpoints) if plan.groups is None else plan.groups)
        )
    if plan.discovery in ("STRICT_DNS", "LOGICAL_DNS"):
        # Envoy prefers a typed DNS cluster by now, and warns of these fields. `type` would then be unset: istioctl and
        # other readers of Istio's configuration would show STATIC. So they stay, as in Istio itself, and agents start
        # Envoy with `misc:error`.
        message.dns_lookup_family = _LOOKED_UP[plan.families]
        message.dns_refresh_rate.CopyFrom(duration(plan.dns_refresh))  # pyright: ignore[reportDeprecated]
        message.respect_dns_ttl = True  # pyright: ignore[reportDeprecated]
        message.dns_jitter.CopyFrom(duration(0.1))  # pyright: ignore[reportDeprecated]


def _load_balancing(message: cluster_pb2.Cluster, lb: LoadBalancer) -> None:
    message.common_lb_config.healthy_panic_threshold.value = 0
    if lb.hash is not None:
        _hashing(message, lb)
        return
    if lb.utilization is not None:
        _utilization(message, lb.utilization)
        return
    simple = lb.simple or "LEAST_REQUEST"
    if simple == "PASSTHROUGH":
        message.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
        message.type = cluster_pb2.Cluster.ORIGINAL_DST
        message.ClearField("eds_cluster_config")
        message.ClearField("load_assignment")
        return
    message.lb_policy = cluster_pb2.Cluster.LbPolicy.Value(simple)
    slow_start = cluster_pb2.Cluster.SlowStartConfig()
    if lb.warmup:
        slow_start.slow_start_window.CopyFrom(duration(lb.warmup))
        if lb.warmup_aggression:
            slow_start.aggression.default_value = lb.warmup_aggression
            slow_start.aggression.runtime_key = "upstream.slow_start.aggression"
        if lb.warmup_minimum_percent:
            slow_start.min_weight_percent.value = lb.warmup_minimum_percent
    if lb.warmup and simple == "ROUND_ROBIN":
        message.round_robin_lb_config.slow_start_config.CopyFrom(slow_start)
    elif lb.warmup and simple == "LEAST_REQUEST":
        message.least_request_lb_config.slow_start_config.CopyFrom(slow_start)


def _zones(message: cluster_pb2.Cluster, setting: LocalityLb) -> None:
    """Said of clusters for which it is switched off, too: an Envoy that knows its peers minds zones by itself."""
    zones = message.common_lb_config.zone_aware_lb_config
    zones.routing_enabled.value = 100 if setting.enabled else 0
    if setting.minimum is not None:
        zones.min_cluster_size.value = setting.minimum


def _utilization(message: cluster_pb2.Cluster, lb: UtilizationLb) -> None:
    """Endpoints report their load in answers; until they do all weigh the same."""
    made = wrr_pb2.ClientSideWeightedRoundRobin()
    for field, seconds in (
        (made.blackout_period, lb.blackout),
        (made.weight_expiration_period, lb.expiration),
        (made.weight_update_period, lb.update),
    ):
        if seconds is not None:
            field.CopyFrom(duration(seconds))
    if lb.error_penalty is not None:
        made.error_utilization_penalty.value = lb.error_penalty
    made.metric_names_for_computing_utilization.extend(lb.metrics)
    policy = message.load_balancing_policy.policies.add().typed_extension_config
    policy.name = _WEIGHTED
    policy.typed_config.CopyFrom(pack(made))


def _hashing(message: cluster_pb2.Cluster, lb: LoadBalancer) -> None:
    if lb.balance_factor:
        message.common_lb_config.consistent_hashing_lb_config.hash_balance_factor.value = lb.balance_factor
    if lb.ring_hash:
        message.lb_policy = cluster_pb2.Cluster.RING_HASH
        message.ring_hash_lb_config.minimum_ring_size.value = lb.minimum_ring_size or 1024
    else:
        message.lb_policy = cluster_pb2.Cluster.MAGLEV
        if lb.maglev_table_size:
            message.maglev_lb_config.table_size.value = lb.maglev_table_size


def _limits(message: cluster_pb2.Cluster, policy: Policy, keepalive: TcpKeepalive | None) -> None:
    tcp, http = policy.tcp or TcpPool(), policy.http or HttpPool()
    message.circuit_breakers.thresholds.append(circuit_breaker_pb2.CircuitBreakers.Thresholds(track_remaining=True))
    limits = message.circuit_breakers.thresholds[0]
    limits.max_connections.value = _limit(tcp.max_connections)
    limits.max_pending_requests.value = _limit(http.max_pending_requests)
    limits.max_requests.value = _limit(http.max_requests)
    limits.max_retries.value = _limit(http.max_retries)
    if policy.retry_budget is not None:
        _budget(limits, policy.retry_budget)
    alive = tcp.keepalive or keepalive
    if alive is not None:
        options = message.upstream_connection_options.tcp_keepalive
        if alive.probes:
            options.keepalive_probes.value = alive.probes
        if alive.time:
            options.keepalive_time.value = round(alive.time)
        if alive.interval:
            options.keepalive_interval.value = round(alive.interval)


_BUDGET_INTERVAL = 3
"""The field `budget_interval` of a retry budget: newer than the Python messages."""


def _budget(limits: circuit_breaker_pb2.CircuitBreakers.Thresholds, budget: RetryBudget) -> None:
    """Envoy then looks at the budget, and at no number of retries."""
    limits.ClearField("max_retries")
    limits.retry_budget.budget_percent.value = budget.percent
    limits.retry_budget.min_retry_concurrency.value = budget.minimum
    if budget.interval:
        spell = duration(budget.interval).SerializeToString(deterministic=True)
        limits.retry_budget.MergeFromString(framed(_BUDGET_INTERVAL, spell))


def speaks_http2(plan: ClusterPlan, pool: HttpPool) -> bool:
    """Whether endpoints are spoken to in HTTP/2 and nothing else: their port says so, or who upgrades to it."""
    wanted = plan.http == "http2" or (plan.http != "none" and pool.h2_upgrade == "UPGRADE")
    return wanted and not pool.use_client_protocol


def _limit(value: int | None) -> int:
    return value or _UNLIMITED


def _protocol(
    message: cluster_pb2.Cluster,
    plan: ClusterPlan,
    pool: HttpPool,
    tcp: TcpPool,
    error_codes: tuple[int, ...],
    origin: ClientTls | None,
) -> None:
    http = plan.http
    if http == "none" and tcp.idle_timeout is None and tcp.max_connection_duration is None:
        return
    options = http_protocol_options_pb2.HttpProtocolOptions()
    _connections(options.common_http_protocol_options, pool, tcp)
    h1 = None
    if pool.use_client_protocol or (http == "downstream" and not speaks_http2(plan, pool)):
        h1 = options.use_downstream_protocol_config.http_protocol_options
        h1.SetInParent()
        h2 = options.use_downstream_protocol_config.http2_protocol_options
        h2.SetInParent()
    elif speaks_http2(plan, pool):
        h2 = options.explicit_http_config.http2_protocol_options
        h2.SetInParent()
    elif http == "auto":
        h1 = options.auto_config.http_protocol_options
        h1.SetInParent()
        h2 = options.auto_config.http2_protocol_options
        h2.SetInParent()
    else:
        h1, h2 = options.explicit_http_config.http_protocol_options, None
        h1.SetInParent()
    if h2 is not None and pool.max_concurrent_streams:
        h2.max_concurrent_streams.value = pool.max_concurrent_streams
    if h2 is not None and pool.ping is not None:
        h2.connection_keepalive.interval.CopyFrom(duration(pool.ping.interval))
        h2.connection_keepalive.timeout.CopyFrom(duration(pool.ping.timeout))
    if h1 is not None and plan.keep_case and http != "none":
        keep_case(h1)
    if origin is not None and http != "none" and not origin.sni:
        # The server is called what the request calls it, in TLS too (Istio's defaults).
        options.upstream_http_protocol_options.auto_sni = True
        options.upstream_http_protocol_options.auto_san_validation = checks_host(origin)
    if error_codes and http != "none":
        options.outlier_detection.error_matcher.CopyFrom(_has_status(error_codes))
    plain = options.explicit_http_config.HasField("http_protocol_options")
    if plain and options.ByteSize() == _PLAIN_HTTP_SIZE:
        return
    message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(options))


def _connections(common: protocol_pb2.HttpProtocolOptions, pool: HttpPool, tcp: TcpPool) -> None:
    """How long connections last."""
    idle = pool.idle_timeout if pool.idle_timeout is not None else tcp.idle_timeout
    if idle is not None:
        common.idle_timeout.CopyFrom(duration(idle))
    if tcp.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(duration(tcp.max_connection_duration))
    if pool.max_requests_per_connection:
        common.max_requests_per_connection.value = pool.max_requests_per_connection


def _has_status(codes: tuple[int, ...]) -> MatchPredicate:
    """Responses with one of these statuses."""
    each = [
        MatchPredicate(
            http_response_headers_match=HttpHeadersMatch(
                headers=[HeaderMatcher(name=":status", string_match=StringMatcher(exact=str(code)))]
            )
        )
        for code in codes
    ]
    return each[0] if len(each) == 1 else MatchPredicate(or_match=MatchPredicate.MatchSet(rules=each))


def _plain_size() -> int:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.common_http_protocol_options.SetInParent()
    options.explicit_http_config.http_protocol_options.SetInParent()
    return options.ByteSize()


_PLAIN_HTTP_SIZE = _plain_size()
"""Size of options that say no more than Envoy's default, HTTP/1.1 without limits."""


def _outliers(message: cluster_pb2.Cluster, outlier: OutlierDetection) -> None:
    out = outlier_detection_pb2.OutlierDetection()
    # Istio switches off what it did not ask for: success rate and failure percentage are not part of its API.
    out.enforcing_success_rate.value = 0
    if outlier.consecutive_5xx is not None:
        out.consecutive_5xx.value = outlier.consecutive_5xx
        out.enforcing_consecutive_5xx.value = 100 if outlier.consecutive_5xx else 0
    if outlier.consecutive_gateway is not None:
        out.consecutive_gateway_failure.value = outlier.consecutive_gateway
        out.enforcing_consecutive_gateway_failure.value = 100 if outlier.consecutive_gateway else 0
    if outlier.split_local_origin:
        out.split_external_local_origin_errors = True
        if outlier.consecutive_local_origin is not None:
            out.consecutive_local_origin_failure.value = outlier.consecutive_local_origin
            out.enforcing_consecutive_local_origin_failure.value = 100 if outlier.consecutive_local_origin else 0
        out.enforcing_local_origin_success_rate.value = 0
    if outlier.interval is not None:
        out.interval.CopyFrom(duration(outlier.interval))
    if outlier.base_ejection is not None:
        out.base_ejection_time.CopyFrom(duration(outlier.base_ejection))
    if outlier.max_ejection_percent is not None:
        out.max_ejection_percent.value = outlier.max_ejection_percent
    message.outlier_detection.CopyFrom(out)
    message.common_lb_config.healthy_panic_threshold.value = outlier.min_health_percent or 0


def _auto_tls(message: cluster_pb2.Cluster, socket: base_pb2.TransportSocket) -> None:
    mesh = message.transport_socket_matches.add(name="tlsMode-istio", transport_socket=socket)
    mesh.match.update({TLS_MODE: "istio"})
    plain = message.transport_socket_matches.add(name="tlsMode-disabled", transport_socket=raw_buffer())
    plain.match.CopyFrom(struct_pb2.Struct())


def _proxy_protocol(message: cluster_pb2.Cluster, version: str) -> None:
    def wrap(inner: base_pb2.TransportSocket) -> base_pb2.TransportSocket:
        wrapped = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(transport_socket=inner)
        wrapped.config.version = wrapped.config.Version.Value(version)
        return base_pb2.TransportSocket(name=_PROXY_PROTOCOL, typed_config=pack(wrapped))

    for match in message.transport_socket_matches:
        match.transport_socket.CopyFrom(wrap(match.transport_socket))
    if not message.transport_socket_matches:
        inner = message.transport_socket if message.HasField("transport_socket") else raw_buffer()
        message.transport_socket.CopyFrom(wrap(inner))


def _describe(message: cluster_pb2.Cluster, described: Described) -> None:
    said: dict[str, Any] = {}
    if described.host:
        message.metadata.filter_metadata[SERVICE_METADATA].CopyFrom(
            service_metadata(described.host, described.name, described.namespace)
        )
        service = {"host": described.host, "name": described.name, "namespace": described.namespace}
        said["services"] = [service]
    if described.port:
        said["default_original_port"] = described.port
    if described.subset:
        said["subset"] = described.subset
    if described.config:
        said["config"] = described.config
    if said:
        message.metadata.filter_metadata["istio"].update(said)
