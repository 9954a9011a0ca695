"""Which metrics, access logs and traces a filter chain produces: Telemetry objects by precedence, and MeshConfig.

For a workload these objects count: that of the root namespace, that of its own namespace (both without a selector; of
several the oldest), and those of its namespace that choose it, the youngest last. What they say is merged as Istio does
(`pilot/pkg/model/telemetry.go`): metrics and logs by provider, traces field by field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fairlead.compiler.hosts import settings
from fairlead.compiler.own import settings_of
from fairlead.compiler.providing import UNUSABLE_CODE, Fault, address_seen
from fairlead.envoy.accesslog import LogTarget
from fairlead.envoy.stats import MetricChange
from fairlead.envoy.tracing import Trace
from fairlead.inc import Reader, rule
from fairlead.ir.attachment import attaches
from fairlead.ir.filters import FilterScope, Pairs
from fairlead.ir.observability import VARIABLES, Logger, Observability, Tracer
from fairlead.ir.telemetry import TELEMETRY, TELEMETRY_BY_NAMESPACE, Mode, Override, TelemetryPolicy, Tracing
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.ref import NamespacedName

EVERY = "ALL_METRICS"

MESH_FILE = ""
"""Stands for MeshConfig's `accessLogFile` among the providers of logs: none has an empty name."""

_LOG_SERVICE = "defaultConfig.envoyAccessLogService"


class WorkloadKey(NamedTuple):
    """A workload as Telemetry objects choose it."""

    namespace: str
    labels: Pairs


@rule
def applying(r: Reader, key: WorkloadKey) -> tuple[NamespacedName, ...]:
    """The Telemetry objects for a workload, the widest first; of those that choose it the oldest first."""
    root = settings(r).root_namespace
    found: list[NamespacedName] = []
    for namespace in dict.fromkeys((root, key.namespace)):
        wide = [one for one in _of(r, namespace) if one.is_wide]
        found.extend(one.key for one in wide[:1])
    narrow = (one for one in _of(r, key.namespace) if not one.is_wide)
    found.extend(
        one.key for one in narrow if attaches(key.namespace, one.selector, one.targets, key.namespace, key.labels)
    )
    return tuple(found)


def mode_of(scope: FilterScope) -> Mode:
    """Whose side of a call a chain is; gateways are clients of what they forward to."""
    return "SERVER" if scope.direction == "inbound" else "CLIENT"


def log_targets(r: Reader, scope: FilterScope) -> tuple[LogTarget, ...] | None:
    """The loggers in use, by the names of their providers; None where nothing says any (MeshConfig's file counts)."""
    policies = _policies(r, scope)
    targets, faults = _logging(r, scope, policies)
    _report(r, policies, faults)
    return targets


def _logging(
    r: Reader, scope: FilterScope, policies: tuple[TelemetryPolicy, ...]
) -> tuple[tuple[LogTarget, ...] | None, list[Fault]]:
    known, file = settings(r).observability, settings(r).access_log_file
    if not any(one.logging for one in policies) and not known.default_logging:
        return None, []
    out: list[LogTarget] = []
    faults: list[Fault] = []
    default = known.default_logging or ((MESH_FILE,) if file else ())
    for name, expression in sorted(merged_logs(policies, default, mode_of(scope)).items()):
        logger = Logger("file", path=file) if name == MESH_FILE else known.find_logger(name)
        if logger is None:
            faults.append(Fault(known.absent(name, "logger"), "logging"))
            continue
        if logger.address is not None:
            reached = address_seen(r, scope.namespace, name, logger.address, grpc=True)
            if isinstance(reached, Fault):
                faults.append(reached)
                continue
            logger = msgspec.structs.replace(logger, address=reached)
        out.append(LogTarget(logger, expression, builtin=name.lower() in ("envoy", MESH_FILE)))
    # Where none of those can be used that are asked for, a log is better than none (Istio `setHTTPAccessLog`).
    return (None if faults and not out else tuple(out)), faults


def log_service(r: Reader, scope: FilterScope) -> LogTarget | None:
    """The access log service that every proxy reports to, whatever Telemetry objects say (MeshConfig)."""
    said = settings(r).observability.log_service
    reached = address_seen(r, scope.namespace, _LOG_SERVICE, said, grpc=True) if said is not None else None
    if isinstance(reached, Fault):
        _report(r, (), [reached])
        return None
    return LogTarget(Logger("tcp" if scope.tcp else "http", reached)) if reached is not None else None


