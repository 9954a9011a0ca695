"""Fields of Telemetry."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import TargetReference, WorkloadSelector

Text = Annotated[str, Meta(min_length=1)]
WorkloadMode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
Metric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]


class ProviderRef(Spec, frozen=True):
    """A provider of MeshConfig."""

    name: Annotated[Text, Meta(description="Name among MeshConfig's extensionProviders; envoy and prometheus exist.")]


class ModeSelector(Spec, frozen=True):
    """For which direction of calls a rule is."""

    mode: Annotated[
        WorkloadMode, Meta(description="CLIENT: calls that the workload makes. SERVER: calls that it gets.")
    ] = "CLIENT_AND_SERVER"


class Literally(Spec, frozen=True):
    """A fixed text."""

    value: Annotated[Text, Meta(description="The tag's value.")]


class Environment(Spec, frozen=True):
    """A variable of the proxy's environment."""

    name: Annotated[Text, Meta(description="The variable.")]
    default_value: Annotated[str, Meta(description="The value where there is no such variable.")] = ""


class RequestHeader(Spec, frozen=True):
    """A header of the request."""

    name: Annotated[Text, Meta(description="The header.")]
    default_value: Annotated[str, Meta(description="The value where the request has no such header.")] = ""


class Formatter(Spec, frozen=True):
    """Envoy's command operators."""

    value: Annotated[Text, Meta(description="Such as %REQ(:METHOD)%.")]


class CustomTag(Spec, frozen=True):
    """A tag of every span: exactly one of its fields."""

    literal: Annotated[Literally | None, Meta(description="A fixed text.")] = None
    environment: Annotated[Environment | None, Meta(description="A variable of the proxy's environment.")] = None
    header: Annotated[RequestHeader | None, Meta(description="A header of the request.")] = None
    formatter: Annotated[Formatter | None, Meta(description="Envoy's command operators.")] = None


class Tracing(Spec, frozen=True):
    """What is traced, where spans go, and what they carry. What is not said comes from the wider object."""

    match: Annotated[ModeSelector | None, Meta(description="Direction of calls; absent: both.")] = None
    providers: Annotated[tuple[ProviderRef, ...], Meta(description="The tracer; the first one counts.")] = ()
    random_sampling_percentage: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None,
        Meta(description="Share of requests, in percent, that are traced where no caller has decided."),
    ] = None
    disable_span_reporting: Annotated[bool | None, Meta(description="true: no spans are made.")] = None
    disable_context_propagation: Annotated[
        bool | None, Meta(description="true: requests get no trace headers from the proxy; spans are still made.")
    ] = None
    custom_tags: Annotated[
        dict[str, CustomTag] | None, Meta(description="Tags of spans; they replace those of wider objects.")
    ] = None
    use_request_id_for_trace_sampling: Annotated[
        bool | None, Meta(description="false: x-request-id does not carry the decision to trace. Default: true.")
    ] = None
    enable_istio_tags: Annotated[
        bool | None, Meta(description="false: no istio.* tags (workload, namespace, mesh, cluster). Default: true.")
    ] = None


class MetricSelector(Spec, frozen=True):
    """Which metrics: one of metric and customMetric; neither: all."""

    metric: Annotated[Metric | None, Meta(description="One of Istio's metrics, or ALL_METRICS.")] = None
    custom_metric: Annotated[
        Text | None, Meta(description="One of Istio's metrics by Prometheus' name: requests_total.")
    ] = None
    mode: Annotated[
        WorkloadMode, Meta(description="CLIENT: as counted for calls made. SERVER: as counted for calls served.")
    ] = "CLIENT_AND_SERVER"


class TagOverride(Spec, frozen=True):
    """A label of a metric that is set or removed."""

    operation: Annotated[
        Literal["UPSERT", "REMOVE"], Meta(description="UPSERT: add or replace. REMOVE: leave out.")
    ] = "UPSERT"
    value: Annotated[str, Meta(description="CEL expression over Envoy's attributes; for UPSERT only.")] = ""


class MetricsOverride(Spec, frozen=True):
    """A change of some metrics."""

    match: Annotated[MetricSelector | None, Meta(description="Which metrics; absent: all.")] = None
    disabled: Annotated[bool | None, Meta(description="true: not counted. false: counted again.")] = None
    tag_overrides: Annotated[dict[str, TagOverride], Meta(description="Labels to set or remove, by name.")] = {}


class Metrics(Spec, frozen=True):
    """Which metrics are counted, and with which labels."""

    providers: Annotated[tuple[ProviderRef, ...], Meta(description="Whose; absent: the default (prometheus).")] = ()
    overrides: Annotated[tuple[MetricsOverride, ...], Meta(description="Changes; later ones win.")] = ()
    reporting_interval: Annotated[
        str | None, Meta(description="How often open TCP connections are counted. Has no effect.")
    ] = None


class LogFilter(Spec, frozen=True):
    """Which requests and connections are logged."""

    expression: Annotated[str, Meta(description="CEL over Envoy's attributes, such as response.code >= 400.")] = ""


class AccessLogging(Spec, frozen=True):
    """Which access logs are written."""

    match: Annotated[ModeSelector | None, Meta(description="Direction of calls; absent: both.")] = None
    providers: Annotated[tuple[ProviderRef, ...], Meta(description="Loggers; absent: those of the wider object.")] = ()
    disabled: Annotated[bool | None, Meta(description="true: these loggers write nothing.")] = None
    filter: Annotated[LogFilter | None, Meta(description="Which requests and connections are logged.")] = None


class Telemetry(Spec, frozen=True):
    """Which metrics, access logs and traces workloads produce, and where they go."""

    selector: Annotated[
        WorkloadSelector | None,
        Meta(description="Workloads; absent: all of the namespace (of the mesh, in the root namespace)."),
    ] = None
    target_ref: Annotated[TargetReference | None, Meta(description="Deprecated: use targetRefs.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="Gateways it is for.")] = ()
    tracing: Annotated[tuple[Tracing, ...], Meta(description="Traces.")] = ()
    metrics: Annotated[tuple[Metrics, ...], Meta(description="Metrics.")] = ()
    access_logging: Annotated[tuple[AccessLogging, ...], Meta(description="Access logs.")] = ()
