"""EnvoyFilter, Telemetry providers, networks, deprecated fields and conditions (semantics: Istio's own analyzers)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import (
    CONFIG_MAP,
    ENVOY_FILTER,
    ROOT_NAMESPACE,
    SECRET,
    SERVICE,
    SIDECAR,
    TELEMETRY,
    VIRTUAL_SERVICE,
    Document,
)
from fairlead.analyze.finding import Said
from fairlead.inc import Reader
from fairlead.model.path import SPEC, FieldPath

_RELATIVE = ("INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "REMOVE")
_ROUTES = ("ROUTE_CONFIGURATION", "HTTP_ROUTE")
_FILTERS = ("NETWORK_FILTER", "HTTP_FILTER")
MESH_NETWORKS = ("mesh.istio.io", "MeshNetworks")


def patches(r: Reader, one: Document) -> Iterator[Said]:
    """Operations that depend on the order of EnvoyFilters, and such that have no effect where they are applied.

    The order is a matter of the whole object: the first patch that depends on it stands for the others.
    """
    relative: set[str] = set()
    for at, patch in shape.entries(one.spec, "configPatches"):
        path = SPEC.child("configPatches", at)
        operation, to = shape.text(patch, "patch", "operation"), shape.text(patch, "applyTo")
        if not shape.mapping(patch, "patch"):
            break
        if operation == "ADD" and to in _ROUTES:
            yield Said(
                "IST0153", f"ADD does nothing to {to}", path.child("patch", "operation"), "Use MERGE or INSERT_FIRST."
            )
        elif operation == "REMOVE" and to in _ROUTES:
            yield Said("IST0154", f"REMOVE does nothing to {to}", path.child("patch", "operation"))
        elif operation == "REPLACE" and to not in _FILTERS:
            text = f"REPLACE works on HTTP_FILTER and NETWORK_FILTER only, and here it is {to}"
            yield Said("IST0152", text, path.child("patch", "operation"), "Use MERGE.")
        elif operation in _RELATIVE and not shape.number(one.spec, "priority"):
            said = _relative(r, one, at, patch, path)
            if said.code not in relative:
                relative.add(said.code)
                yield said


def _relative(r: Reader, one: Document, at: int, patch: dict[str, Any], path: FieldPath) -> Said:
    """Another code stands for what follows a patch of the same filter that is for some versions of proxies only."""
    name = _filter_name(patch)
    versioned = name and any(
        shape.text(other, "match", "proxy", "proxyVersion") and _filter_name(other) == name
        for document in queries.every(r, ENVOY_FILTER)
        if document.ref <= one.ref
        for number, other in shape.entries(document.spec, "configPatches")
        if document.ref != one.ref or number < at
    )
    operation = shape.text(patch, "patch", "operation")
    said = f"{operation} depends on what other EnvoyFilters did before, and their order is that of their age"
    remedy = "Set spec.priority, or use ADD or INSERT_FIRST."
    return Said("IST0155" if versioned else "IST0151", said, path.child("patch", "operation"), remedy)


def _filter_name(patch: dict[str, Any]) -> str:
    if not shape.mapping(patch, "patch", "value"):
        return ""
    named = shape.text(patch, "patch", "value", "name")
    return named or shape.text(patch, "match", "listener", "filterChain", "filter", "name")


def providers(r: Reader, one: Document) -> Iterator[Said]:
    """Access logs that name no provider where the mesh has no default one."""
    if shape.value(queries.mesh_config(r, ""), "defaultProviders", "accessLogging"):
        return
    for at, log in shape.entries(one.spec, "accessLogging"):
        if not shape.items(log, "providers") and shape.value(log, "disabled") is not True:
            said = "it names no provider, and the mesh has no default one: nothing is logged because of it"
            yield Said("IST0157", said, SPEC.child("accessLogging", at), "Name a provider, such as envoy.")


def lightstep(r: Reader, one: Document) -> Iterator[Said]:
    """Traces for a provider that Envoy has no code for any more."""
    known = {
        shape.text(provider, "name")
        for provider in shape.items(queries.mesh_config(r, ""), "extensionProviders")
        if "lightstep" in provider
    }
    for at, tracing in shape.entries(one.spec, "tracing"):
        for number, provider in shape.entries(tracing, "providers"):
            if shape.text(provider, "name") in known:
                path = SPEC.child("tracing", at, "providers", number, "name")
                yield Said("IST0002", "the provider lightstep is removed", path, "Use opentelemetry.")


def networks(r: Reader, one: Document) -> Iterator[Said]:
    """Networks whose endpoints come from a cluster that nobody knows."""
    if one.sort == CONFIG_MAP and (one.ref.namespace, one.ref.name) != (ROOT_NAMESPACE, "istio"):
        return
    found = queries.mesh_networks(r, "") if one.sort == CONFIG_MAP else (one.spec or one.data)
    known = {"Mock", "Kubernetes", "External"}
    listed = shape.mapping(found, "networks")
    if not listed:
        return
    for secret in queries.every(r, SECRET):
        if secret.labels.get("istio/multiCluster") == "true":
            known |= set(shape.mapping(secret.data, "data")) | set(shape.mapping(secret.data, "stringData"))
    for name in sorted(listed):
        for at, endpoint in shape.entries(listed, name, "endpoints"):
            registry = shape.text(endpoint, "fromRegistry")
            if registry and registry not in known:
                path = FieldPath(("data", "meshNetworks")) if one.sort == CONFIG_MAP else FieldPath(("spec",))
                said = f"network {name} takes endpoint {at} from the unknown registry {registry}"
                yield Said("IST0126", said, path, f"Known are {', '.join(sorted(known))}.")


def deprecated(_: Reader, one: Document) -> Iterator[Said]:
    """Fields that Istio has replaced or ignores."""
    if one.sort == SIDECAR:
        if shape.mapping(one.spec, "outboundTrafficPolicy", "egressProxy"):
            path = SPEC.child("outboundTrafficPolicy", "egressProxy")
            yield Said("IST0002", "egressProxy is deprecated, and Istio ignores it", path)
        return
    for at, http in shape.entries(one.spec, "http"):
        if shape.number(http, "fault", "delay", "percent"):
            path = SPEC.child("http", at, "fault", "delay", "percent")
            yield Said("IST0002", "fault.delay.percent is deprecated", path, "Use percentage.value.")


_AMBIENT = ("WaypointBound", "WaypointAccepted", "ZtunnelAccepted")
_GOOD_WHEN_TRUE = frozenset(("Accepted", "Programmed", "ResolvedRefs", "Ready", "Reconciled", "Available", *_AMBIENT))
_GOOD_WHEN_FALSE = frozenset(("Conflicted", "Degraded", "Stalled"))
_MESH_GROUPS = (".istio.io", "gateway.networking.k8s.io", "fairlead.dev")


def _has_conditions(one: Document) -> bool:
    return "status" in one.data and (one.ref.group.endswith(_MESH_GROUPS) or one.sort == SERVICE)


def conditions(_: Reader, one: Document) -> Iterator[Said]:
    """Conditions in an object's status, or in that of a route with one of its parents, that tell of a fault."""
    yield from _faults(one.data, ("status", "conditions"))
    for at, parent in shape.entries(one.data, "status", "parents"):
        yield from _faults(parent, ("conditions",), ("status", "parents", at))


