"""What a policy applies to: a workload selector or references (`istio.type.v1beta1`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.object import Spec
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.syntax import label_problems

_TARGETS = {
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
}
_REFERENCES = 16


class WorkloadSelector(Spec, frozen=True):
    """Chooses workloads of the policy's namespace (of all namespaces, if it stands in the root namespace)."""

    match_labels: Annotated[
        dict[str, str], Meta(max_length=4096, description="Labels that a workload must have; empty: every one.")
    ] = {}


class TargetReference(Spec, frozen=True):
    """An object that the policy is attached to."""

    kind: Annotated[str, Meta(description="Gateway, GatewayClass, Service or ServiceEntry.")]
    name: Annotated[str, Meta(max_length=253, description="Name of the object.")]
    group: Annotated[str, Meta(description="API group; empty for Service.")] = ""
    namespace: Annotated[str, Meta(description="Must be empty: the policy's own namespace.")] = ""


def selector_problems(selector: WorkloadSelector | None) -> Iterator[Problem]:
    """Labels without wildcards; a warning for a selector that chooses nothing in particular."""
    if selector is not None:
        yield from chosen_problems(selector.match_labels, SPEC / "selector", "matchLabels")


def chosen_problems(labels: Mapping[str, str], path: FieldPath, field: str) -> Iterator[Problem]:
    """As `selector_problems`, for the selector at `path` whose labels stand in `field`."""
    where = path / field
    if not labels:
        said = "workload selector specified without labels: it chooses every workload"
        yield Problem(path, said, Severity.WARNING, f"Add {field}, or remove the selector.", "FL0101")
    for key, value in labels.items():
        if not key:
            yield Problem(where, "an empty key is not possible", remedy="Name the label.")
        elif "*" in key or "*" in value:
            remedy = "Name the labels exactly."
            yield Problem(where / key, "wildcards are not supported in a selector", remedy=remedy)
        else:
            yield from label_problems({key: value}, where)


def target_problems(
    selector: WorkloadSelector | None, target: TargetReference | None, targets: tuple[TargetReference, ...]
) -> Iterator[Problem]:
    """At most one of selector, targetRef and targetRefs; references to kinds that take policies."""
    if sum((selector is not None, target is not None, bool(targets))) > 1:
        said = "only one of targetRefs or selector can be set"
        yield Problem(SPEC, said, remedy="Remove the others.", reason="FieldValueForbidden")
    if target is not None:
        yield from _reference(target, SPEC / "targetRef")
    if len(targets) > _REFERENCES:
        yield Problem(SPEC / "targetRefs", f"more than {_REFERENCES} references", remedy="Split the policy.")
    for at, one in enumerate(targets):
        yield from _reference(one, SPEC.child("targetRefs", at))


def unserved_targets(target: TargetReference | None, targets: tuple[TargetReference, ...]) -> Iterator[Problem]:
    """A warning for each reference to what only a waypoint would serve: there are none."""
    found = [(SPEC / "targetRef", target)] if target is not None else []
    found += [(SPEC.child("targetRefs", at), one) for at, one in enumerate(targets)]
    for path, one in found:
        if (one.group, one.kind) in _TARGETS and one.kind != "Gateway":
            said = f"a policy for a {one.kind} is enforced by waypoints, of which there are none: it is not enforced"
            yield Problem(path, said, Severity.WARNING, "Use a selector.", "FL0100")


def _reference(target: TargetReference, path: FieldPath) -> Iterator[Problem]:
    if not target.name:
        yield Problem(path / "name", "required", code="FL0004", reason="FieldValueRequired")
    if target.namespace:
        said = "cross namespace referencing is not supported"
        yield Problem(path / "namespace", said, remedy="Put the policy into that namespace.")
    if (target.group, target.kind) not in _TARGETS:
        said = f"{target.group or 'core'}/{target.kind} does not take policies"
        remedy = "One of Service, ServiceEntry, Gateway and GatewayClass (gateway.networking.k8s.io)."
        yield Problem(path / "kind", said, remedy=remedy, reason="FieldValueNotSupported")
