"""Istio's validation of Telemetry, by its webhook and by its CRD."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.envoy.stats import METRIC_NAMES
from fairlead.ir.logformat import TAG_OPERATORS, format_problems
from fairlead.kinds.telemetry.lower import shown
from fairlead.kinds.telemetry.spec import (
    AccessLogging,
    CustomTag,
    Metrics,
    MetricsOverride,
    ProviderRef,
    TagOverride,
    Telemetry,
    Tracing,
)
from fairlead.model.cel import check, without_string
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import doubtful, forbidden, invalid, no_effect, required
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.syntax import wrong_duration
from fairlead.model.target import selector_problems, target_problems, unserved_targets

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_HEADER = re.compile(r":?[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")


def validate(obj: Object[Telemetry]) -> Iterator[Problem]:
    """What it is for, then its three parts."""
    spec = obj.spec
    yield from target_problems(spec.selector, spec.target_ref, spec.target_refs)
    yield from selector_problems(spec.selector)
    yield from unserved_targets(spec.target_ref, spec.target_refs)
    if len(spec.tracing) > 1:
        yield doubtful(SPEC / "tracing", "only one entry for traces counts", "Join them.")
    for at, tracing in enumerate(spec.tracing):
        yield from _tracing(tracing, SPEC.child("tracing", at))
    for at, metrics in enumerate(spec.metrics):
        yield from _metrics(metrics, SPEC.child("metrics", at))
    for at, logging in enumerate(spec.access_logging):
        yield from _logging(logging, SPEC.child("accessLogging", at))


def _tracing(said: Tracing, path: FieldPath) -> Iterator[Problem]:
    yield from _repeated(said.providers, path)
    if len(said.providers) > 1:
        yield doubtful(path / "providers", "only the first provider of traces counts", "Keep one.")
    for name, tag in (said.custom_tags or {}).items():
        yield from _custom_tag(name, tag, path.child("customTags", name))


def _custom_tag(name: str, tag: CustomTag, path: FieldPath) -> Iterator[Problem]:
    if not name:
        yield invalid(path, "a tag has an empty name", "Name it.")
    chosen = [one for one in tag.__struct_fields__ if getattr(tag, one) is not None]
    if not chosen:
        said = f"tag {name!r} may not have a nil value"
        yield required(path, said, "Give literal, environment, header or formatter.")
    elif len(chosen) > 1:
        said = f"only one of literal, environment, header and formatter can be set, found {', '.join(chosen)}"
        yield forbidden(path, said, "Remove the others.")
    if tag.header is not None and not _HEADER.match(tag.header.name):
        yield invalid(path.child("header", "name"), f"{tag.header.name!r} is not the name of a header")
    if tag.formatter is not None:
        yield from format_problems(tag.formatter.value, path.child("formatter", "value"), TAG_OPERATORS)


def _metrics(said: Metrics, path: FieldPath) -> Iterator[Problem]:
    yield from _repeated(said.providers, path)
    if said.reporting_interval is not None:
        where = path / "reportingInterval"
        wrong = wrong_duration(said.reporting_interval)
        if wrong:
            yield invalid(where, f"must be a valid duration greater than 1ms: {wrong}")
        else:
            yield no_effect(where, "Bytes of a TCP connection are counted when it ends.")
    for at, one in enumerate(said.overrides):
        yield from _override(one, path.child("overrides", at))


def _override(said: MetricsOverride, path: FieldPath) -> Iterator[Problem]:
    match = said.match
    if match is not None and match.metric is not None and match.custom_metric is not None:
        yield forbidden(path / "match", "only one of metric and customMetric can be set", "Remove one.")
    elif match is not None and match.custom_metric is not None and match.custom_metric not in METRIC_NAMES:
        known = f"There are only Istio's metrics: {', '.join(METRIC_NAMES)}."
        yield no_effect(path.child("match", "customMetric"), known)
    for name, tag in said.tag_overrides.items():
        yield from _tag_override(name, tag, path.child("tagOverrides", name))


def _tag_override(name: str, tag: TagOverride, path: FieldPath) -> Iterator[Problem]:
    label = shown(name)
    if not _LABEL.match(name) or label.startswith("__") or label in ("le", "quantile", "labels", "omitted"):
        yield invalid(path, f"{name!r} cannot be the name of a label", "Use letters, digits and '_'.")
    if tag.operation == "REMOVE":
        if tag.value:
            said = "value must not be set when operation is REMOVE"
            yield forbidden(path / "value", said, "Remove the value, or use UPSERT.")
    elif not tag.value:
        said = "value must be set when operation is UPSERT"
        yield required(path / "value", said, "Give an expression such as request.host, or use REMOVE.")
    else:
        checked = check(without_string(tag.value))
        if checked.wrong:
            yield _not_cel(path / "value", tag.value, checked.wrong)
        elif ")%" in checked.text:
            yield invalid(path / "value", "Envoy cannot read an expression with )% in it", "Write a space between.")


def _logging(said: AccessLogging, path: FieldPath) -> Iterator[Problem]:
    yield from _repeated(said.providers, path)
    if said.filter is not None and said.filter.expression:
        wrong = check(said.filter.expression).wrong
        if wrong:
            yield _not_cel(path.child("filter", "expression"), said.filter.expression, wrong)


def _repeated(providers: tuple[ProviderRef, ...], path: FieldPath) -> Iterator[Problem]:
    names = [one.name for one in providers]
    for at, name in enumerate(names):
        if name in names[:at]:
            yield doubtful(path.child("providers", at), f"provider {name!r} is named twice", "Remove one.")


def _not_cel(path: FieldPath, text: str, wrong: str) -> Problem:
    said = f"{text[:60]!r} is not a CEL expression that Envoy can evaluate: {wrong}"
    return invalid(path, said, "Envoy's attributes and CEL's own functions are possible, such as request.method.")
