"""EnvoyFilter: a stage behind the rule of each part, for the proxies that some object selects.

Which objects patch a proxy is found once for its namespace and labels; a proxy that none selects has the layers and
parts that it would have without. Patched parts are keyed by the part and the objects that touch its type, so proxies
that share a part and are patched by the same objects share the patched one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from fairlead.compiler.gateways import GatewaysKey, RouteServersKey, servers_of_route
from fairlead.compiler.hosts import settings
from fairlead.envoy.patching import MERGES, Patches, patched_cluster, value_of
from fairlead.envoy.patchlistener import patched_listener
from fairlead.envoy.patchroutes import RouteSite, patched_routes
from fairlead.envoy.resource import CLUSTER, EXTENSION, LISTENER, ROUTE, Resource
from fairlead.inc import Reader, Rule, rule
from fairlead.ir.attachment import attaches
from fairlead.ir.filters import Pairs
from fairlead.ir.patch import PATCHES, PATCHES_BY_NAMESPACE, Patch, PatchSet
from fairlead.ir.view import View
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.launch import BootstrapPatch
from fairlead.model.ref import NamespacedName
from fairlead.model.regex import is_found

UNMATCHED_CODE = "FL2402"
"""A patch of an EnvoyFilter that matches nothing in any proxy that the object selects."""

_TYPES: Mapping[str, tuple[str, ...]] = {
    CLUSTER: ("CLUSTER",),
    LISTENER: (
        "LISTENER",
        "FILTER_CHAIN",
        "LISTENER_FILTER",
        "NETWORK_FILTER",
        "HTTP_FILTER",
        # Inbound routes stand in the listener.
        "ROUTE_CONFIGURATION",
        "VIRTUAL_HOST",
        "HTTP_ROUTE",
    ),
    ROUTE: ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"),
    EXTENSION: ("EXTENSION_CONFIG",),
}
_ADDED: Mapping[str, str] = {CLUSTER: "CLUSTER", LISTENER: "LISTENER", EXTENSION: "EXTENSION_CONFIG"}


class SelectKey(NamedTuple):
    """A workload as EnvoyFilters select it."""

    namespace: str
    labels: Pairs


class Considered(msgspec.Struct, frozen=True):
    """A report that the patches of an object were looked at."""

    patches: tuple[Patch, ...]


class Effective(msgspec.Struct, frozen=True):
    """A report that a patch took effect."""

    patch: Patch


@rule
def selected(r: Reader, key: SelectKey) -> tuple[NamespacedName, ...]:
    """The objects that patch a workload, in the order in which they apply.

    By priority; of one priority those of the root namespace first, then the oldest, then by name.
    """
    root = settings(r).root_namespace
    found: list[PatchSet] = []
    for namespace in dict.fromkeys((root, key.namespace)):
        for _, one in r.rows(PATCHES_BY_NAMESPACE, namespace):
            if attaches(namespace, one.selector, one.targets, key.namespace, key.labels):
                found.append(one)
    found.sort(
        key=lambda one: (one.priority, one.key.namespace != root, one.created, f"{one.key.name}.{one.key.namespace}")
    )
    return tuple(one.key for one in found)


@rule
def bootstrap_patches(r: Reader, key: SelectKey) -> tuple[BootstrapPatch, ...]:
    """The changes of a workload's bootstrap, in order. Whether the proxy is one that they want, its agent knows.

    As in Istio the context does not count (`pilot/pkg/bootstrap`, `pilot/pkg/xds/bootstrapds.go`).
    """
    return tuple(
        BootstrapPatch(one.value, str(one.origin), one.operation == "MERGE_AND_REPLACE_LIST", one.version, one.metadata)
        for name in selected(r, key)
        for one in _patches(r, name)
        if one.apply_to == "BOOTSTRAP" and one.operation in MERGES
    )


class ProxyKey(NamedTuple):
    """What of a proxy its patches depend on: the objects, its type, and what they ask of it.

    `metadata` holds only what some patch asks for.
    """

    sets: tuple[NamespacedName, ...]
    type: str
    version: str = ""
    metadata: Pairs = ()

    @staticmethod
    def of(r: Reader, view: View) -> ProxyKey:
        """The key of a view."""
        sets = selected(r, SelectKey(view.namespace, view.labels))
        if not sets:
            return ProxyKey((), view.type)
        asked = [patch for one in sets for patch in _patches(r, one)]
        names = {name for patch in asked for name, _ in patch.metadata}
        version = view.version if any(patch.version for patch in asked) else ""
        return ProxyKey(sets, view.type, version, tuple(pair for pair in view.metadata if pair[0] in names))

    def only(self, sets: tuple[NamespacedName, ...]) -> ProxyKey:
        """The key with some of the objects."""
        return self._replace(sets=sets)


class Patched(NamedTuple):
    """A part behind which patches stand."""

    rule: Rule[Any, Any]
    key: Hashable
    type_url: str
    proxy: ProxyKey


class AddedKey(NamedTuple):
    """A resource that an object adds."""

    key: NamespacedName
    at: int
    type_url: str
    proxy: ProxyKey


def touching(r: Reader, proxy: ProxyKey, type_url: str) -> tuple[NamespacedName, ...]:
    """The objects that change resources of a type."""
    wanted = _TYPES.get(type_url, ())
    return tuple(one for one in proxy.sets if any(patch.apply_to in wanted for patch in _patches(r, one)))


def added_keys(r: Reader, proxy: ProxyKey, type_url: str) -> tuple[AddedKey, ...]:
    """The resources of a type that objects add."""
    return tuple(
        AddedKey(one, at, type_url, proxy.only((one,)))
        for one in proxy.sets
        for at, patch in enumerate(_patches(r, one))
        if patch.apply_to == _ADDED[type_url] and patch.operation == "ADD" and _adds(patch, proxy)
    )


@rule
def patched(r: Reader, key: Patched) -> Resource | None:
    """A resource after the patches; None where they remove it, or where there is none."""
    made: Resource | None = key.rule(r, key.key)
    for one in key.proxy.sets:
        r.report(Considered(_patches(r, one)))
    if made is None:
        return None
    patches = Patches(tuple(patch for one in key.proxy.sets for patch in _holding(r, one, key.proxy)))
    body = _apply(r, key, made, patches)
    for patch in patches.wanted:
        if patch in patches.effective:
            r.report(Effective(patch))
    if body is None or body == made.body:
        return None if body is None else made
    return Resource.of(made.type_url, made.name, body)


@rule
def added(r: Reader, key: AddedKey) -> Resource | None:
    """A resource that an object adds, after the patches of later objects are no concern of it."""
    patches = _patches(r, key.key)
    if key.at >= len(patches):
        return None
    patch = patches[key.at]
    r.report(Effective(patch))
    return Resource.of(key.type_url, value_of(patch).name, patch.value)


def unmatched(reports: Iterable[object]) -> Iterator[Diagnostic]:
    """Warnings for patches that were looked at and changed nothing."""
    looked_at: dict[Patch, None] = {}
    effective: set[Patch] = set()
    for one in reports:
        if isinstance(one, Considered):
            looked_at.update(dict.fromkeys(one.patches))
        elif isinstance(one, Effective):
            effective.add(one.patch)
    for patch in looked_at:
        if patch not in effective and patch.apply_to != "BOOTSTRAP":
            said = "this patch matches nothing in the proxies that the object selects"
            remedy = "Compare its match with `fairlead proxy-config`; names of filters are Envoy's own."
            yield Diagnostic(UNMATCHED_CODE, Severity.WARNING, said, patch.origin, remedy)


def _apply(r: Reader, key: Patched, made: Resource, patches: Patches) -> bytes | None:
    role = key.proxy.type
    if key.type_url == CLUSTER:
        return patched_cluster(made.body, patches, role)
    if key.type_url == LISTENER:
        return patched_listener(made.body, patches, role)
    context = "GATEWAY" if role == "router" else "SIDECAR_OUTBOUND"
    return patched_routes(made.body, _site(r, key, made.name), patches, context)


def _site(r: Reader, key: Patched, name: str) -> RouteSite:
    number = name.rpartition(":")[2]
    port = int(number) if number.isascii() and number.isdecimal() else 0
    view = getattr(key.key, "view", None)
    if not isinstance(view, View):
        return RouteSite(name, port)
    bound = servers_of_route(r, RouteServersKey(GatewaysKey.of(r, view), name))
    number = name.split(".")[1] if name.count(".") else ""
    return RouteSite(
        name,
        int(number) if number.isdecimal() else 0,
        tuple((f"{one.gateway.namespace}/{one.gateway.name}", one.server.port_name, one.server.port) for one in bound),
    )


def _patches(r: Reader, key: NamespacedName) -> tuple[Patch, ...]:
    found = r.get(PATCHES, key)
    return found.patches if found is not None else ()


def _holding(r: Reader, key: NamespacedName, proxy: ProxyKey) -> Iterator[Patch]:
    return (patch for patch in _patches(r, key) if _holds(patch, proxy))


def _holds(patch: Patch, proxy: ProxyKey) -> bool:
    if patch.version and not is_found(patch.version, proxy.version):
        return False
    return set(patch.metadata) <= set(proxy.metadata)


def _adds(patch: Patch, proxy: ProxyKey) -> bool:
    contexts = ("ANY", "GATEWAY") if proxy.type == "router" else ("ANY", "SIDECAR_OUTBOUND", "SIDECAR_INBOUND")
    return patch.context in contexts and _holds(patch, proxy)
