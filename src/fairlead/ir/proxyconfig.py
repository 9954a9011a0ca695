"""Fields of Istio's ProxyConfig (`istio.mesh.v1alpha1`): what MeshConfig's `defaultConfig` says of every proxy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.ir.clienttls import ClientTLSSettings
from fairlead.model.object import Spec
from fairlead.model.probe import Probe

ClientCert = Literal["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]
"""Envoy's `ForwardClientCertDetails`."""
Duration = Annotated[str, Meta(description="A duration such as 10s, 1m30s or 250ms.")]


class KeepaliveSettings(Spec, frozen=True):
    """SO_KEEPALIVE on TCP connections."""

    probes: Annotated[int, Meta(ge=0, description="Unanswered probes before the connection is dead.")] = 0
    time: Annotated[Duration, Meta(description="Idle time before the first probe.")] = ""
    interval: Annotated[Duration, Meta(description="Time between probes.")] = ""


class TracerAddress(Spec, frozen=True):
    """Where a tracer is."""

    address: str = ""
    access_token: str = ""


class OpenCensusAgent(Spec, frozen=True):
    """An OpenCensus agent (deprecated)."""

    address: str = ""
    context: tuple[str, ...] = ()


class TagLiteral(Spec, frozen=True):
    """A fixed tag value."""

    value: str = ""


class TagSource(Spec, frozen=True):
    """A tag value from an environment variable or a request header."""

    name: str = ""
    default_value: str = ""


class CustomTag(Spec, frozen=True):
    """A tag of every span; one of the three."""

    literal: TagLiteral | None = None
    environment: TagSource | None = None
    header: TagSource | None = None


class Tracing(Spec, frozen=True):
    """Tracing of requests."""

    zipkin: TracerAddress | None = None
    lightstep: TracerAddress | None = None
    datadog: TracerAddress | None = None
    stackdriver: dict[str, Any] | None = None
    open_census_agent: OpenCensusAgent | None = None
    custom_tags: dict[str, CustomTag] = {}
    max_path_tag_length: int = 0
    sampling: Annotated[float, Meta(description="Percentage of requests that are traced.")] = 1.0
    enable_istio_tags: bool | None = None
    tls_settings: ClientTLSSettings | None = None


class ProxyProtocolSettings(Spec, frozen=True):
    """The PROXY protocol on gateways (its presence switches it on)."""


class Topology(Spec, frozen=True):
    """What stands before a gateway."""

    num_trusted_proxies: Annotated[
        int, Meta(ge=0, description="Proxies before the gateway whose X-Forwarded-For entries are believed.")
    ] = 0
    forward_client_cert_details: ClientCert = "UNDEFINED"
    proxy_protocol: ProxyProtocolSettings | None = None


class KeyMethod(Spec, frozen=True):
    """Hardware that signs."""

    poll_delay: Duration = ""
    fallback: bool | None = None


class Switch(Spec, frozen=True):
    """A header that may be switched off."""

    disabled: Annotated[bool | None, Meta(description="Switches it off.")] = None


class Wanted(Spec, frozen=True):
    """A header that may be switched on."""

    enabled: Annotated[bool | None, Meta(description="Switches it on.")] = None


class ServerHeader(Switch, frozen=True):
    """The header `server` of responses."""

    value: Annotated[str, Meta(description="Its value; default istio-envoy.")] = ""


class CertificateDetails(Spec, frozen=True):
    """Which parts of the client's certificate X-Forwarded-Client-Cert has."""

    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class ExchangeHeaders(Spec, frozen=True):
    """Headers by which proxies introduce their workloads."""

    mode: Annotated[
        Literal["UNDEFINED", "IN_MESH"], Meta(description="Here it is always IN_MESH: hosts outside never get them.")
    ] = "UNDEFINED"


class ProxyHeadersSpec(Spec, frozen=True):
    """Headers that proxies add."""

    forwarded_client_cert: Annotated[
        ClientCert, Meta(description="What becomes of X-Forwarded-Client-Cert; default APPEND_FORWARD.")
    ] = "UNDEFINED"
    set_current_client_cert_details: Annotated[
        CertificateDetails | None, Meta(description="Which parts of the client's certificate it has.")
    ] = None
    request_id: Annotated[Switch | None, Meta(description="X-Request-Id, where a request has none.")] = None
    server: Annotated[ServerHeader | None, Meta(description="The header `server` of responses.")] = None
    attempt_count: Annotated[Switch | None, Meta(description="X-Envoy-Attempt-Count.")] = None
    envoy_debug_headers: Annotated[
        Switch | None, Meta(description="X-Envoy-Upstream-Service-Time and what else starts with X-Envoy.")
    ] = None
    metadata_exchange_headers: Annotated[
        ExchangeHeaders | None, Meta(description="Headers by which proxies introduce their workloads.")
    ] = None
    x_forwarded_host: Annotated[
        Wanted | None, Meta(description="X-Forwarded-Host, where the host of a request is rewritten.")
    ] = None
    x_forwarded_port: Annotated[
        Wanted | None, Meta(description="X-Forwarded-Port: the port at which the client has called.")
    ] = None
    preserve_http1_header_case: Annotated[
        bool | None, Meta(description="HTTP/1.1 headers are passed on as they were written, not in lower case.")
    ] = None


Bytes = Annotated[int, Meta(ge=0, le=2147483647)]
Window = Annotated[int, Meta(ge=65535, le=2147483647)]
"""Bytes of an HTTP/2 window: what RFC 9113 begins with is the least that Envoy takes."""