def provider_faults(r: Reader, scope: FilterScope) -> tuple[Fault, ...]:
    """Why loggers and tracers that are meant to be used on a chain are not, in words."""
    policies = _policies(r, scope)
    service = settings(r).observability.log_service
    found = [*_logging(r, scope, policies)[1], *_tracing(r, scope, policies)[1]]
    reached = address_seen(r, scope.namespace, _LOG_SERVICE, service, grpc=True) if service is not None else None
    return tuple(dict.fromkeys([*found, *([reached] if isinstance(reached, Fault) else ())]))


def merged_logs(policies: Iterable[TelemetryPolicy], default: tuple[str, ...], mode: Mode) -> dict[str, str]:
    """The providers of access logs that are on, each with its filter.

    `default` logs where no rule is for this side of calls: a rule for the other side switches nothing off.
    """
    said = [found for one in policies if (found := [each for each in one.logging if mode in each.modes])]
    if not said:
        return dict.fromkeys(default, "")
    in_scope = set(default)
    filters: dict[str, str] = {}
    for rules in said:
        filters.update({name: one.filter for one in rules for name in one.providers})
        in_scope = {name for one in rules for name in one.providers} or in_scope
    out: dict[str, str] = {}
    parents = default
    for one in (one for rules in said for one in rules):
        parents = one.providers or parents
        for name in parents:
            if name not in in_scope:
                continue
            if one.disabled:
                out.pop(name, None)
            else:
                out[name] = filters.get(name, "") if one.providers else (one.filter or filters.get(name, ""))
    return out


def metric_changes(r: Reader, scope: FilterScope) -> tuple[MetricChange, ...] | None:
    """What differs from Istio's metrics; None where nothing is counted."""
    policies = _policies(r, scope)
    known = settings(r).observability
    unknown = {name for one in policies for said in one.metrics for name in said.providers} - set(known.metrics)
    _report(r, policies, [Fault(f"{name!r} is not a provider of metrics", "metrics") for name in sorted(unknown)])
    return merged_metrics(policies, known, mode_of(scope))


def merged_metrics(
    policies: Iterable[TelemetryPolicy], known: Observability, mode: Mode
) -> tuple[MetricChange, ...] | None:
    """What objects say of the metrics that the Prometheus providers give."""
    said = [one for policy in policies for one in policy.metrics]
    in_scope = next((one.providers for one in reversed(said) if one.providers), known.default_metrics)
    counted = [name for name in in_scope if name in known.metrics]
    if not counted:
        return None
    changes: dict[str, MetricChange] = {}
    off = False
    parents = known.default_metrics
    for one in said:
        parents = one.providers or parents
        if counted[0] not in parents:
            continue
        for override in one.overrides:
            if mode not in override.modes:
                continue
            # As in Istio whatever is said later of any metric has all of them counted again.
            off = override.metric == EVERY and override.disabled is True
            if not off:
                _change(changes, override)
    return None if off else tuple(changes[name] for name in sorted(changes))


def trace(r: Reader, scope: FilterScope) -> Trace | None:
    """How the chain traces, or None if it does not."""
    policies = _policies(r, scope)
    made, faults = _tracing(r, scope, policies)
    _report(r, policies, faults)
    return made


def _tracing(r: Reader, scope: FilterScope, policies: tuple[TelemetryPolicy, ...]) -> tuple[Trace | None, list[Fault]]:
    known = settings_of(r, scope.own).observability
    said = [one for policy in policies for one in policy.tracing if mode_of(scope) in one.modes]
    if not any(one.tracing for one in policies) and not known.default_tracing:
        if known.tracer is None:
            return None, []
        # As `enableTracing` and `defaultConfig.tracing` ask for it.
        return _usable(r, scope, "defaultConfig.tracing", known.tracer, Tracing())
    merged = merged_tracing(said)
    names = merged.providers or known.default_tracing
    if merged.disabled or not names:
        return None, []
    tracer = known.find_tracer(names[0])
    if tracer is None:
        return None, [Fault(known.absent(names[0], "tracer"), "tracing")]
    return _usable(r, scope, names[0], tracer, merged)


def merged_tracing(said: Iterable[Tracing]) -> Tracing:
    """Rules as one; what a later one says replaces what earlier ones said."""
    out = Tracing()
    for one in said:
        out = Tracing(
            providers=one.providers or out.providers,
            sampling=one.sampling if one.sampling is not None else out.sampling,
            disabled=one.disabled if one.disabled is not None else out.disabled,
            propagated=one.propagated if one.propagated is not None else out.propagated,
            by_request_id=one.by_request_id if one.by_request_id is not None else out.by_request_id,
            mesh_tags=one.mesh_tags if one.mesh_tags is not None else out.mesh_tags,
            tags=one.tags if one.tags is not None else out.tags,
        )
    return out


