"""Objects that select workloads: whether they select any, and whether two select the same.

Sidecar, Telemetry, AuthorizationPolicy, and policies for gateways of the Gateway API (semantics: Istio's analyzers).
"""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import (
    AUTHORIZATION,
    DOCUMENTS,
    NAMESPACE,
    POD,
    REQUEST_AUTHENTICATION,
    SIDECAR,
    TELEMETRY,
    WASM_PLUGIN,
    WORKLOADS,
    Document,
    selector_text,
)
from fairlead.analyze.finding import Said
from fairlead.inc import Reader
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.ref import Ref

_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


def _selector(one: Document) -> dict[str, str]:
    if one.sort == SIDECAR:
        return shape.pairs(one.spec, "workloadSelector", "labels")
    return shape.pairs(one.spec, "selector", "matchLabels")


def _path(one: Document) -> FieldPath:
    if one.sort == SIDECAR:
        return SPEC.child("workloadSelector", "labels")
    return SPEC.child("selector", "matchLabels")


def _overlapping(r: Reader, one: Document, code: str, counts: str) -> Iterator[Said]:
    selector = _selector(one)
    if not selector:
        return
    selected = queries.matching(r, selector, one.ref.namespace)
    if not selected:
        said = f"no workload of namespace {one.ref.namespace} has the labels {selector_text(selector)}"
        yield Said("IST0101", said, _path(one), f"This {one.ref.kind} has no effect.")
        return
    # Others are asked for once, and each workload is named with all that select it.
    others = [other for other in queries.every(r, one.sort, one.ref.namespace) if _selector(other)]
    for ref in selected:
        labels = queries.labels_of(r, ref)
        names = [str(other.ref) for other in others if queries.includes(labels, _selector(other))]
        if len(names) > 1:
            said = f"{ref} is selected by {', '.join(names)}, of which {counts}"
            yield Said(code, said, METADATA / "name", "Let each workload be selected by one.")


def _alone(r: Reader, one: Document, code: str) -> Iterator[Said]:
    if _selector(one) or shape.value(one.spec, "targetRef") or shape.value(one.spec, "targetRefs"):
        return
    others = [
        str(other.ref)
        for other in queries.every(r, one.sort, one.ref.namespace)
        if not _selector(other) and not shape.value(other.spec, "targetRef") and other.ref != one.ref
    ]
    if others:
        said = f"{', '.join(others)} of this namespace has no selector either, and only the oldest of them counts"
        yield Said(code, said, METADATA / "name", "Keep one without a selector for a namespace.")


def sidecar(r: Reader, one: Document) -> Iterator[Said]:
    """Sidecars that select nobody, or the same workload as another."""
    yield from _overlapping(r, one, "IST0110", "only the oldest counts")
    yield from _alone(r, one, "IST0111")
    if any(_ambient(r, ref) for ref in queries.matching(r, _selector(one), one.ref.namespace)):
        said = "it selects workloads in ambient mode, which have no sidecar"
        yield Said("IST0167", said, _path(one))


def _ambient(r: Reader, ref: Ref) -> bool:
    one = r.get(DOCUMENTS, ref)
    if one is None or one.sort != POD:
        return False
    if one.annotations.get("ambient.istio.io/redirection") == "enabled":
        return True
    home = queries.document(r, NAMESPACE, "", ref.namespace)
    return (
        home is not None
        and home.labels.get("istio.io/dataplane-mode") == "ambient"
        and not home.labels.get("istio.io/rev")
        and home.labels.get("istio-injection") != "enabled"
    )


def telemetry(r: Reader, one: Document) -> Iterator[Said]:
    """Telemetry objects that select nobody, or the same workload as another."""
    yield from _overlapping(r, one, "IST0159", "the youngest has the last word")


def telemetry_default(r: Reader, one: Document) -> Iterator[Said]:
    """Several Telemetry objects of a namespace without a selector."""
    yield from _alone(r, one, "IST0160")


def authorization(r: Reader, one: Document) -> Iterator[Said]:
    """AuthorizationPolicies that hold for nobody, and namespaces of callers that are not there."""
    selector = _selector(one)
    home = "*" if one.ref.namespace == queries.root_namespace(r) else one.ref.namespace
    attached = shape.value(one.spec, "targetRef") or shape.value(one.spec, "targetRefs")
    if attached or (home == "*" and not selector):
        pass
    elif not _in_mesh(r, selector, home):
        said = (
            f"no workload of the mesh has the labels {selector_text(selector)}" if selector else "no workload is here"
        )
        yield Said("IST0127", said, _path(one) if selector else METADATA / "namespace", "The policy has no effect.")
    for at, rule in shape.entries(one.spec, "rules"):
        for number, source in shape.entries(rule, "from"):
            for field in ("namespaces", "notNamespaces"):
                for index, name in enumerate(shape.words(source, "source", field)):
                    if not _namespace_like(r, name):
                        path = SPEC.child("rules", at, "from", number, "source", field, index)
                        yield Said("IST0101", f"there is no namespace {name}", path)


def _in_mesh(r: Reader, selector: dict[str, str], namespace: str) -> bool:
    for ref in queries.matching(r, selector, namespace):
        one = r.get(DOCUMENTS, ref)
        if one is not None and (queries.injected(r, one) or _ambient(r, ref)):
            return True
    return False


def _namespace_like(r: Reader, pattern: str) -> bool:
    if pattern == "*" or queries.exists(r, NAMESPACE, "", pattern) or r.has(WORKLOADS, pattern):
        return True
    if "*" not in pattern:
        return any(one.ref.name.lower() == pattern.lower() for one in queries.every(r, NAMESPACE))
    names = [one.ref.name for one in queries.every(r, NAMESPACE)]
    if pattern.startswith("*"):
        return any(name.endswith(pattern[1:]) for name in names)
    return any(name.startswith(pattern[:-1]) for name in names) if pattern.endswith("*") else False


def for_gateways(r: Reader, one: Document) -> Iterator[Said]:
    """Policies that select the pods of a Gateway API gateway by label, which Istio does not honour."""
    selector = _selector(one)
    if not selector or shape.value(one.spec, "targetRef"):
        return
    for ref in queries.matching(r, selector, one.ref.namespace):
        name = queries.labels_of(r, ref).get(_GATEWAY_NAME)
        if name and ref.kind == "Pod":
            yield Said("IST0166", f"the selector does not reach the gateway {name}", _path(one), "Use targetRefs.")


ANALYZERS = (
    Analyzer("sidecar.SelectorAnalyzer", ("IST0101", "IST0110", "IST0111", "IST0167"), (SIDECAR,), sidecar),
    Analyzer("telemetry.SelectorAnalyzer", ("IST0101", "IST0159"), (TELEMETRY,), telemetry),
    Analyzer("telemetry.DefaultSelectorAnalyzer", ("IST0160",), (TELEMETRY,), telemetry_default),
    Analyzer("auth.AuthorizationPoliciesAnalyzer", ("IST0101", "IST0127"), (AUTHORIZATION,), authorization),
    Analyzer(
        "k8sgateway.SelectorAnalyzer",
        ("IST0166",),
        (AUTHORIZATION, REQUEST_AUTHENTICATION, TELEMETRY, WASM_PLUGIN),
        for_gateways,
    ),
)
