"""The HTTP connection manager as Istio sets it up for sidecars and gateways."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.core.v3.config_source_pb2 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    ExtensionConfigSource,
)
from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.config.route.v3.route_components_pb2 import (
    Decorator,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.grpc_stats.v3.config_pb2 import FilterConfig as GrpcStats
from envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2 import GrpcWeb
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from google.protobuf.wrappers_pb2 import BoolValue
from msgspec.structs import replace

from fairlead.envoy import names
from fairlead.envoy.connections import connect
from fairlead.envoy.extension import DISCOVERED
from fairlead.envoy.forwardproxy import forward_filter
from fairlead.envoy.headercase import keep_case
from fairlead.envoy.ondemand import on_demand_filter
from fairlead.envoy.pack import pack, packed, seconds
from fairlead.envoy.routeretry import retry_policy
from fairlead.envoy.stats import peer_filters, reporter_of
from fairlead.envoy.tracing import Trace, traced
from fairlead.ir.families import Families
from fairlead.ir.filters import Filter
from fairlead.ir.mesh import Mesh
from fairlead.ir.traffic import RetryPolicy

Role = Literal["outbound", "inbound", "gateway"]

CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
CORS_FILTER = "envoy.filters.http.cors"
FAULT_FILTER = "envoy.filters.http.fault"
"""Names under which virtual hosts and routes configure these filters (`typed_per_filter_config`)."""

_SERVER = "istio-envoy"
_FALSE, _TRUE = BoolValue(value=False), BoolValue(value=True)


class InboundRoute(msgspec.Struct, frozen=True):
    """What an inbound connection manager routes to: one cluster, whatever the request.

    `port` is the port that clients call; `operation` names spans. `retry` takes the place of the usual retries; one
    without attempts switches them off.
    """

    cluster: str
    port: int
    operation: str
    retry: RetryPolicy | None = None


class UnknownRoute(msgspec.Struct, frozen=True):
    """What a connection manager routes to that no virtual host is for: one route, whatever the request."""

    name: str
    route: Route


class Http(msgspec.Struct, frozen=True):
    """What tells one connection manager from another.

    `routes` is the name of a route configuration that comes over ADS, or the inbound route.
    """

    role: Role
    stat_prefix: str
    routes: str | InboundRoute | UnknownRoute
    filters: tuple[Filter, ...] = ()
    grpc_web: bool = False
    counts_grpc: bool = True
    """Whether messages of gRPC are counted, for each cluster."""
    http2: bool = False
    proxy: bool = False
    """Whether clients use this as their HTTP proxy: absolute URLs and CONNECT."""
    forward: bool = False
    """Whether requests to unknown hosts are forwarded by name, as there is no original destination."""
    families: Families = "IPv4"
    """Families of the addresses that such names are looked up for."""
    on_demand: bool = False
    """Whether requests wait for clusters that the proxy lacks, and asks for."""
    trace: Trace | None = None
    http3: bool = False
    """Whether it is for a QUIC listener."""


def connection_manager(http: Http, mesh: Mesh, access_logs: Iterable[AccessLog] = ()) -> NetworkFilter:
    """The terminal network filter that speaks HTTP. `access_logs` are appended in the given order."""
    made = _manager(http, mesh, access_logs)
    if isinstance(http.routes, InboundRoute):
        made.route_config.CopyFrom(inbound_routes(http.routes))
    elif isinstance(http.routes, UnknownRoute):
        only = VirtualHost(name=http.routes.name, domains=["*"], routes=[http.routes.route])
        made.route_config.name = http.routes.name
        made.route_config.virtual_hosts.append(only)
        made.route_config.validate_clusters.CopyFrom(_FALSE)
    else:
        made.rds.CopyFrom(_over_ads(http.routes))
    return NetworkFilter(name=CONNECTION_MANAGER, typed_config=pack(made))


def around_routes(http: Http, mesh: Mesh, access_logs: Iterable[AccessLog] = ()) -> tuple[bytes, bytes]:
    """The serialised manager but for its routes (field 4): what stands before and after them. `http.routes` is unused.

    Fields are serialised in the order of their numbers.
    """
    made = _manager(http, mesh, access_logs)
    whole = made.SerializeToString(deterministic=True)
    first = HttpConnectionManager(codec_type=made.codec_type, stat_prefix=made.stat_prefix).SerializeToString()
    return first, whole[len(first) :]


def _manager(http: Http, mesh: Mesh, access_logs: Iterable[AccessLog]) -> HttpConnectionManager:
    """All of a manager but its routes."""
    made = HttpConnectionManager(
        codec_type=HttpConnectionManager.AUTO,
        stat_prefix=http.stat_prefix,
        use_remote_address=_TRUE if http.role == "gateway" else _FALSE,
        stream_idle_timeout=seconds(0),
        generate_request_id=BoolValue(value=mesh.headers.request_id),
        upgrade_configs=[HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        access_log=access_logs,
        http_filters=_filters(http, debug=mesh.headers.debug),
    )
    _normalize(made, mesh)
    _identify(made, http.role, mesh)
    if http.trace is not None:
        traced(made, http.trace, gateway=http.role == "gateway")
    if http.http3:
        made.codec_type = HttpConnectionManager.HTTP3
        made.http3_protocol_options.SetInParent()
    if http.http2:
        made.http2_protocol_options.SetInParent()
    said = mesh.node
    if said.idle_timeout is not None:
        made.common_http_protocol_options.idle_timeout.CopyFrom(seconds(said.idle_timeout))
    if said.http10:
        made.http_protocol_options.accept_http_10 = True
    connect(made, mesh.connections.at(gateway=http.role == "gateway"))
    if http.proxy:
        made.http_protocol_options.allow_absolute_url.value = True
        made.upgrade_configs.add(upgrade_type="CONNECT")
    else:
        # Whether a body is wanted is for the server to say (Istio's default).
        made.proxy_100_continue = True
    return made


_UNSENT = RetryPolicy(attempts=2, retry_on="reset-before-request")


def inbound_routes(route: InboundRoute) -> RouteConfiguration:
    """The inlined routes of an inbound port: no timeout, and retries only where no byte of the request was sent."""
    action = RouteAction(
        cluster=route.cluster,
        timeout=seconds(0),
        max_stream_duration=RouteAction.MaxStreamDuration(
            max_stream_duration=seconds(0), grpc_timeout_header_max=seconds(0)
        ),
    )
    said = route.retry or _UNSENT
    again = retry_policy(replace(said, retry_on=said.retry_on or _UNSENT.retry_on), hashed=True)
    if again is not None:
        again.ClearField("host_selection_retry_max_attempts")  # there is one host
        action.retry_policy.CopyFrom(again)
    only = Route(
        name="default",
        match=RouteMatch(prefix="/"),
        route=action,
        decorator=Decorator(operation=route.operation),
    )
    host = VirtualHost(name=f"inbound|http|{route.port}", domains=["*"], routes=[only])
    return RouteConfiguration(name=route.cluster, virtual_hosts=[host], validate_clusters=_FALSE)


def _added(one: Filter) -> HttpFilter:
    if one.type_url == DISCOVERED:
        return HttpFilter(name=one.name, config_discovery=ExtensionConfigSource.FromString(one.config))
    return HttpFilter(name=one.name, typed_config=packed(one.type_url, one.config))


def _filters(http: Http, *, debug: bool) -> list[HttpFilter]:
    """Peers introduce themselves, then kinds' filters, then Istio's own in Istio's order; the router is last."""
    # First: a request that has waited begins anew, and no filter must have seen it by then.
    made = [on_demand_filter()] if http.on_demand else []
    made += peer_filters(reporter_of(http.role))
    made += [_added(one) for one in http.filters]
    if http.grpc_web:
        made.append(HttpFilter(name="envoy.filters.http.grpc_web", typed_config=pack(GrpcWeb())))
    if http.counts_grpc:
        counts = GrpcStats(emit_filter_state=True, stats_for_all_methods=_FALSE)
        made.append(HttpFilter(name="envoy.filters.http.grpc_stats", typed_config=pack(counts)))
    made.append(HttpFilter(name=FAULT_FILTER, typed_config=pack(HTTPFault())))
    made.append(HttpFilter(name=CORS_FILTER, typed_config=pack(Cors())))
    if http.forward:
        made.append(forward_filter(http.families))
    made.append(
        HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router(suppress_envoy_headers=not debug)))
    )
    return made


