"""What applies to a workload or a host, and which objects say so, in the order in which they count.

The same rules answer that decide what proxies get; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from fairlead.compiler import rulewords
from fairlead.compiler.endpoints import SelectionKey, selected
from fairlead.compiler.gateways import GatewaysKey, gateways_of
from fairlead.compiler.hosts import NameKey, settings
from fairlead.compiler.mtls import workload_mtls
from fairlead.compiler.policies import policy_patterns
from fairlead.compiler.routes_hosts import route_sets_for
from fairlead.compiler.sidecars import SidecarKey, sidecar_for
from fairlead.compiler.telemetry import WorkloadKey, applying, provider_faults
from fairlead.inc import Reader, rule
from fairlead.ir.attachment import attaches
from fairlead.ir.authn import REQUEST_POLICIES_BY_NAMESPACE
from fairlead.ir.extension import EXTENSIONS_BY_NAMESPACE
from fairlead.ir.filters import FilterScope
from fairlead.ir.gateway import GATEWAYS
from fairlead.ir.host import HOSTS, HOSTS_BY_NAMESPACE, HostKey
from fairlead.ir.patch import PATCHES_BY_NAMESPACE
from fairlead.ir.ratelimit import RATE_POLICIES_BY_NAMESPACE
from fairlead.ir.route import MESH, ROUTES, ROUTES_BY_DESTINATION, ROUTES_BY_GATEWAY
from fairlead.ir.security import ACCESS_POLICIES_BY_NAMESPACE, PEER_POLICIES_BY_NAMESPACE
from fairlead.ir.sidecar import SIDECARS
from fairlead.ir.telemetry import TELEMETRY_BY_NAMESPACE
from fairlead.ir.traffic import TRAFFIC_POLICIES, TRAFFIC_POLICIES_BY_HOST
from fairlead.ir.view import View, selects
from fairlead.ir.visibility import is_visible
from fairlead.ir.workload import WORKLOADS
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import Ref

_DIRECTIONS: dict[str, tuple[Literal["inbound", "gateway"], ...]] = {"sidecar": ("inbound",), "router": ("gateway",)}
"""Chains by which it is told what applies: those for what a proxy calls are said of callers in general."""
_ACTIONS = ("CUSTOM", "DENY", "ALLOW", "AUDIT")
_MOST_RULES = 10
"""Rules of one object that are told."""


class Applies(msgspec.Struct, frozen=True):
    """One thing that holds: the part of the description it belongs to, what, and which field says so (None: none)."""

    section: str
    said: str
    origin: Origin | None = None

    @property
    def ref(self) -> Ref | None:
        """The object that says so."""
        return self.origin.ref if self.origin is not None else None


class HostAs(NamedTuple):
    """A host as clients of a namespace see it."""

    client_namespace: str
    host: HostKey


@rule
def workload_standing(r: Reader, view: View) -> tuple[Applies, ...]:
    """Everything that applies to the proxies of a view."""
    parts = (_scope, _mtls, _authentication, _authorization, _additions, _services, _gateways)
    return tuple(one for part in parts for one in part(r, view))


def _speaking(r: Reader, view: View) -> tuple[str, ...]:
    """The namespaces whose policies speak for a workload: the root first, then its own."""
    return tuple(dict.fromkeys((settings(r).root_namespace, view.namespace)))


def _scope(r: Reader, view: View) -> Iterator[Applies]:
    at = sidecar_for(r, SidecarKey(view.namespace, view.labels)) if view.type == "sidecar" else None
    found = r.get(SIDECARS, at) if at is not None else None
    if found is not None:
        yield Applies("Scope", "decides which hosts it sees", found.origin)
        for one in found.egress[:_MOST_RULES]:
            where = f"on port {one.port} " if one.port else ""
            seen = rulewords.some(f"{each.namespace}/{each.host}" for each in one.imports)
            yield Applies("Scope", f"{where}it sees {seen}", one.origin)


def _mtls(r: Reader, view: View) -> Iterator[Applies]:
    if view.type != "sidecar":
        return
    found = workload_mtls(r, (view.namespace, view.labels))
    ports = "".join(f", port {number} {mode}" for number, mode in found.ports)
    yield Applies("Mutual TLS", f"{found.mode}{ports}")
    for namespace in reversed(_speaking(r, view)):
        rows = [policy for _, policy in r.rows(PEER_POLICIES_BY_NAMESPACE, namespace)]
        chosen = [one for one in rows if one.selector and namespace == view.namespace]
        levels = (
            [one for one in chosen if selects(one.selector, view.labels)],
            [one for one in rows if not one.selector],
        )
        for level in levels:
            for at, one in enumerate(sorted(level, key=lambda each: (each.created, each.key))):
                late = "" if at == 0 else ": without effect, an older one speaks for the same workloads"
                yield Applies("Mutual TLS", f"{one.mode}{late}", one.origin)
                for (number, mode), origin in zip(one.ports, one.port_origins, strict=True):
                    yield Applies("Mutual TLS", f"port {number} {mode}{late}", origin)


def _authentication(r: Reader, view: View) -> Iterator[Applies]:
    for namespace in _speaking(r, view):
        for _, one in r.rows(REQUEST_POLICIES_BY_NAMESPACE, namespace):
            if attaches(namespace, one.selector, one.targets, view.namespace, view.labels):
                if not one.rules:
                    yield Applies("Tokens", "accepted from nobody", one.origin)
                for each in one.rules:
                    must = ", and must be there" if each.required else ""
                    yield Applies("Tokens", f"accepted from {each.issuer or 'anybody'}{must}", each.origin)


def _authorization(r: Reader, view: View) -> Iterator[Applies]:
    found = [
        one
        for namespace in _speaking(r, view)
        for _, one in r.rows(ACCESS_POLICIES_BY_NAMESPACE, namespace)
        if attaches(namespace, one.selector, one.targets, view.namespace, view.labels)
    ]
    for one in sorted(found, key=lambda each: _ACTIONS.index(each.action)):
        count = len(one.rules)
        said = f"{one.action}, {count} rule{'' if count == 1 else 's'}" + (" (dry run)" if one.dry_run else "")
        if not count:
            said += ": nothing matches, so every request is refused" if one.action == "ALLOW" else ": matches nothing"
        yield Applies("Authorization", said, one.origin)
        for each in one.rules[:_MOST_RULES]:
            yield Applies("Authorization", f"{one.action} {rulewords.access(each)}", each.origin)
    if not any(one.action == "ALLOW" and not one.dry_run for one in found):
        yield Applies("Authorization", "what no policy refuses is allowed")


def _additions(r: Reader, view: View) -> Iterator[Applies]:
    for direction in _DIRECTIONS[view.type]:
        telemetry = applying(r, WorkloadKey(view.namespace, view.labels))
        for fault in provider_faults(r, FilterScope(direction, view.namespace, view.labels, telemetry=telemetry)):
            yield Applies("Telemetry", f"NOT USED: {fault.wrong}. {fault.remedy}")
    for namespace in _speaking(r, view):
        for _, one in r.rows(TELEMETRY_BY_NAMESPACE, namespace):
            if attaches(namespace, one.selector, one.targets, view.namespace, view.labels):
                yield Applies("Telemetry", "what is counted, logged and traced", one.origin)
        for _, one in r.rows(RATE_POLICIES_BY_NAMESPACE, namespace):
            if attaches(namespace, one.selector, one.targets, view.namespace, view.labels):
                yield Applies("Rate limits", "requests are counted", one.origin)
        for _, one in r.rows(EXTENSIONS_BY_NAMESPACE, namespace):
            if attaches(namespace, one.selector, one.targets, view.namespace, view.labels):
                yield Applies("Extensions", f"priority {one.priority}", one.origin)
        yield from _patches(r, namespace, view)


def _patches(r: Reader, namespace: str, view: View) -> Iterator[Applies]:
    for _, one in r.rows(PATCHES_BY_NAMESPACE, namespace):
        if one.patches and attaches(namespace, one.selector, one.targets, view.namespace, view.labels):
            for each in one.patches[:_MOST_RULES]:
                yield Applies("Patches", f"{each.operation} {each.apply_to}, priority {one.priority}", each.origin)


def _services(r: Reader, view: View) -> Iterator[Applies]:
    for key, one in r.rows(HOSTS_BY_NAMESPACE, view.namespace):
        if one.selector and selects(one.selector, view.labels):
            ports = ", ".join(f"{port.number} {port.name}".strip() for port in one.ports)
            yield Applies("Services", f"{key.hostname}: {ports}", one.origin)


def _gateways(r: Reader, view: View) -> Iterator[Applies]:
    for key in gateways_of(r, GatewaysKey.of(r, view)):
        found = r.get(GATEWAYS, key)
        if found is None:
            continue
        for one in found.servers:
            yield Applies("Gateways", f"{one.port} {one.protocol} {','.join(one.hosts)}", one.origin)
        for _, routes in r.rows(ROUTES_BY_GATEWAY, str(key)):
            yield Applies("Routes", f"{', '.join(routes.hosts)}, bound to {key}", routes.origin)


@rule
def host_standing(r: Reader, key: HostAs) -> tuple[Applies, ...]:
    """Everything that applies to a host for clients of a namespace without labels that anybody asks for."""
    return tuple(one for part in (_ports, _routes, _traffic, _exposed, _members) for one in part(r, key))


def _ports(r: Reader, key: HostAs) -> Iterator[Applies]:
    found = r.get(HOSTS, key.host)
    for port in found.ports if found is not None else ():
        target = f", on its endpoints {port.target}" if port.target and port.target != port.number else ""
        yield Applies("Ports", f"{port.number} {port.name} ({port.protocol}){target}")


def _routes(r: Reader, key: HostAs) -> Iterator[Applies]:
    for at, name in enumerate(route_sets_for(r, NameKey(key.client_namespace, key.host.hostname))):
        routes = r.get(ROUTES, name)
        if routes is not None:
            rules = f"{len(routes.http)} HTTP, {len(routes.tls)} TLS, {len(routes.tcp)} TCP rules"
            late = "" if at == 0 else "; only where those before say nothing"
            yield Applies("Routes", rules + late, routes.origin)
            told = [
                *((rulewords.http(one), one.origin) for one in routes.http),
                *((rulewords.layer4(one), one.origin) for one in (*routes.tls, *routes.tcp)),
            ]
            for said, origin in told[:_MOST_RULES]:
                yield Applies("Routes", said, origin)


def _traffic(r: Reader, key: HostAs) -> Iterator[Applies]:
    """The DestinationRules: the client's namespace first, then the host's, then the root; the first that has any."""
    default = settings(r).default_policy_export_to
    asked = dict.fromkeys((key.client_namespace, key.host.namespace, settings(r).root_namespace))
    first = ""
    for namespace in asked:
        for pattern in policy_patterns(r, key.host.hostname):
            names = [at for at in r.find(TRAFFIC_POLICIES_BY_HOST, pattern) if at.namespace == namespace]
            rows = [one for one in (r.get(TRAFFIC_POLICIES, at) for at in names) if one is not None]
            seen = [one for one in rows if is_visible(one.export_to or default, namespace, key.client_namespace)]
            for one in sorted(seen, key=lambda each: (not each.selector, each.created, each.key)):
                subsets = ", ".join(each.name for each in one.subsets) or "none"
                late = f"; without effect, {first} goes before" if first else ""
                said = f"for {one.host}, subsets {subsets}" + (", for chosen clients" if one.selector else "")
                yield Applies("Traffic policy", said + late, one.origin)
                for each in one.subsets[:_MOST_RULES]:
                    labels = rulewords.some(f"{key}={value}" for key, value in each.labels) or "all endpoints"
                    yield Applies("Traffic policy", f"subset {each.name}: {labels}", each.origin)
            if seen and not first:
                first = f"{namespace}/{seen[0].key.name}"


def _exposed(r: Reader, key: HostAs) -> Iterator[Applies]:
    for _, routes in r.rows(ROUTES_BY_DESTINATION, key.host.hostname):
        gateways = [one for one in routes.gateways if one != MESH]
        if gateways:
            said = f"{', '.join(routes.hosts)} through gateways {', '.join(gateways)}"
            yield Applies("Exposed", said, routes.origin)


def _members(r: Reader, key: HostAs) -> Iterator[Applies]:
    found = r.get(HOSTS, key.host)
    if found is None or not found.selector:
        return
    for at in selected(r, SelectionKey(key.host.namespace, found.selector)):
        one = r.get(WORKLOADS, at)
        if one is None:
            continue
        mode = workload_mtls(r, (at.namespace, one.labels)).mode if one.mesh else "no sidecar"
        well = "" if one.healthy else ", NOT HEALTHY: gets no requests"
        where = one.address or f"behind the gateways of network {one.network}"
        account = f"{one.service_account}, " if one.service_account else ""
        yield Applies("Endpoints", f"{where}, {account}mTLS {mode}{well}", one.origin)