def _usable(
    r: Reader, scope: FilterScope, name: str, tracer: Tracer, said: Tracing
) -> tuple[Trace | None, list[Fault]]:
    known = settings_of(r, scope.own).observability
    grpc = tracer.kind == "skywalking" or (tracer.kind == "opentelemetry" and tracer.path is None)
    address = address_seen(r, scope.namespace, name, tracer.address, grpc=grpc)
    if isinstance(address, Fault):
        return None, [address]
    faults: list[Fault] = []
    headers = _headers(r, name, tracer.headers, tracer.variables, faults)
    sampler = tracer.sampler
    if sampler is not None:
        asked_with = _headers(r, name, sampler.headers, sampler.variables, faults)
        sampler = msgspec.structs.replace(sampler, headers=asked_with, variables=())
    if sampler is not None and sampler.address is not None:
        asked = address_seen(r, scope.namespace, f"{name}.dynatraceSampler", sampler.address, grpc=False)
        if isinstance(asked, Fault):
            faults.append(asked)
            sampler = None
        else:
            sampler = msgspec.structs.replace(sampler, address=asked)
    made = Trace(
        tracer=msgspec.structs.replace(tracer, address=address, headers=headers, variables=(), sampler=sampler),
        sampling=known.proxy.sampling if said.sampling is None else said.sampling,
        tags=known.proxy.tags if said.tags is None else said.tags,
        mesh_tags=known.proxy.mesh_tags if said.mesh_tags is None else said.mesh_tags,
        by_request_id=said.by_request_id is not False,
        propagated=said.propagated is not False,
        max_path_length=tracer.max_tag_length or known.proxy.max_path_length,
    )
    return made, faults


def _headers(r: Reader, name: str, said: Pairs, variables: Pairs, faults: list[Fault]) -> Pairs:
    """Headers with those whose values stand in the control plane's environment."""
    found = list(said)
    for header, variable in variables:
        value = r.get(VARIABLES, variable)
        if value is None:
            wrong = f"header {header} of provider {name!r}: the control plane has no environment variable {variable}"
            faults.append(Fault(wrong, remedy="Start `fairlead serve` with it, or give the header a value."))
        else:
            found.append((header, value))
    return tuple(found)


@rule
def wanted_variables(r: Reader, _: str) -> tuple[str, ...]:
    """The variables of the control plane's environment that headers of tracers name, in order (key: "")."""
    found: set[str] = set()
    for _name, tracer in settings(r).observability.tracers:
        said = (*tracer.variables, *(tracer.sampler.variables if tracer.sampler is not None else ()))
        found.update(variable for _header, variable in said)
    return tuple(sorted(found))


def _of(r: Reader, namespace: str) -> list[TelemetryPolicy]:
    return sorted((one for _, one in r.rows(TELEMETRY_BY_NAMESPACE, namespace)), key=lambda one: (one.created, one.key))


def _policies(r: Reader, scope: FilterScope) -> tuple[TelemetryPolicy, ...]:
    gateway = scope.direction == "gateway"
    keys = applying(r, WorkloadKey(scope.namespace, scope.labels)) if gateway else scope.telemetry
    return tuple(found for key in keys if (found := r.get(TELEMETRY, key)) is not None)


def _change(changes: dict[str, MetricChange], override: Override) -> None:
    old = changes.get(override.metric, MetricChange(override.metric))
    tags = {**dict(old.tags), **dict(override.tags)}
    disabled = old.disabled if override.disabled is None else override.disabled
    changes[override.metric] = MetricChange(override.metric, disabled, tuple(sorted(tags.items())))
    if override.metric != EVERY:
        return
    # What is said of all metrics now is later than what was said of one before.
    for name, one in list(changes.items()):
        if name != EVERY:
            merged = tuple(sorted({**dict(one.tags), **dict(override.tags)}.items()))
            switched = one.disabled if override.disabled is None else override.disabled
            changes[name] = MetricChange(name, switched, merged)


def _report(r: Reader, policies: tuple[TelemetryPolicy, ...], faults: Iterable[Fault]) -> None:
    """Tell the narrowest object that says something about it, else the one that has the mesh's settings."""
    for one in faults:
        saying = (policy.origin for policy in reversed(policies) if not one.part or getattr(policy, one.part))
        origin = next(saying, settings(r).origin)
        if origin is not None:
            r.report(Diagnostic(UNUSABLE_CODE, Severity.WARNING, f"not used: {one.wrong}", origin, one.remedy))
