"""Tracers of connection managers, as Istio sets them up (`pilot/pkg/networking/core/tracing.go`).

A listener names no workload: the service's name comes from Envoy's node (zipkin, skywalking) or environment
(opentelemetry, datadog), and so do Istio's tags. So workloads that are alike share listeners.
"""

from __future__ import annotations

import msgspec
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.http_service_pb2 import HttpService
from envoy.config.core.v3.http_uri_pb2 import HttpUri
from envoy.config.trace.v3.datadog_pb2 import DatadogConfig
from envoy.config.trace.v3.http_tracer_pb2 import Tracing as TraceProvider
from envoy.config.trace.v3.opentelemetry_pb2 import OpenTelemetryConfig
from envoy.config.trace.v3.skywalking_pb2 import SkyWalkingConfig
from envoy.config.trace.v3.zipkin_pb2 import ZipkinConfig
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    RequestIDExtension,
)
from envoy.extensions.request_id.uuid.v3.uuid_pb2 import UuidRequestIdConfig
from envoy.extensions.tracers.opentelemetry.resource_detectors.v3.dynatrace_resource_detector_pb2 import (
    DynatraceResourceDetectorConfig,
)
from envoy.extensions.tracers.opentelemetry.resource_detectors.v3.environment_resource_detector_pb2 import (
    EnvironmentResourceDetectorConfig,
)
from envoy.extensions.tracers.opentelemetry.samplers.v3.dynatrace_sampler_pb2 import DynatraceSamplerConfig
from envoy.type.tracing.v3.custom_tag_pb2 import CustomTag
from google.protobuf.message import Message

from fairlead.envoy import names
from fairlead.envoy.pack import pack, seconds
from fairlead.envoy.peer import TRACE_TAGS
from fairlead.ir.address import Address
from fairlead.ir.filters import Pairs
from fairlead.ir.observability import Sampler, Tracer
from fairlead.ir.tag import Tag

_FIXED_SERVICE = "envoy"
"""Datadog's configuration needs a name; the agent says the workload's in Envoy's environment, which wins."""
_DETECTORS = "envoy.tracers.opentelemetry.resource_detectors"
_DEFAULT_TIMEOUT = 10.0
_NO_PROPAGATION = b"\x68\x01"
"""`no_context_propagation: true` on the wire (field 13): newer than the Python messages."""


class Trace(msgspec.Struct, frozen=True):
    """How a chain traces. `sampling` is a percentage."""

    tracer: Tracer
    sampling: float
    tags: tuple[Tag, ...] = ()
    mesh_tags: bool = True
    by_request_id: bool = True
    propagated: bool = True
    max_path_length: int = 0


def traced(made: HttpConnectionManager, trace: Trace, *, gateway: bool) -> None:
    """Have a connection manager trace. At gateways the call to the service is a span of its own."""
    tracing = made.tracing
    # Callers decide for what they call; the share counts where nobody has decided.
    tracing.client_sampling.value = 100
    # Who has a sampler of its own is asked of every request.
    tracing.random_sampling.value = trace.sampling if trace.tracer.sampler is None else 100
    tracing.overall_sampling.value = 100
    if trace.max_path_length:
        tracing.max_path_tag_length.value = trace.max_path_length
    tags = {one.name: one for one in _mesh_tags()} if trace.mesh_tags else {}
    tags.update({one.name: one for one in trace.tags})
    tracing.custom_tags.extend(_tag(tags[name]) for name in sorted(tags))
    name, config = _provider(trace.tracer)
    tracing.provider.CopyFrom(TraceProvider.Http(name=name, typed_config=pack(config)))
    if gateway:
        tracing.spawn_upstream_span.value = True
    if not trace.propagated:
        tracing.MergeFromString(_NO_PROPAGATION)
    if not trace.by_request_id:
        settings = UuidRequestIdConfig()
        settings.use_request_id_for_trace_sampling.value = False
        made.request_id_extension.CopyFrom(RequestIDExtension(typed_config=pack(settings)))


def grpc_service(address: Address, timeout: float = 0, headers: tuple[tuple[str, str], ...] = ()) -> GrpcService:
    """A service of the mesh that is asked over gRPC; the cluster's name cannot be an authority."""
    made = GrpcService(
        envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=cluster_of(address), authority=address.hostname),
        initial_metadata=[HeaderValue(key=key, value=value) for key, value in headers],
    )
    if timeout:
        made.timeout.CopyFrom(seconds(timeout))
    return made


