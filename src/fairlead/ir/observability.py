"""Tracers and loggers that MeshConfig names (`extensionProviders`), and which of them count by default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.address import Address
from fairlead.ir.filters import Pairs
from fairlead.ir.meshspec import MeshConfig
from fairlead.ir.providers import (
    Backend,
    DynatraceSampler,
    ExtensionProvider,
    FileLog,
    GrpcLog,
    GrpcService,
    Header,
    HttpService,
    LogFormat,
    OpenTelemetry,
    OtelLog,
    Zipkin,
    wrong_service,
)
from fairlead.ir.proxyconfig import CustomTag, ProxyConfig, TracerAddress
from fairlead.ir.proxyconfig import Tracing as ProxyTracing
from fairlead.ir.tag import Tag
from fairlead.model.duration import is_duration, parse_duration

VARIABLES: Table[str, str] = Table("variables")
"""Variables of the control plane's environment that providers ask for: an input."""
PROMETHEUS = "prometheus"
ENVOY = "envoy"
"""Names of the providers that are there without being named."""
_REMOVED = {
    "lightstep": "Send OTLP to it: use opentelemetry.",
    "opencensus": "Use opentelemetry: OpenCensus agents have an OTLP receiver.",
    "stackdriver": "Use opentelemetry, with a collector that exports to Google Cloud.",
}
"""Kinds of providers that Envoy has removed (Istio has, too), and what to use instead."""
_CONTEXTS = ("USE_B3", "USE_B3_WITH_W3C_PROPAGATION")


class Sampler(msgspec.Struct, frozen=True):
    """Dynatrace's sampler: it asks a service how much to trace; `address` None: the one that spans go to."""

    tenant: str
    cluster: int
    spans_per_minute: int = 0
    address: Address | None = None
    path: str = "/api/v2/samplingConfiguration"
    headers: Pairs = ()
    variables: Pairs = ()
    timeout: float = 0


class Tracer(msgspec.Struct, frozen=True):
    """Where spans go, and how.

    `path` is for requests over HTTP, None for gRPC (opentelemetry). `variables` are further headers, with the variable
    of the control plane's environment that has the value. Times are seconds, 0: the default.
    """

    kind: Literal["zipkin", "opentelemetry", "datadog", "skywalking"]
    address: Address
    path: str | None = None
    headers: Pairs = ()
    variables: Pairs = ()
    timeout: float = 0
    short_ids: bool = False
    with_w3c: bool = False
    token: str = ""
    detectors: tuple[str, ...] = ()
    sampler: Sampler | None = None
    max_tag_length: int = 0


class Logger(msgspec.Struct, frozen=True):
    """Where access logs go, and how.

    `fields` (JSON text of an object) wins over `text`; both empty: Istio's format. An object without fields stands for
    Istio's fields.
    """

    kind: Literal["file", "http", "tcp", "opentelemetry"]
    address: Address | None = None
    path: str = ""
    log_name: str = ""
    text: str = ""
    fields: str = ""
    omit_empty: bool = False
    filter_state: tuple[str, ...] = ()
    headers: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())
    """Further request headers, response headers and response trailers to log."""


class ProxyTraces(msgspec.Struct, frozen=True):
    """What ProxyConfig says of traces: where spans go if nobody else says, how many, and with what (percent)."""

    tracer: Tracer | None = None
    sampling: float = 1.0
    tags: tuple[Tag, ...] = ()
    mesh_tags: bool = True
    max_path_length: int = 0


