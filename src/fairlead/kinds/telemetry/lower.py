"""Telemetry to the mesh's words."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.envoy.stats import METRIC_NAMES
from fairlead.inc import Reader
from fairlead.ir import telemetry as ir
from fairlead.ir.attachment import targets_of
from fairlead.ir.kind import Emission
from fairlead.ir.tag import Tag
from fairlead.ir.view import pairs
from fairlead.kinds.telemetry.spec import (
    AccessLogging,
    CustomTag,
    Metrics,
    MetricSelector,
    MetricsOverride,
    Telemetry,
    Tracing,
    WorkloadMode,
)
from fairlead.model.cel import check, without_string
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[Telemetry]) -> Iterator[Emission]:
    """One policy."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    yield (
        ir.TELEMETRY,
        key,
        ir.TelemetryPolicy(
            key=key,
            origin=Origin(obj.ref),
            selector=pairs(spec.selector.match_labels) if spec.selector is not None else (),
            targets=targets_of(spec.target_ref, spec.target_refs),
            created=obj.meta.creation_timestamp or "",
            tracing=tuple(map(_tracing, spec.tracing)),
            metrics=tuple(map(_metrics, spec.metrics)),
            logging=tuple(map(_logging, spec.access_logging)),
        ),
    )


def _modes(mode: WorkloadMode) -> ir.Modes:
    return ir.BOTH if mode == "CLIENT_AND_SERVER" else (mode,)


def _tracing(said: Tracing) -> ir.Tracing:
    propagated = None if said.disable_context_propagation is None else not said.disable_context_propagation
    tags = None
    if said.custom_tags is not None:
        tags = tuple(_tag(name, said.custom_tags[name]) for name in sorted(said.custom_tags))
    return ir.Tracing(
        modes=_modes(said.match.mode) if said.match is not None else ir.BOTH,
        providers=tuple(one.name for one in said.providers),
        sampling=said.random_sampling_percentage,
        disabled=said.disable_span_reporting,
        propagated=propagated,
        by_request_id=said.use_request_id_for_trace_sampling,
        mesh_tags=said.enable_istio_tags,
        tags=tags,
    )


def _tag(name: str, said: CustomTag) -> Tag:
    if said.environment is not None:
        return Tag(name, "environment", said.environment.name, said.environment.default_value)
    if said.header is not None:
        return Tag(name, "header", said.header.name, said.header.default_value)
    if said.formatter is not None:
        return Tag(name, "format", said.formatter.value)
    return Tag(name, "literal", said.literal.value if said.literal is not None else "")


def _metrics(said: Metrics) -> ir.Metrics:
    return ir.Metrics(
        providers=tuple(one.name for one in said.providers), overrides=tuple(map(_override, said.overrides))
    )


def shown(name: str) -> str:
    """A tag's name as Prometheus shows it, whose labels have no '-' or '.': Envoy writes '_' for them."""
    return name.replace("-", "_").replace(".", "_")


def _override(said: MetricsOverride) -> ir.Override:
    match = said.match or MetricSelector()
    return ir.Override(
        metric=METRIC_NAMES.get(match.custom_metric or "", match.custom_metric) or match.metric or "ALL_METRICS",
        modes=_modes(match.mode),
        disabled=said.disabled,
        tags=tuple(
            (shown(name), check(without_string(tag.value)).text if tag.operation == "UPSERT" else None)
            for name, tag in sorted(said.tag_overrides.items())
        ),
    )


def _logging(said: AccessLogging) -> ir.Logging:
    return ir.Logging(
        modes=_modes(said.match.mode) if said.match is not None else ir.BOTH,
        providers=tuple(one.name for one in said.providers),
        disabled=bool(said.disabled),
        filter=check(said.filter.expression).text if said.filter is not None and said.filter.expression else "",
    )