class ConnectionSettings(Spec, frozen=True):
    """How a proxy treats its clients' connections; what is not said stays as it is.

    Istio's `ProxyConfig.ConnectionSettings`, since 1.31.
    """

    profile: Annotated[
        Literal["PROFILE_UNSPECIFIED", "SIDECAR", "EDGE"],
        Meta(description="EDGE: gateways have what Envoy recommends for clients that nobody knows."),
    ] = "PROFILE_UNSPECIFIED"
    listener_per_connection_buffer_limit_bytes: Annotated[
        Bytes | None, Meta(description="Bytes of a client's connection that are kept in memory at most.")
    ] = None
    cluster_per_connection_buffer_limit_bytes: Annotated[
        Bytes | None, Meta(description="Bytes of a connection to a server that are kept in memory at most.")
    ] = None
    http_idle_timeout: Annotated[
        Duration, Meta(description="Connections without a request are closed after it; 0s: never.")
    ] = ""
    http_max_connection_duration: Annotated[Duration, Meta(description="Connections are closed after it.")] = ""
    http_max_stream_duration: Annotated[Duration, Meta(description="Requests end after it, whatever they do.")] = ""
    http_stream_idle_timeout: Annotated[
        Duration, Meta(description="Requests of which nothing moves end after it; 0s: never (default).")
    ] = ""
    http_request_timeout: Annotated[Duration, Meta(description="Whole requests have arrived by then.")] = ""
    http_request_headers_timeout: Annotated[Duration, Meta(description="Headers have arrived by then.")] = ""
    http_drain_timeout: Annotated[
        Duration, Meta(description="Time between the two notes by which HTTP/2 connections end.")
    ] = ""
    http_max_concurrent_streams: Annotated[
        Annotated[int, Meta(ge=1, le=2147483647)] | None,
        Meta(description="Requests of an HTTP/2 connection at one time."),
    ] = None
    http2_initial_stream_window_size: Annotated[
        Window | None, Meta(description="Bytes of an HTTP/2 request that may be on their way.")
    ] = None
    http2_initial_connection_window_size: Annotated[
        Window | None, Meta(description="Bytes of an HTTP/2 connection that may be on their way.")
    ] = None
    http_headers_with_underscores_action: Annotated[
        Literal[
            "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
            "HEADERS_WITH_UNDERSCORES_ALLOW",
            "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
            "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
        ],
        Meta(description="What becomes of headers with _ in their names."),
    ] = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED"
    http_merge_slashes: Annotated[
        bool | None, Meta(description="Slashes that follow each other in paths count as one.")
    ] = None
    http_path_with_escaped_slashes_action: Annotated[
        Literal[
            "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
            "KEEP_UNCHANGED",
            "REJECT_REQUEST",
            "UNESCAPE_AND_REDIRECT",
            "UNESCAPE_AND_FORWARD",
        ],
        Meta(description="What becomes of %2F and %5C in paths."),
    ] = "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED"
    global_downstream_connection_limit: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Connections that a proxy takes at one time at most.")
    ] = None


class PrivateKeyProvider(Spec, frozen=True):
    """Hardware acceleration of private key operations."""

    cryptomb: KeyMethod | None = None
    qat: KeyMethod | None = None


class RemoteService(Spec, frozen=True):
    """A service that Envoy reports to."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    tcp_keepalive: KeepaliveSettings | None = None


class StatsMatcher(Spec, frozen=True):
    """Further Envoy statistics to create."""

    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


class SDS(Spec, frozen=True):
    """Removed from Istio long ago; still decoded."""

    enabled: bool = False
    k8s_sa_jwt_path: str = ""


class ProxyImage(Spec, frozen=True):
    """The proxy's image."""

    image_type: str = ""


class ProxyConfig(Spec, frozen=True):
    """Settings of every proxy, read when a proxy starts."""

    config_path: str = ""
    binary_path: str = ""
    service_cluster: str = ""
    tracing_service_name: Literal["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"] = (
        "APP_LABEL_AND_NAMESPACE"
    )
    drain_duration: Annotated[Duration, Meta(description="How long connections may take to end.")] = ""
    parent_shutdown_duration: Duration = ""
    discovery_address: str = ""
    discovery_refresh_delay: Duration = ""
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    proxy_admin_port: int = 15000
    availability_zone: str = ""
    control_plane_auth_policy: Literal["NONE", "MUTUAL_TLS", "INHERIT"] = "MUTUAL_TLS"
    custom_config_file: str = ""
    stat_name_length: int = 189
    concurrency: Annotated[
        Annotated[int, Meta(ge=0, le=2147483647)] | None,
        Meta(description="Worker threads of Envoy; 0: one for each core."),
    ] = None
    proxy_bootstrap_template_path: str = ""
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] = "REDIRECT"
    tracing: Tracing | None = None
    sds: SDS | None = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    proxy_metadata: dict[str, str] = {}
    runtime_values: dict[str, str] = {}
    status_port: int = 15020
    extra_stat_tags: tuple[str, ...] = ()
    gateway_topology: Annotated[Topology | None, Meta(description="What stands before a gateway.")] = None
    termination_drain_duration: Duration = ""
    mesh_id: str = ""
    readiness_probe: Probe | None = None
    proxy_stats_matcher: StatsMatcher | None = None
    hold_application_until_proxy_starts: bool | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    image: ProxyImage | None = None
    private_key_provider: PrivateKeyProvider | None = None
    proxy_headers: Annotated[ProxyHeadersSpec | None, Meta(description="Headers that proxies add.")] = None
    stats_compression: bool | None = None
    file_flush_interval: Duration = ""
    file_flush_min_size_kb: int | None = msgspec.field(default=None, name="fileFlushMinSizeKb")
    connection_settings: Annotated[
        ConnectionSettings | None, Meta(description="How clients' connections are treated.")
    ] = None