class Observability(msgspec.Struct, frozen=True):
    """The mesh's tracers and loggers by name, and what holds where no Telemetry object says otherwise."""

    tracers: tuple[tuple[str, Tracer], ...] = ()
    loggers: tuple[tuple[str, Logger], ...] = ()
    metrics: tuple[str, ...] = (PROMETHEUS,)
    """Providers of metrics, by name."""
    others: tuple[tuple[str, str], ...] = ()
    """Providers that nothing can be sent to, by name, with their kind."""
    default_tracing: tuple[str, ...] = ()
    default_metrics: tuple[str, ...] = (PROMETHEUS,)
    default_logging: tuple[str, ...] = ()
    tracing: bool = False
    """`enableTracing`: whether the tracer of `proxy` is used."""
    proxy: ProxyTraces = ProxyTraces()
    """What `defaultConfig.tracing` says."""
    log_service: Address | None = None
    """The access log service of every proxy (`enableEnvoyAccessLogService`), beside what the others say."""

    @property
    def tracer(self) -> Tracer | None:
        """Where spans go that no Telemetry object speaks of."""
        return self.proxy.tracer if self.tracing else None

    def find_tracer(self, name: str) -> Tracer | None:
        """The tracer of a name; names are compared in any case, as in Istio."""
        return next((one for known, one in self.tracers if known.lower() == name.lower()), None)

    def absent(self, name: str, wanted: str) -> str:
        """Why there is no `wanted` (tracer, logger) of a name."""
        kind = next((kind for known, kind in self.others if known.lower() == name.lower()), "")
        if kind in _REMOVED:
            return f"provider {name!r} is of kind {kind}, for which Envoy has no code any more"
        if any(name.lower() == known.lower() for known, _ in (*self.others, *self.tracers, *self.loggers)):
            return f"provider {name!r} in extensionProviders is no {wanted}"
        return f"MeshConfig has no {wanted} {name!r} in extensionProviders"

    def find_logger(self, name: str) -> Logger | None:
        """The logger of a name."""
        named = next((one for known, one in self.loggers if known.lower() == name.lower()), None)
        return Logger("file", path="/dev/stdout") if named is None and name.lower() == ENVOY else named


def observability_of(config: MeshConfig) -> Observability:
    """What valid settings say of tracers and loggers."""
    tracers = [(one.name, made) for one in config.extension_providers if (made := _tracer(one)) is not None]
    loggers = [(one.name, made) for one in config.extension_providers if (made := _logger(one)) is not None]
    named = config.default_providers
    proxy = config.default_config or ProxyConfig()
    return Observability(
        tracers=tuple(tracers),
        loggers=tuple(loggers),
        others=tuple(_others(config)),
        metrics=(PROMETHEUS, *(one.name for one in config.extension_providers if one.prometheus is not None)),
        default_tracing=named.tracing if named is not None else (),
        default_metrics=(named.metrics if named is not None else ()) or (PROMETHEUS,),
        default_logging=named.access_logging if named is not None else (),
        tracing=config.enable_tracing,
        proxy=proxy_traces(proxy),
        log_service=_log_service(config, proxy),
    )


def proxy_traces(proxy: ProxyConfig) -> ProxyTraces:
    """What valid settings of a proxy say of traces."""
    said = proxy.tracing or ProxyTracing()
    if said.zipkin is None and said.datadog is None and proxy.zipkin_address:
        said = msgspec.structs.replace(said, zipkin=TracerAddress(address=proxy.zipkin_address))
    return ProxyTraces(
        tracer=_legacy(said),
        sampling=said.sampling if 0 < said.sampling <= _ALL else ProxyTraces().sampling,
        tags=tuple(sorted((_tag(name, tag) for name, tag in said.custom_tags.items()), key=lambda one: one.name)),
        mesh_tags=said.enable_istio_tags is not False,
        max_path_length=said.max_path_tag_length,
    )


_ALL = 100.0
"""Percent. Of more Istio takes the usual share, and 0 is what nobody has said (protobuf)."""


def _others(config: MeshConfig) -> Iterator[tuple[str, str]]:
    for one in config.extension_providers:
        if not is_served(one) and (kind := kind_of(one)):
            yield one.name, kind


def kind_of(provider: ExtensionProvider) -> str:
    """Which kind of provider it is, as MeshConfig spells it; "" for none."""
    fields = zip(provider.__struct_fields__[1:], provider.__struct_encode_fields__[1:], strict=True)
    return next((encoded for name, encoded in fields if getattr(provider, name) is not None), "")


def without_use(kind: str) -> tuple[str, str]:
    """What is to be said of a kind of provider that has no effect, and what to do instead."""
    if kind in _REMOVED:
        return f"{kind} has no effect: Envoy has no code for it any more", _REMOVED[kind]
    return f"{kind} has no effect", "Remove it, or expect nothing of it."


