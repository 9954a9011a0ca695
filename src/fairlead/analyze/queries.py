"""What analyzers ask of all documents together: which workloads a selector means, who defines a host, who sees whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from fairlead.analyze import shape
from fairlead.analyze.document import (
    BY_SORT,
    CONFIG_MAP,
    DOCUMENTS,
    HOSTS,
    LABELS,
    MESH_CONFIG,
    NAMESPACE,
    ROOT_NAMESPACE,
    ROUTED_PATTERNS,
    SELECTING,
    SERVICE,
    WORKLOADS,
    Document,
    Label,
    Sort,
    export_to,
    wildcards,
    workload_labels,
)
from fairlead.inc import Reader, rule
from fairlead.ir.visibility import DOMAIN_SUFFIX, full_name, is_visible
from fairlead.model.ref import Ref
from fairlead.model.yaml import YAMLError, parse_documents

SYSTEM = frozenset(("kube-system", "kube-public", "kube-node-lease", "local-path-storage"))
"""Namespaces of Kubernetes itself (with Istio's choice of a well-known provisioner): not analyzed."""


def document(r: Reader, sort: Sort, namespace: str, name: str) -> Document | None:
    """The document of one object."""
    return r.get(DOCUMENTS, Ref(sort[0], sort[1], namespace, name))


def exists(r: Reader, sort: Sort, namespace: str, name: str) -> bool:
    """Whether there is a document of an object."""
    return document(r, sort, namespace, name) is not None


def every(r: Reader, sort: Sort, namespace: str = "*") -> Iterator[Document]:
    """All documents of a kind in a namespace, or everywhere."""
    for _, one in r.rows(BY_SORT, (sort, namespace)):
        yield one


def matching(r: Reader, selector: dict[str, str], namespace: str = "*") -> list[Ref]:
    """The workloads that have all labels of a selector; all of them where it is empty."""
    if not selector:
        return list(r.find(WORKLOADS, namespace))
    buckets: list[tuple[Ref, ...]] = []
    for key, value in sorted(selector.items()):
        buckets.append(r.find(LABELS, Label(namespace, key, value)))
        if not buckets[-1]:
            return []
    smallest = min(buckets, key=len)
    if len(buckets) == 1:
        return list(smallest)
    return [ref for ref in smallest if includes(labels_of(r, ref), selector)]


def labels_of(r: Reader, ref: Ref) -> dict[str, str]:
    """The labels of a workload; {} where there is none."""
    one = r.get(DOCUMENTS, ref)
    return (workload_labels(one) if one is not None else None) or {}


def any_matching(r: Reader, selector: dict[str, str], namespace: str = "*") -> bool:
    """Whether a selector means any workload."""
    if not selector:
        return r.has(WORKLOADS, namespace)
    if len(selector) == 1:
        return all(r.has(LABELS, Label(namespace, key, value)) for key, value in selector.items())
    return bool(matching(r, selector, namespace))


def selected_by(r: Reader, labels: dict[str, str], namespace: str) -> list[Document]:
    """The Services of a namespace whose selector means a workload with these labels."""
    found: list[Document] = []
    for key, value in sorted(labels.items()):
        for _, one in r.rows(SELECTING, Label(namespace, key, value)):
            if includes(labels, shape.pairs(one.spec, "selector")):
                found.append(one)
    return found


def includes(labels: dict[str, str], selector: dict[str, str]) -> bool:
    """Whether labels have everything that a selector asks for."""
    return all(labels.get(key) == value for key, value in selector.items())


def qualified(host: str, namespace: str) -> str:
    """A host as hosts are compared: fully qualified, in lower case."""
    return full_name(host, namespace, DOMAIN_SUFFIX).lower()


def defined_by(r: Reader, host: str, namespace: str) -> Document | None:
    """The Service or ServiceEntry that defines a host for clients of a namespace; the most specific wildcard counts."""
    name = qualified(host, namespace)
    for pattern in (name, *wildcards(name)):
        found = [one for _, one in r.rows(HOSTS, pattern) if is_visible(export_to(one), one.ref.namespace, namespace)]
        if found:
            return min(found, key=lambda one: (one.ref.namespace != namespace, one.sort != SERVICE, one.ref))
    return None


def routing(r: Reader, host: str, *, everywhere: bool) -> Iterator[Ref]:
    """VirtualServices for sidecars with a pattern that may mean a host (or one of a pattern's hosts).

    Those that are shown to all namespaces if `everywhere`, those that are shown to some if not.
    """
    for pattern in (host, *wildcards(host)):
        yield from r.find(ROUTED_PATTERNS, (everywhere, "", pattern))
    if host.startswith("*"):
        yield from r.find(ROUTED_PATTERNS, (everywhere, "under", host))


def hidden_by(r: Reader, host: str, namespace: str) -> Document | None:
    """An object that defines the host, but not for clients of this namespace."""
    for _, one in r.rows(HOSTS, qualified(host, namespace)):
        if not is_visible(export_to(one), one.ref.namespace, namespace):
            return one
    return None


def injected(r: Reader, one: Document) -> bool:
    """Whether a workload has a sidecar, or will get one.

    A Process or WorkloadEntry is of the mesh unless it says otherwise; a pod is if it has the container, else as its
    label, its annotation or its namespace say (Istio's injection).
    """
    labels = workload_labels(one) or {}
    template = one.data if one.ref.kind == "Pod" else shape.mapping(one.spec, "template")
    if one.ref.group in ("fairlead.dev", "networking.istio.io"):
        return shape.text(one.spec, "proxy") != "none"
    containers = (*shape.items(template, "spec", "containers"), *shape.items(template, "spec", "initContainers"))
    if any(part.get("name") == "istio-proxy" and part.get("image") for part in containers):
        return True
    for said in (labels, shape.pairs(template, "metadata", "annotations")):
        if "sidecar.istio.io/inject" in said:
            return said["sidecar.istio.io/inject"] == "true"
    namespace = document(r, NAMESPACE, "", one.ref.namespace)
    return namespace is not None and namespace.labels.get("istio-injection") == "enabled"


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = parse_documents(text)
    except YAMLError:
        return {}
    return found[0].data if found else {}


@rule
def mesh_config(r: Reader, _: str) -> dict[str, Any]:
    """The settings of the mesh: ConfigMap istio-system/istio, key `mesh`, or the object MeshConfig; {} for neither."""
    held = document(r, CONFIG_MAP, ROOT_NAMESPACE, "istio")
    if held is not None:
        return _parsed(shape.text(held.data, "data", "mesh"))
    found = document(r, MESH_CONFIG, "", "istio")
    return found.spec if found is not None else {}


@rule
def mesh_networks(r: Reader, _: str) -> dict[str, Any]:
    """The networks of the mesh: ConfigMap istio-system/istio, key `meshNetworks`."""
    held = document(r, CONFIG_MAP, ROOT_NAMESPACE, "istio")
    return _parsed(shape.text(held.data, "data", "meshNetworks")) if held is not None else {}


def root_namespace(r: Reader) -> str:
    """The namespace whose policies hold everywhere."""
    return str(mesh_config(r, "").get("rootNamespace") or ROOT_NAMESPACE)


def meets(selector: object, labels: dict[str, str]) -> bool:
    """Whether a Kubernetes LabelSelector (matchLabels, matchExpressions) means these labels; None means all."""
    if not isinstance(selector, dict):
        return selector is None
    asked = cast("dict[str, Any]", selector)
    return includes(labels, shape.pairs(asked, "matchLabels")) and all(
        _meets(one, labels) for one in shape.items(asked, "matchExpressions")
    )


def _meets(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    has = labels.get(shape.text(expression, "key"))
    values = shape.words(expression, "values")
    match expression.get("operator"):
        case "In":
            return has is not None and has in values
        case "NotIn":
            return has is None or has not in values
        case "Exists":
            return has is not None
        case "DoesNotExist":
            return has is None
        case _:
            return False