def _faults(data: dict[str, Any], names: tuple[str, ...], above: tuple[str | int, ...] = ()) -> Iterator[Said]:
    for at, condition in shape.entries(data, *names):
        sort, status = shape.text(condition, "type").removeprefix("istio.io/"), shape.text(condition, "status")
        reason = shape.text(condition, "reason")
        partly = sort == "WaypointAccepted" and reason == "PartiallyInvalid"
        if partly or (status == "False" and sort in _GOOD_WHEN_TRUE) or (status == "True" and sort in _GOOD_WHEN_FALSE):
            why = " ".join(part for part in (reason, shape.text(condition, "message")) if part)
            yield Said("IST0171", f"condition {sort} is {status}: {why}", FieldPath((*above, *names, at)))


ANALYZERS = (
    Analyzer(
        "envoyfilter.EnvoyPatchAnalyzer",
        ("IST0151", "IST0152", "IST0153", "IST0154", "IST0155"),
        (ENVOY_FILTER,),
        patches,
    ),
    Analyzer("telemetry.ProviderAnalyzer", ("IST0157",), (TELEMETRY,), providers),
    Analyzer("telemetry.LightstepAnalyzer", ("IST0002",), (TELEMETRY,), lightstep),
    Analyzer("meshnetworks.MeshNetworksAnalyzer", ("IST0126",), (CONFIG_MAP, MESH_NETWORKS), networks),
    Analyzer("deprecation.DeprecationAnalyzer", ("IST0002",), (VIRTUAL_SERVICE, SIDECAR), deprecated),
    Analyzer("conditions.ConditionAnalyzer", ("IST0171",), (), conditions, applies=_has_conditions),
)