def _log_service(config: MeshConfig, proxy: ProxyConfig) -> Address | None:
    service = proxy.envoy_access_log_service
    if not config.enable_envoy_access_log_service or service is None or not service.address:
        return None
    return _at(service.address)


def _at(text: str) -> Address:
    """HOST:PORT; port 0 where it is no such (which is an error of its own)."""
    host, _, port = text.rpartition(":")
    return Address("", host.strip("[]"), int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0)


def provider_problems(provider: ExtensionProvider) -> Iterator[tuple[str, str]]:
    """What a tracer or logger lacks, each with the field; nothing for providers of other kinds."""
    fields = zip(provider.__struct_fields__[1:], provider.__struct_encode_fields__[1:], strict=True)
    for name, encoded in fields:
        said = getattr(provider, name)
        if not isinstance(said, Backend) or name.startswith("envoy_ext_authz"):
            continue
        if wrong := wrong_service(said.service):
            yield f"{encoded}.service", wrong
        if not 1 <= said.port <= 65535:
            yield f"{encoded}.port", f"{said.port} is not between 1 and 65535"
        timeout = getattr(said, "timeout", "")
        if timeout and not (is_duration(timeout) and parse_duration(timeout) >= 0.001):
            yield f"{encoded}.timeout", f"{timeout!r} is not a duration of at least 1ms"
    otel = provider.opentelemetry
    if otel is not None and otel.http is not None and otel.grpc is not None:
        yield "opentelemetry.grpc", "spans are sent over http or over grpc: only one of them can be set"
    if otel is not None and otel.dynatrace_sampler is not None:
        yield from _sampler_problems(otel)


def _sampler_problems(said: OpenTelemetry) -> Iterator[tuple[str, str]]:
    sampler, base = said.dynatrace_sampler or DynatraceSampler(), "opentelemetry.dynatraceSampler"
    if not sampler.tenant:
        yield f"{base}.tenant", "required"
    if sampler.http_service is None:
        if said.http is None:
            yield f"{base}.httpService", "required, unless spans are sent over http: the sampler then asks there"
        return
    asked = sampler.http_service
    if wrong := wrong_service(asked.service):
        yield f"{base}.httpService.service", wrong
    if not 1 <= asked.port <= 65535:
        yield f"{base}.httpService.port", f"{asked.port} is not between 1 and 65535"
    if asked.http is None:
        yield f"{base}.httpService.http", "required"


def is_served(provider: ExtensionProvider) -> bool:
    """Whether the provider is a tracer, a logger, metrics or a server of secrets that has an effect."""
    if provider.prometheus is not None or provider.sds is not None:
        return True
    return _tracer(provider) is not None or _logger(provider) is not None


def ignored_fields(provider: ExtensionProvider) -> Iterator[str]:
    """Fields of a served provider that have no effect."""
    otel = provider.opentelemetry
    if otel is not None:
        unknown = sorted(set(otel.resource_detectors or {}) - {"environment", "dynatrace"})
        yield from (f"opentelemetry.resourceDetectors.{one}" for one in unknown)


def address_of(said: Backend) -> Address:
    """Where a provider says that it is."""
    namespace, _, hostname = said.service.rpartition("/")
    return Address(namespace, hostname, said.port)


def _tracer(provider: ExtensionProvider) -> Tracer | None:
    if provider.zipkin is not None:
        return _zipkin(provider.zipkin)
    if provider.opentelemetry is not None:
        return _opentelemetry(provider.opentelemetry)
    if provider.datadog is not None:
        return Tracer("datadog", address_of(provider.datadog), max_tag_length=provider.datadog.max_tag_length)
    if provider.skywalking is not None:
        return Tracer("skywalking", address_of(provider.skywalking), token=provider.skywalking.access_token)
    return None


def _zipkin(said: Zipkin) -> Tracer:
    return Tracer(
        "zipkin",
        address_of(said),
        path=said.path or "/api/v2/spans",
        headers=_headers(said.headers),
        variables=_variables(said.headers),
        timeout=_seconds(said.timeout),
        short_ids=said.enable_64bit_trace_id,
        with_w3c=said.trace_context_option == _CONTEXTS[1],
        max_tag_length=said.max_tag_length,
    )


