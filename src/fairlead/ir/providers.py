"""Fields of MeshConfig's extension providers: external authorizers, tracers, loggers, metrics."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.ir.proxyconfig import Duration
from fairlead.model.names import is_dns_label
from fairlead.model.object import Spec
from fairlead.model.syntax import is_ip, wrong_fqdn


class AuthzRequestBody(Spec, frozen=True):
    """How much of a request's body an authorizer sees."""

    max_request_bytes: Annotated[int, Meta(ge=0)] = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class Backend(Spec, frozen=True):
    """A service of the mesh: `[NAMESPACE/]HOST` and its port."""

    service: Annotated[str, Meta(description="[NAMESPACE/]HOST of a Service or ServiceEntry.")] = ""
    port: Annotated[int, Meta(description="The service's port.")] = 0


def wrong_service(text: str) -> str:
    """Why a backend's `service` names no host, or "" if it does: [NAMESPACE/]HOST, where HOST may be an address."""
    namespace, slash, host = text.rpartition("/")
    if (slash and not is_dns_label(namespace)) or (wrong_fqdn(host) and not is_ip(host)):
        return f"{text!r} is not [NAMESPACE/]HOST"
    return ""


class AuthzGrpc(Backend, frozen=True):
    """An authorizer that speaks Envoy's ext_authz over gRPC."""

    timeout: Duration = ""
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_request_body_in_check: AuthzRequestBody | None = None


class AuthzHttp(Backend, frozen=True):
    """An authorizer that is asked over HTTP."""

    timeout: Duration = ""
    path_prefix: str = ""
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_headers_in_check: tuple[str, ...] = ()
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: dict[str, str] = {}
    include_request_body_in_check: AuthzRequestBody | None = None
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class Header(Spec, frozen=True):
    """A header of requests to a collector: a value, or the variable of the control plane's environment that has it."""

    name: str = ""
    value: str | None = None
    env_name: str = ""


class Zipkin(Backend, frozen=True):
    """A Zipkin collector."""

    max_tag_length: int = 0
    enable_64bit_trace_id: bool = msgspec.field(default=False, name="enable64bitTraceId")
    path: str = ""
    timeout: Duration = ""
    headers: tuple[Header, ...] = ()
    trace_context_option: Literal["", "USE_B3", "USE_B3_WITH_W3C_PROPAGATION"] = ""


class Lightstep(Backend, frozen=True):
    """A Lightstep collector (deprecated)."""

    access_token: str = ""
    max_tag_length: int = 0


class Datadog(Backend, frozen=True):
    """A Datadog agent."""

    max_tag_length: int = 0


class SkyWalking(Backend, frozen=True):
    """A SkyWalking receiver."""

    access_token: str = ""


class Stackdriver(Spec, frozen=True):
    """Stackdriver (deprecated)."""

    debug: bool = False
    max_number_of_attributes: int | None = None
    max_number_of_annotations: int | None = None
    max_number_of_message_events: int | None = None
    max_tag_length: int = 0
    logging: dict[str, Any] | None = None


class OpenCensus(Backend, frozen=True):
    """An OpenCensus agent (deprecated)."""

    context: tuple[str, ...] = ()
    max_tag_length: int = 0


class HttpService(Spec, frozen=True):
    """How traces are sent over HTTP."""

    path: str = ""
    timeout: Duration = ""
    headers: tuple[Header, ...] = ()


class GrpcService(Spec, frozen=True):
    """How traces are sent over gRPC."""

    timeout: Duration = ""
    initial_metadata: tuple[Header, ...] = ()


class DynatraceService(Backend, frozen=True):
    """Where Dynatrace's sampler asks how much to trace."""

    http: HttpService | None = None


class DynatraceSampler(Spec, frozen=True):
    """Dynatrace's adaptive sampling: an environment of it says how much is traced."""

    tenant: Annotated[str, Meta(description="The environment.")] = ""
    cluster_id: Annotated[int, Meta(ge=-2147483648, le=2147483647, description="The cluster in it.")] = 0
    root_spans_per_minute: Annotated[int, Meta(ge=0, description="As long as nothing else is known; 0: 1,000.")] = 0
    http_service: DynatraceService | None = None


class OpenTelemetry(Backend, frozen=True):
    """An OTLP receiver of traces."""

    max_tag_length: int = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: dict[str, Any] | None = None
    dynatrace_sampler: DynatraceSampler | None = None
    service_attribute_enrichment: Literal["", "ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS"] = ""


class LogFormat(Spec, frozen=True):
    """An access log's format: text or fields."""

    text: str = ""
    labels: dict[str, Any] | None = None


class FileLog(Spec, frozen=True):
    """An access log in a file."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: bool = False


class GrpcLog(Backend, frozen=True):
    """An access log service."""

    log_name: str = ""
    filter_state_objects_to_log: tuple[str, ...] = ()
    additional_request_headers_to_log: tuple[str, ...] = ()
    additional_response_headers_to_log: tuple[str, ...] = ()
    additional_response_trailers_to_log: tuple[str, ...] = ()


class OtelLog(Backend, frozen=True):
    """An OTLP receiver of access logs."""

    log_name: str = ""
    log_format: LogFormat | None = None


class Prometheus(Spec, frozen=True):
    """Metrics on the proxies' pages: there is nothing to say."""


class SdsProvider(Backend, frozen=True):
    """A server of certificates and keys (Envoy's SDS over gRPC), for credentials that are named `sds://NAME`."""

    name: Annotated[str, Meta(description="The credential for which it is; others go to the first server.")] = ""


class ExtensionProvider(Spec, frozen=True):
    """A named provider; one of the kinds."""

    name: Annotated[str, Meta(description="By which other objects refer to it.")] = ""
    envoy_ext_authz_http: AuthzHttp | None = None
    envoy_ext_authz_grpc: AuthzGrpc | None = None
    zipkin: Zipkin | None = None
    lightstep: Lightstep | None = None
    datadog: Datadog | None = None
    stackdriver: Stackdriver | None = None
    opencensus: OpenCensus | None = None
    skywalking: SkyWalking | None = None
    opentelemetry: OpenTelemetry | None = None
    prometheus: Prometheus | None = None
    envoy_file_access_log: FileLog | None = None
    envoy_http_als: GrpcLog | None = None
    envoy_tcp_als: GrpcLog | None = None
    envoy_otel_als: OtelLog | None = None
    sds: SdsProvider | None = None
