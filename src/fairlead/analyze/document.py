"""Documents as the analyzers see them: raw, of every kind, with indexes by what others ask for.

Documents of kinds that Fairlead does not serve (Pods, Deployments, webhooks ...) are here too, and documents that are
not valid: nothing may be assumed of their shape, which is why everything is read through `shape`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from fairlead.analyze.shape import items, mapping, pairs, words
from fairlead.inc import Table
from fairlead.ir.visibility import DOMAIN_SUFFIX, concerned, full_name
from fairlead.model.manifest import Json
from fairlead.model.ref import Ref

T = TypeVar("T")
Sort = tuple[str, str]
"""A group and a kind, whatever the version."""

NETWORKING, SECURITY, TELEMETRY_GROUP = "networking.istio.io", "security.istio.io", "telemetry.istio.io"
VIRTUAL_SERVICE: Sort = (NETWORKING, "VirtualService")
DESTINATION_RULE: Sort = (NETWORKING, "DestinationRule")
GATEWAY: Sort = (NETWORKING, "Gateway")
SERVICE_ENTRY: Sort = (NETWORKING, "ServiceEntry")
WORKLOAD_ENTRY: Sort = (NETWORKING, "WorkloadEntry")
WORKLOAD_GROUP: Sort = (NETWORKING, "WorkloadGroup")
SIDECAR: Sort = (NETWORKING, "Sidecar")
ENVOY_FILTER: Sort = (NETWORKING, "EnvoyFilter")
AUTHORIZATION: Sort = (SECURITY, "AuthorizationPolicy")
REQUEST_AUTHENTICATION: Sort = (SECURITY, "RequestAuthentication")
PEER_AUTHENTICATION: Sort = (SECURITY, "PeerAuthentication")
TELEMETRY: Sort = (TELEMETRY_GROUP, "Telemetry")
WASM_PLUGIN: Sort = ("extensions.istio.io", "WasmPlugin")
K8S_GATEWAY: Sort = ("gateway.networking.k8s.io", "Gateway")
PROCESS: Sort = ("fairlead.dev", "Process")
SERVICE: Sort = ("", "Service")
NAMESPACE: Sort = ("", "Namespace")
POD: Sort = ("", "Pod")
NODE: Sort = ("", "Node")
SECRET: Sort = ("", "Secret")
CONFIG_MAP: Sort = ("", "ConfigMap")
DEPLOYMENT: Sort = ("apps", "Deployment")
INGRESS: Sort = ("networking.k8s.io", "Ingress")
INGRESS_CLASS: Sort = ("networking.k8s.io", "IngressClass")
MESH_CONFIG: Sort = ("mesh.istio.io", "MeshConfig")
CRD: Sort = ("apiextensions.k8s.io", "CustomResourceDefinition")
MUTATING: Sort = ("admissionregistration.k8s.io", "MutatingWebhookConfiguration")
VALIDATING: Sort = ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration")

CLUSTER_SCOPED = frozenset(
    (NAMESPACE, NODE, CRD, MUTATING, VALIDATING, MESH_CONFIG, INGRESS_CLASS, ("", "PersistentVolume"))
)
TEMPLATED = frozenset(
    (
        DEPLOYMENT,
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("apps", "ReplicaSet"),
        ("batch", "Job"),
        ("argoproj.io", "Rollout"),
    )
)
ROOT_NAMESPACE = "istio-system"
MESH = "mesh"
"""The reserved name of all sidecars in `VirtualService.spec.gateways`."""


class Document:
    """One document: which object it is, and its data. `ref` has the namespace that an unnamed one falls to.

    `sort` is its group and kind, `spec` the field of this name, {} where there is none. Nothing of it changes.
    """

    __slots__ = ("_made", "data", "ref", "sort", "spec")

    def __init__(self, ref: Ref, data: Json) -> None:
        self.ref = ref
        self.data = data
        self.sort: Sort = (ref.group, ref.kind)
        self.spec = mapping(data, "spec")
        self._made: dict[Callable[[Document], Any], Any] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and (self.ref, self.data) == (other.ref, other.data)

    __hash__ = None  # type: ignore[assignment]

    def once(self, make: Callable[[Document], T]) -> T:
        """What a function makes of the document alone, made when it is first asked for: many analyzers ask the same."""
        made = self._made
        if make in made:
            return made[make]
        found = made[make] = make(self)
        return found

    @property
    def labels(self) -> dict[str, str]:
        """The object's own labels."""
        return pairs(self.data, "metadata", "labels")

    @property
    def annotations(self) -> dict[str, str]:
        """The object's annotations."""
        return pairs(self.data, "metadata", "annotations")


