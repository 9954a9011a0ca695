"""Every field of every kind is read where objects become facts, or stands in a list with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from msgspec import inspect

import fairlead
from fairlead.compiler.registry import registry
from fairlead.ir.meshnetworks import MeshNetworks
from fairlead.ir.meshspec import MeshConfig

SOURCES = Path(fairlead.__file__).parent
ACTING = ("agent", "ir", "model")
"""Packages in which what kinds share is read."""
ASKING = ("validate", "unreachable", "columns", "status", "spec")
"""Modules of a kind that only look at an object."""


def structs(info: inspect.Type, found: dict[type, tuple[str, ...]]) -> None:
    """The structs of a type, with the names of their fields in Python and in JSON."""
    if isinstance(info, inspect.Metadata):
        structs(info.type, found)
    elif isinstance(info, inspect.StructType) and info.cls not in found:
        found[info.cls] = tuple(one.name for one in info.fields)
        for one in info.fields:
            structs(one.type, found)
    elif isinstance(info, inspect.UnionType):
        for one in info.types:
            structs(one, found)
    elif isinstance(info, inspect.DictType):
        structs(info.value_type, found)
    elif isinstance(info, inspect.ListType | inspect.VarTupleType):
        structs(info.item_type, found)


def _judges(node: ast.AST) -> bool:
    """Whether a function says what is wrong with an object: what it reads has no effect for that."""
    return isinstance(node, ast.FunctionDef) and node.returns is not None and "Problem" in ast.unparse(node.returns)


def _read(node: ast.AST) -> Iterator[str]:
    if _judges(node):
        return
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield node.attr
    for one in ast.iter_child_nodes(node):
        yield from _read(one)


@cache
def read_in(path: Path) -> frozenset[str]:
    """The attributes that a module reads to act on them."""
    return frozenset(_read(ast.parse(path.read_text())))


def _modules(home: str) -> list[Path]:
    """Where the fields of structs of a module are read, if anywhere."""
    if home.startswith("fairlead.kinds."):
        folder = SOURCES / "kinds" / home.split(".")[2]
        return [one for one in folder.glob("*.py") if not one.stem.startswith(ASKING)]
    kinds = [one for one in SOURCES.glob("kinds/*/*.py") if not one.stem.startswith(ASKING)]
    return [*kinds, *(one for name in ACTING for one in (SOURCES / name).glob("**/*.py"))]


def unread(spec: type) -> set[str]:
    """Fields of a kind, or of another document, that nobody reads to act on them."""
    found: dict[type, tuple[str, ...]] = {}
    structs(inspect.type_info(spec), found)
    return {
        f"{one.__name__}.{name}"
        for one, fields in found.items()
        for name in fields
        if not any(name in read_in(module) for module in _modules(one.__module__))
    }


BY_NAME = {
    "CertificateDetails": "ir.headers goes over its fields",
    "Condition": "kinds.authorizationpolicy.lower takes a field and its `not` by name",
    "Operation": "kinds.authorizationpolicy.lower takes a field and its `not` by name",
    "Source": "kinds.authorizationpolicy.lower takes a field and its `not` by name",
    "WasmPlugin": "kinds.wasmplugin.lower makes a Module of it",
    "WorkloadGroup": "controlplane.enrolment and node read it as model.group.GroupSpec",
}
"""Structs whose fields are read without being named, and where."""
INSIDE = {
    "CA": "ca gets a warning",
    "Certificate": "certificates gets a warning",
    "ConfigSource": "configSources gets a warning",
    "KeyMethod": "privateKeyProvider gets a warning",
    "PrivateKeyProvider": "privateKeyProvider gets a warning",
    "ProxyImage": "image gets a warning",
    "SDS": "sds gets a warning",
    "ServiceScope": "serviceScopeConfigs gets a warning",
    "Stackdriver": "stackdriver gets a warning",
}
"""Structs that stand only in fields of which nothing is made."""
WITHOUT_EFFECT = {
    "ExtensionProvider": "lightstep opencensus stackdriver",
    "FaultAbort": "http2_error",
    "FaultDelay": "exponential_delay",
    "IngressTls": "alpn_protocols ca_cert_credential_name ca_crl credential_name credential_names ecdh_curves"
    " https_redirect subject_alt_names tls_certificates",
    "L4MatchAttributes": "source_subnet",
    "MeshConfig": "ca certificates compliance_policy config_sources hbone_idle_timeout"
    " service_scope_configs verify_certificate_at_client",
    "Metrics": "reporting_interval",
    "Module": "verification_key",
    "OutlierDetection": "consecutive_errors",
    "Port": "target_port",
    "ProxyConfig": "availability_zone binary_path config_path control_plane_auth_policy custom_config_file"
    " discovery_address discovery_refresh_delay envoy_metrics_service_address hold_application_until_proxy_starts image"
    " interception_mode parent_shutdown_duration private_key_provider proxy_admin_port proxy_bootstrap_template_path"
    " sds stat_name_length",
    "ProxyConfigSpec": "image",
    # Names of workloads never leave the mesh, whatever is said.
    "ProxyHeadersSpec": "metadata_exchange_headers",
    "Server": "default_endpoint",
    "SidecarPort": "target_port",
    "Tracing": "lightstep open_census_agent stackdriver",
}
"""Fields that are refused or get a warning, since nothing is made of them (why, the message says)."""
ISTIO: tuple[type, ...] = (*(one.spec for one in registry().kinds if one.group.endswith("istio.io")), MeshNetworks)


def test_every_field_is_acted_on_or_has_a_reason() -> None:
    listed = {f"{name}.{field}" for name, fields in WITHOUT_EFFECT.items() for field in fields.split()}
    every = set[str]().union(*map(unread, ISTIO))
    missing = {one for one in every - listed if one.partition(".")[0] not in (*BY_NAME, *INSIDE)}
    assert not missing, "nobody reads them to act on them"
    # `ca` and `sds` are also names of something else that is read.
    assert listed - every <= {"MeshConfig.ca", "ProxyConfig.sds"}, "they are acted on, so they need no reason"
    assert {*BY_NAME, *INSIDE} == {one.partition(".")[0] for one in every - listed}


MESH = {
    "AuthzGrpc": "clear_route_cache fail_open include_request_body_in_check port service status_on_error timeout",
    "AuthzHttp": "clear_route_cache fail_open headers_to_downstream_on_allow "
    "headers_to_downstream_on_deny headers_to_upstream_on_allow "
    "include_additional_headers_in_check include_headers_in_check "
    "include_request_body_in_check include_request_headers_in_check path_prefix port "
    "service status_on_error timeout",
    "AuthzRequestBody": "allow_partial_message max_request_bytes pack_as_bytes",
    "CA": "address istiod_side request_timeout tls_settings",
    "Certificate": "dns_names secret_name",
    "CertificateData": "cert_signers pem spiffe_bundle_url trust_domains",
    "CertificateDetails": "cert chain dns subject uri",
    "ClientTLSSettings": "ca_certificates ca_crl client_certificate credential_name insecure_skip_verify "
    "mode private_key sni subject_alt_names",
    "ConfigSource": "address subscribed_resources tls_settings",
    "ConnectionPoolSettings": "http tcp",
    "ConnectionSettings": "cluster_per_connection_buffer_limit_bytes global_downstream_connection_limit "
    "http2_initial_connection_window_size http2_initial_stream_window_size "
    "http_drain_timeout http_headers_with_underscores_action http_idle_timeout "
    "http_max_concurrent_streams http_max_connection_duration http_max_stream_duration "
    "http_merge_slashes http_path_with_escaped_slashes_action "
    "http_request_headers_timeout http_request_timeout http_stream_idle_timeout "
    "listener_per_connection_buffer_limit_bytes profile",
    "CustomTag": "environment header literal",
    "Datadog": "max_tag_length port service",
    "DefaultProviders": "access_logging metrics tracing",
    "DefaultTrafficPolicy": "connection_pool outlier_detection",
    "Distribute": "from to",
    "DynatraceSampler": "cluster_id http_service root_spans_per_minute tenant",
    "DynatraceService": "http port service",
    "ExchangeHeaders": "mode",
    "Exec": "command",
    "ExtensionProvider": "datadog envoy_ext_authz_grpc envoy_ext_authz_http envoy_file_access_log "
    "envoy_http_als envoy_otel_als envoy_tcp_als lightstep name opencensus "
    "opentelemetry prometheus sds skywalking stackdriver zipkin",
    "Failover": "from to",
    "FileLog": "log_format omit_empty_values path",
    "GRPCCheck": "port service",
    "GatewaySpec": "address locality port registry_service_name",
    "GrpcLog": "additional_request_headers_to_log additional_response_headers_to_log "
    "additional_response_trailers_to_log filter_state_objects_to_log log_name port "
    "service",
    "GrpcService": "initial_metadata timeout",
    "HTTPGet": "host http_headers path port scheme",
    "HTTPHeader": "name value",
    "HTTPRetry": "attempts backoff per_try_timeout retry_ignore_previous_hosts retry_on retry_remote_localities",
    "HTTPSettings": "h2_upgrade_policy http1_max_pending_requests http2_keep_alive http2_max_requests "
    "idle_timeout max_concurrent_streams max_requests_per_connection max_retries "
    "use_client_protocol",
    "Header": "env_name name value",
    "Http2KeepAlive": "interval timeout",
    "HttpService": "headers path timeout",
    "InboundTrafficPolicy": "mode",
    "KeepaliveSettings": "interval probes time",
    "KeyMethod": "fallback poll_delay",
    "LabelExpression": "key operator values",
    "LabelSelector": "match_expressions match_labels",
    "Lightstep": "access_token max_tag_length port service",
    "LocalityLoadBalancerSetting": "distribute enabled failover failover_priority",
    "LogFormat": "labels text",
    "MeshConfig": "access_log_encoding access_log_file access_log_format ca ca_certificates "
    "certificates compliance_policy config_sources connect_timeout default_config "
    "default_destination_rule_export_to default_http_retry_policy "
    "default_inbound_http_retry_policy default_providers default_service_export_to "
    "default_traffic_policy default_virtual_service_export_to "
    "disable_envoy_listener_log discovery_selectors dns_refresh_rate enable_auto_mtls "
    "enable_envoy_access_log_service enable_prometheus_merge enable_tracing "
    "extension_providers h2_upgrade_policy hbone_idle_timeout inbound_cluster_stat_name "
    "inbound_traffic_policy ingress_class ingress_controller_mode ingress_selector "
    "ingress_service locality_lb_setting mesh_mtls outbound_cluster_stat_name "
    "outbound_traffic_policy path_normalization protocol_detection_timeout "
    "proxy_http_port proxy_inbound_listen_port proxy_listen_port root_namespace "
    "service_entry_visibility service_scope_configs service_settings tcp_keepalive "
    "tls_defaults trust_domain trust_domain_aliases verify_certificate_at_client "
    "zone_aware_lb_setting",
    "MeshNetworks": "networks",
    "NetworkEndpoints": "from_cidr from_registry",
    "NetworkSpec": "endpoints gateways",
    "OpenCensus": "context max_tag_length port service",
    "OpenCensusAgent": "address context",
    "OpenTelemetry": "dynatrace_sampler grpc http max_tag_length port resource_detectors service "
    "service_attribute_enrichment",
    "OtelLog": "log_format log_name port service",
    "OutboundTrafficPolicy": "mode tls",
    "OutlierDetection": "base_ejection_time consecutive_5xx_errors consecutive_errors "
    "consecutive_gateway_errors consecutive_local_origin_failures interval "
    "max_ejection_percent min_health_percent outlier_detection_http_error_codes "
    "split_external_local_origin_errors",
    "PathNormalization": "normalization",
    "PrivateKeyProvider": "cryptomb qat",
    "Probe": "exec failure_threshold grpc http_get initial_delay_seconds period_seconds "
    "success_threshold tcp_socket timeout_seconds",
    "Prometheus": "",
    "ProxyConfig": "availability_zone binary_path ca_certificates_pem concurrency config_path "
    "connection_settings control_plane_auth_policy custom_config_file discovery_address "
    "discovery_refresh_delay drain_duration envoy_access_log_service "
    "envoy_metrics_service envoy_metrics_service_address extra_stat_tags "
    "file_flush_interval file_flush_min_size_kb gateway_topology "
    "hold_application_until_proxy_starts image interception_mode mesh_id "
    "parent_shutdown_duration private_key_provider proxy_admin_port "
    "proxy_bootstrap_template_path proxy_headers proxy_metadata proxy_stats_matcher "
    "readiness_probe runtime_values sds service_cluster stat_name_length "
    "stats_compression statsd_udp_address status_port termination_drain_duration "
    "tracing tracing_service_name zipkin_address",
    "ProxyHeadersSpec": "attempt_count envoy_debug_headers forwarded_client_cert metadata_exchange_headers "
    "preserve_http1_header_case request_id server set_current_client_cert_details "
    "x_forwarded_host x_forwarded_port",
    "ProxyImage": "image_type",
    "ProxyProtocolSettings": "",
    "RemoteService": "address tcp_keepalive tls_settings",
    "SDS": "enabled k8s_sa_jwt_path",
    "SdsProvider": "name port service",
    "ServerHeader": "disabled value",
    "ServiceEntryVisibility": "apply_to_sidecars default_visibility policies",
    "ServiceFlags": "cluster_local",
    "ServiceScope": "namespace_selector scope services_selector",
    "ServiceSettings": "hosts settings",
    "SkyWalking": "access_token port service",
    "Stackdriver": "debug logging max_number_of_annotations max_number_of_attributes "
    "max_number_of_message_events max_tag_length",
    "StatsMatcher": "inclusion_prefixes inclusion_regexps inclusion_suffixes",
    "Switch": "disabled",
    "TCPSettings": "connect_timeout idle_timeout max_connection_duration max_connections tcp_keepalive",
    "TCPSocket": "host port",
    "TLSConfig": "cipher_suites ecdh_curves min_protocol_version",
    "TagLiteral": "value",
    "TagSource": "default_value name",
    "TcpKeepalive": "interval probes time",
    "Topology": "forward_client_cert_details num_trusted_proxies proxy_protocol",
    "TracerAddress": "access_token address",
    "Tracing": "custom_tags datadog enable_istio_tags lightstep max_path_tag_length "
    "open_census_agent sampling stackdriver tls_settings zipkin",
    "VisibilityPolicy": "matching_rules visibility",
    "VisibilityRule": "namespace_selector",
    "Wanted": "enabled",
    "Zipkin": "enable_64bit_trace_id headers max_tag_length path port service timeout trace_context_option",
    "ZoneAwareLoadBalancerSetting": "enabled failover failover_priority min_cluster_size",
}
"""Fields that Istio knows in MeshConfig, ProxyConfig and MeshNetworks (`istio.mesh.v1alpha1` of 1.31, and what it
takes of other packages), by our structs. A field that is not decoded would be refused as unknown."""


def test_every_field_of_the_meshs_settings_is_known() -> None:
    found: dict[type, tuple[str, ...]] = {}
    for one in (MeshConfig, MeshNetworks):
        structs(inspect.type_info(one), found)
    known = {one.__name__: {name.removesuffix("_") for name in fields} for one, fields in found.items()}
    own = known.pop("FairleadSettings")
    assert own and "fairlead" in known["MeshConfig"]
    known["MeshConfig"].remove("fairlead")
    assert known == {name: set(fields.split()) for name, fields in MESH.items()}