def cluster_of(address: Address) -> str:
    """The cluster that leads to an address."""
    return names.subset_key("outbound", address.port, "", address.hostname)


def _provider(tracer: Tracer) -> tuple[str, Message]:
    if tracer.kind == "zipkin":
        return "envoy.tracers.zipkin", _zipkin(tracer)
    if tracer.kind == "opentelemetry":
        return "envoy.tracers.opentelemetry", _opentelemetry(tracer)
    if tracer.kind == "datadog":
        config = DatadogConfig(
            collector_cluster=cluster_of(tracer.address),
            collector_hostname=tracer.address.hostname,
            service_name=_FIXED_SERVICE,
        )
        return "envoy.tracers.datadog", config
    made = SkyWalkingConfig(grpc_service=grpc_service(tracer.address))
    if tracer.token:
        made.client_config.backend_token = tracer.token
    return "envoy.tracers.skywalking", made


def _zipkin(tracer: Tracer) -> ZipkinConfig:
    made = ZipkinConfig(
        collector_endpoint_version=ZipkinConfig.HTTP_JSON,
        trace_id_128bit=not tracer.short_ids,
    )
    made.shared_span_context.value = False
    if tracer.with_w3c:
        made.trace_context_option = ZipkinConfig.USE_B3_WITH_W3C_PROPAGATION
    if tracer.headers or tracer.timeout:
        made.collector_service.CopyFrom(_http_service(tracer.address, tracer.path, tracer.timeout, tracer.headers))
    else:
        made.collector_cluster = cluster_of(tracer.address)
        made.collector_endpoint = tracer.path or "/api/v2/spans"
        made.collector_hostname = tracer.address.hostname
    return made


def _opentelemetry(tracer: Tracer) -> OpenTelemetryConfig:
    # The environment detector tells the service's name, whether it was asked for or not.
    detectors = [_detector("environment", EnvironmentResourceDetectorConfig())]
    if "dynatrace" in tracer.detectors:
        detectors.append(_detector("dynatrace", DynatraceResourceDetectorConfig()))
    made = OpenTelemetryConfig(resource_detectors=detectors)
    if tracer.sampler is not None:
        made.sampler.CopyFrom(_dynatrace(tracer, tracer.sampler))
    if tracer.path is None:
        made.grpc_service.CopyFrom(grpc_service(tracer.address, tracer.timeout, tracer.headers))
    else:
        made.http_service.CopyFrom(_http_service(tracer.address, tracer.path, tracer.timeout, tracer.headers))
    return made


def _dynatrace(tracer: Tracer, said: Sampler) -> TypedExtensionConfig:
    address = said.address or tracer.address
    config = DynatraceSamplerConfig(
        tenant=said.tenant,
        cluster_id=said.cluster,
        http_service=_http_service(address, said.path, said.timeout, said.headers),
        root_spans_per_minute=said.spans_per_minute,
    )
    return TypedExtensionConfig(name="envoy.tracers.opentelemetry.samplers.dynatrace", typed_config=pack(config))


def _detector(name: str, config: Message) -> TypedExtensionConfig:
    return TypedExtensionConfig(name=f"{_DETECTORS}.{name}", typed_config=pack(config))


def _http_service(address: Address, path: str | None, timeout: float, headers: Pairs) -> HttpService:
    uri = HttpUri(
        uri=f"http://{address.hostname}{path}",
        cluster=cluster_of(address),
        timeout=seconds(timeout or _DEFAULT_TIMEOUT),
    )
    return HttpService(
        http_uri=uri,
        request_headers_to_add=[HeaderValueOption(header=HeaderValue(key=key, value=value)) for key, value in headers],
    )


def _mesh_tags() -> tuple[Tag, ...]:
    return tuple(Tag(name, "environment", variable, "unknown") for name, variable in TRACE_TAGS)


def _tag(tag: Tag) -> CustomTag:
    made = CustomTag(tag=tag.name)
    if tag.kind == "literal":
        made.literal.value = tag.value
    elif tag.kind == "environment":
        made.environment.name, made.environment.default_value = tag.value, tag.default
    elif tag.kind == "header":
        made.request_header.name, made.request_header.default_value = tag.value, tag.default
    else:
        made.value = tag.value
    return made