class Label(NamedTuple):
    """A label of a workload, in a namespace ("*": in any)."""

    namespace: str
    key: str
    value: str


def workload_labels(document: Document) -> dict[str, str] | None:
    """The labels that selectors are held against, None if the document describes no workload."""
    return document.once(_workload_labels)


def _workload_labels(document: Document) -> dict[str, str] | None:
    sort = document.sort
    if sort == POD:
        return document.labels
    if sort in TEMPLATED:
        return pairs(document.spec, "template", "metadata", "labels")
    if sort in (PROCESS, WORKLOAD_ENTRY):
        return {**document.labels, **pairs(document.spec, "labels")}
    if sort == WORKLOAD_GROUP:
        return pairs(document.spec, "metadata", "labels")
    return None


def export_to(document: Document) -> tuple[str, ...]:
    """To which namespaces an object is shown: `spec.exportTo`, or the annotation of a Service; () is everywhere."""
    return document.once(_export_to)


def _export_to(document: Document) -> tuple[str, ...]:
    if document.sort == SERVICE:
        said = document.annotations.get("networking.istio.io/exportTo", "")
        return tuple(one.strip() for one in said.split(",") if one.strip())
    return tuple(words(document.spec, "exportTo"))


def hosts_of(document: Document) -> list[str]:
    """The hosts that a Service or ServiceEntry defines, fully qualified and in lower case."""
    if document.sort == SERVICE:
        return [full_name(document.ref.name, document.ref.namespace, DOMAIN_SUFFIX).lower()]
    if document.sort == SERVICE_ENTRY:
        return [full_name(one, document.ref.namespace, DOMAIN_SUFFIX).lower() for one in words(document.spec, "hosts")]
    return []


def attached_to_mesh(document: Document) -> bool:
    """Whether a VirtualService is for sidecars (it names no gateway, or `mesh` among them)."""
    return document.once(_attached_to_mesh)


def _attached_to_mesh(document: Document) -> bool:
    gateways = words(document.spec, "gateways")
    return not gateways or MESH in gateways


def scopes(document: Document) -> list[str]:
    """The namespaces that see an object, `*` for all of them."""
    return document.once(_scopes)


def _scopes(document: Document) -> list[str]:
    return sorted(set(concerned(export_to(document), document.ref.namespace))) or (
        [] if "~" in export_to(document) else ["*"]
    )


def _by_sort(_: Ref, one: Document) -> Iterator[tuple[Sort, str]]:
    yield one.sort, one.ref.namespace
    yield one.sort, "*"


def _by_label(_: Ref, one: Document) -> Iterator[Label]:
    labels = workload_labels(one)
    for key, value in (labels or {}).items():
        yield Label(one.ref.namespace, key, value)
        yield Label("*", key, value)


def _workloads(_: Ref, one: Document) -> Iterator[str]:
    if workload_labels(one) is not None:
        yield one.ref.namespace
        yield "*"


def _selecting(_: Ref, one: Document) -> Iterator[Label]:
    selector = pairs(one.spec, "selector") if one.sort == SERVICE else {}
    if selector:
        key = min(selector)
        yield Label(one.ref.namespace, key, selector[key])


def _hosts(_: Ref, one: Document) -> Iterator[str]:
    yield from hosts_of(one)


def _rule_hosts(_: Ref, one: Document) -> Iterator[str]:
    if one.sort == DESTINATION_RULE:
        host = one.spec.get("host")
        if isinstance(host, str):
            yield full_name(host, one.ref.namespace, DOMAIN_SUFFIX).lower()


def wildcards(host: str) -> tuple[str, ...]:
    """The patterns that are wider than a host, the closest first: `*.b.c`, `*.c` and `*` for `a.b.c`."""
    _, dot, rest = host.removeprefix("*").lstrip(".").partition(".")
    if dot:
        return _wider(rest)
    return () if host == "*" else ("*",)


@lru_cache(4096)
def _wider(rest: str) -> tuple[str, ...]:
    """The patterns for what stands behind the first dot: the same for all hosts of a namespace."""
    found: list[str] = []
    dot = "."
    while dot:
        found.append(f"*.{rest}")
        _, dot, rest = rest.lstrip(".").partition(".")
    return (*found, "*")


def _routed_hosts(_: Ref, one: Document) -> Iterator[str]:
    """Hosts for which sidecars get routes from a VirtualService, by scope."""
    if one.sort == VIRTUAL_SERVICE and attached_to_mesh(one):
        for scope in scopes(one):
            for host in words(one.spec, "hosts"):
                yield f"{scope}/{full_name(host, one.ref.namespace, DOMAIN_SUFFIX).lower()}"