def _over_ads(name: str) -> Rds:
    source = ConfigSource(
        ads=AggregatedConfigSource(), initial_fetch_timeout=seconds(0), resource_api_version=ApiVersion.V3
    )
    return Rds(config_source=source, route_config_name=name)


def _normalize(made: HttpConnectionManager, mesh: Mesh) -> None:
    """Paths are brought to one form before policies and routes see them (MeshConfig.pathNormalization)."""
    chosen = mesh.path_normalization
    made.normalize_path.value = chosen != "NONE"
    made.merge_slashes = chosen in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
    made.path_with_escaped_slashes_action = (
        HttpConnectionManager.UNESCAPE_AND_FORWARD
        if chosen == "DECODE_AND_MERGE_SLASHES"
        else HttpConnectionManager.KEEP_UNCHANGED
    )


def _identify(made: HttpConnectionManager, role: Role, mesh: Mesh) -> None:
    """Who the proxy says it is, and what it tells the server about the client's certificate."""
    said = mesh.headers
    if said.server is None:
        made.server_header_transformation = HttpConnectionManager.PASS_THROUGH
    elif said.server or role != "outbound":
        made.server_name = said.server or _SERVER  # Istio's clients keep Envoy's own server name.
    made.append_x_forwarded_port = said.forwarded_port
    if said.keep_case:
        keep_case(made.http_protocol_options)
    if role == "outbound":
        return
    shown = made.set_current_client_cert_details
    shown.subject.value = True
    shown.uri = True
    shown.dns = True
    if role == "inbound":
        chosen = said.client_cert or "APPEND_FORWARD"
        made.forward_client_cert_details = HttpConnectionManager.ForwardClientCertDetails.Value(chosen)
        _show(shown, said.certificate)
    else:
        shown.cert = True
        chosen = mesh.gateway_client_cert or "SANITIZE_SET"
        made.forward_client_cert_details = HttpConnectionManager.ForwardClientCertDetails.Value(chosen)
        made.xff_num_trusted_hops = mesh.num_trusted_proxies
        made.http_protocol_options.SetInParent()


def _show(shown: HttpConnectionManager.SetCurrentClientCertDetails, said: tuple[tuple[str, bool], ...]) -> None:
    """Which parts of a client's certificate X-Forwarded-Client-Cert has."""
    for name, value in said:
        if name == "subject":
            shown.subject.value = value
        else:
            setattr(shown, name, value)


def inbound_stat_prefix(chain: str) -> str:
    """`inbound_0.0.0.0_8080;`."""
    return names.stat_name(f"inbound_{chain}")


def outbound_stat_prefix(listener: str) -> str:
    """`outbound_0.0.0.0_9080;`."""
    return names.stat_name(f"outbound_{listener}")