def _opentelemetry(said: OpenTelemetry) -> Tracer:
    http = said.http
    grpc = said.grpc or GrpcService()
    timeout = http.timeout if http is not None else grpc.timeout
    sampler = _sampler(said) if said.dynatrace_sampler is not None else None
    headers = http.headers if http is not None else grpc.initial_metadata
    return Tracer(
        "opentelemetry",
        address_of(said),
        path=(http.path or "/") if http is not None else None,
        headers=_headers(headers),
        variables=_variables(headers),
        timeout=_seconds(timeout),
        detectors=tuple(sorted(said.resource_detectors or {})),
        sampler=sampler,
        max_tag_length=said.max_tag_length,
    )


def _sampler(said: OpenTelemetry) -> Sampler:
    """Without a service of its own it asks where spans go, with their headers (Istio)."""
    wanted, http = said.dynatrace_sampler or DynatraceSampler(), said.http or HttpService()
    own = wanted.http_service
    if own is not None and own.http is not None:
        return Sampler(
            wanted.tenant,
            wanted.cluster_id,
            wanted.root_spans_per_minute,
            address_of(own),
            own.http.path or Sampler("", 0).path,
            _headers(own.http.headers),
            _variables(own.http.headers),
            _seconds(own.http.timeout),
        )
    return Sampler(
        wanted.tenant,
        wanted.cluster_id,
        wanted.root_spans_per_minute,
        headers=_headers(http.headers),
        variables=_variables(http.headers),
        timeout=_seconds(http.timeout),
    )


def _headers(said: tuple[Header, ...]) -> Pairs:
    return tuple((one.name, one.value) for one in said if one.name and one.value is not None)


def _variables(said: tuple[Header, ...]) -> Pairs:
    return tuple((one.name, one.env_name) for one in said if one.name and one.env_name)


def _seconds(text: str) -> float:
    return parse_duration(text) if text and is_duration(text) else 0


def _logger(provider: ExtensionProvider) -> Logger | None:
    if provider.envoy_file_access_log is not None:
        said: FileLog = provider.envoy_file_access_log
        text, fields = _format(said.log_format)
        return Logger(
            "file", path=said.path or "/dev/stdout", text=text, fields=fields, omit_empty=said.omit_empty_values
        )
    if provider.envoy_otel_als is not None:
        return _otel_log(provider.envoy_otel_als)
    if provider.envoy_http_als is not None:
        return _grpc_log("http", provider.envoy_http_als)
    return _grpc_log("tcp", provider.envoy_tcp_als) if provider.envoy_tcp_als is not None else None


def _otel_log(said: OtelLog) -> Logger:
    text, fields = _format(said.log_format)
    return Logger("opentelemetry", address_of(said), log_name=said.log_name, text=text, fields=fields)


def _grpc_log(kind: Literal["http", "tcp"], said: GrpcLog) -> Logger:
    return Logger(
        kind,
        address_of(said),
        log_name=said.log_name,
        filter_state=said.filter_state_objects_to_log,
        headers=(
            said.additional_request_headers_to_log,
            said.additional_response_headers_to_log,
            said.additional_response_trailers_to_log,
        ),
    )


def _format(said: LogFormat | None) -> tuple[str, str]:
    if said is None:
        return "", ""
    fields = msgspec.json.encode(said.labels, order="sorted").decode() if said.labels is not None else ""
    return said.text, fields


def _legacy(said: ProxyTracing) -> Tracer | None:
    """`defaultConfig.tracing` names an address rather than a service of the mesh."""
    if said.zipkin is not None:
        return Tracer("zipkin", _at(said.zipkin.address), path="/api/v2/spans")
    return Tracer("datadog", _at(said.datadog.address)) if said.datadog is not None else None


def _tag(name: str, said: CustomTag) -> Tag:
    if said.environment is not None:
        return Tag(name, "environment", said.environment.name, said.environment.default_value)
    if said.header is not None:
        return Tag(name, "header", said.header.name, said.header.default_value)
    return Tag(name, "literal", said.literal.value if said.literal is not None else "")