def _routed_patterns(_: Ref, one: Document) -> Iterator[tuple[bool, str, str]]:
    """As above: (whether for all sidecars, "" for the host itself or "under" for what is wider than it, pattern)."""
    if one.sort == VIRTUAL_SERVICE and attached_to_mesh(one):
        seen = scopes(one)
        for host in words(one.spec, "hosts") if seen else ():
            name = full_name(host, one.ref.namespace, DOMAIN_SUFFIX).lower()
            yield seen == ["*"], "", name
            for wider in wildcards(name):
                yield seen == ["*"], "under", wider


def _subset_routes(_: Ref, one: Document) -> Iterator[tuple[str, str]]:
    """The hosts and subsets to which a VirtualService sends HTTP requests."""
    if one.sort == VIRTUAL_SERVICE:
        for rule in items(one.spec, "http"):
            for route in items(rule, "route"):
                to = mapping(route, "destination")
                host, subset = to.get("host"), to.get("subset")
                if isinstance(host, str) and isinstance(subset, str) and subset:
                    yield full_name(host, one.ref.namespace, DOMAIN_SUFFIX).lower(), subset


def _gateway_users(_: Ref, one: Document) -> Iterator[str]:
    """The gateways that a VirtualService names, as `namespace/name`."""
    if one.sort == VIRTUAL_SERVICE:
        for name in words(one.spec, "gateways"):
            if name != MESH:
                yield name if "/" in name else f"{one.ref.namespace}/{name}"


def _gateway_ports(_: Ref, one: Document) -> Iterator[tuple[str, str, int]]:
    """The ports of a Gateway with each pair of its selector, ("", "") if it has none; ("*", "*") is every Gateway."""
    if one.sort == GATEWAY:
        selector = pairs(one.spec, "selector")
        for server in items(one.spec, "servers"):
            number = mapping(server, "port").get("number")
            if isinstance(number, int):
                yield "*", "*", number
                for key, value in sorted(selector.items()) or [("", "")]:
                    yield key, value, number


def _gateway_selectors(_: Ref, one: Document) -> Iterator[tuple[str, str]]:
    """The pairs of a Gateway's selector; ("", "") for every Gateway."""
    if one.sort == GATEWAY:
        yield "", ""
        yield from pairs(one.spec, "selector").items()


def selector_text(selector: dict[str, str]) -> str:
    """A selector as Kubernetes writes it: `a=b,c=d`."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


def _routed_subsets(_: Ref, one: Document) -> Iterator[str]:
    """Own hosts, as written, to a subset of which a VirtualService sends HTTP requests."""
    if one.sort == VIRTUAL_SERVICE:
        hosts = set(words(one.spec, "hosts"))
        for rule in items(one.spec, "http"):
            for route in items(rule, "route"):
                to = mapping(route, "destination")
                host = to.get("host")
                if to.get("subset") and isinstance(host, str) and host in hosts:
                    yield host


DOCUMENTS: Table[Ref, Document] = Table("documents")
"""Every document that is analyzed."""
CLOCK: Table[str, int] = Table("clock")
"""One row "now": seconds since 1970, rounded down to the hour by whoever writes it. Absent: nothing expires."""

BY_SORT = DOCUMENTS.index("sort", _by_sort)
"""By (group and kind, namespace); namespace "*" has all of a kind: only to be asked where an answer needs all."""
LABELS = DOCUMENTS.index("labels", _by_label)
WORKLOADS = DOCUMENTS.index("workloads", _workloads)
SELECTING = DOCUMENTS.index("selecting", _selecting)
HOSTS = DOCUMENTS.index("hosts", _hosts)
RULE_HOSTS = DOCUMENTS.index("rulehosts", _rule_hosts)
ROUTED_HOSTS = DOCUMENTS.index("routedhosts", _routed_hosts)
ROUTED_PATTERNS = DOCUMENTS.index("routedpatterns", _routed_patterns)
GATEWAY_USERS = DOCUMENTS.index("gatewayusers", _gateway_users)
GATEWAY_PORTS = DOCUMENTS.index("gatewayports", _gateway_ports)
GATEWAY_SELECTORS = DOCUMENTS.index("gatewayselectors", _gateway_selectors)
ROUTED_SUBSETS = DOCUMENTS.index("routedsubsets", _routed_subsets)
SUBSET_ROUTES = DOCUMENTS.index("subsetroutes", _subset_routes)
