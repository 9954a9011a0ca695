"""Which hosts, and which of their ports, the clients of a scope may come to call.

Where a Sidecar decides what is seen, these are the hosts that it imports (a listener with a port imports that port
alone), those to which imported rules lead, at the ports that they name, and what proxies call by themselves.
Rules that can only hold for clients of other namespaces lead nobody (Istio `SidecarScope`).
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.hosts import NameKey, destination_name, host_keys, host_named
from fairlead.compiler.routes_rules import candidate_routes, summary
from fairlead.compiler.sidecars import is_limited, listeners_of, mesh_hosts, namespace_of, outbound_of
from fairlead.inc import Reader, rule
from fairlead.ir.host import HostKey
from fairlead.ir.ratelimit import RATE_POLICIES_CALLING
from fairlead.ir.route import ROUTES, Destination, HttpRule, RouteSet
from fairlead.model.ref import NamespacedName

ALL = 0
"""Stands among ports for all that a host has."""

Led = tuple[tuple[str, tuple[int, ...]], ...]
"""Hosts by name, each with the ports at which it is called."""


class RulesKey(NamedTuple):
    """A rule set, for clients of a namespace."""

    routes: NamespacedName
    namespace: str


class HostAtKey(NamedTuple):
    """A host, for clients of a scope."""

    scope: str
    host: HostKey


@rule
def reached(r: Reader, scope: str) -> tuple[HostKey, ...]:
    """The hosts that clients of a scope may come to call: those they see, and those to which a Sidecar leads them."""
    found = host_keys(r, scope)
    if not is_limited(scope):
        return found
    own = namespace_of(scope)
    names_of = {at.hostname for at in found}
    wanted = {*dict(led_to(r, scope)), *called_anyway(r, scope)}
    more = (host_named(r, NameKey(own, destination_name(r, one))) for one in sorted(wanted))
    led = {at for at in more if at is not None and at.hostname not in names_of}
    return tuple(sorted((*found, *led)))


def is_reached(r: Reader, scope: str, at: HostKey, port: int) -> bool:
    """Whether clients of a scope may call a port of a host that they reach."""
    if not is_limited(scope):
        return True
    found = ports_reached(r, HostAtKey(scope, at))
    return ALL in found or port in found


@rule
def ports_reached(r: Reader, key: HostAtKey) -> frozenset[int]:
    """The ports at which clients whose Sidecar decides what they see may call a host."""
    own, at = namespace_of(key.scope), key.host
    if at.hostname in called_anyway(r, key.scope):
        return frozenset((ALL,))
    found = {
        ALL if one.is_apart else one.port
        for one in listeners_of(r, key.scope)
        if one.sees_host(at.hostname, at.namespace, own)
    }
    for name, ports in led_to(r, key.scope):
        if destination_name(r, name) == at.hostname:
            found.update(ports)
    return frozenset(found)


@rule
def called_anyway(r: Reader, scope: str) -> frozenset[str]:
    """The hosts that proxies call whatever applications do."""
    proxy = outbound_of(r, scope).proxy
    found = {*mesh_hosts(r, ""), *([proxy.host] if proxy is not None else ())}
    found.update(one.service.host for _, one in r.rows(RATE_POLICIES_CALLING, "") if one.service is not None)
    return frozenset(destination_name(r, one) for one in found)


@rule
def led_to(r: Reader, scope: str) -> Led:
    """The hosts to which the rules that a Sidecar imports lead, whether it imports these or not."""
    found: dict[str, set[int]] = {}
    for at in candidate_routes(r, scope):
        known = summary(r, at)
        if known is not None and known.seen_in(r, scope):
            for name, ports in leads_to(r, RulesKey(at, namespace_of(scope))):
                found.setdefault(name, set()).update(ports)
    return _sorted(found)


@rule
def leads_to(r: Reader, key: RulesKey) -> Led:
    """The hosts to which a rule set leads or mirrors."""
    said = r.get(ROUTES, key.routes)
    found: dict[str, set[int]] = {}
    for one in _destinations(said, key.namespace) if said is not None else ():
        found.setdefault(one.host, set()).add(one.port or ALL)
    return _sorted(found)


def _destinations(said: RouteSet, namespace: str) -> list[Destination]:
    rules = (
        one
        for one in (*said.http, *said.tls, *said.tcp)
        if not one.matches or any(match.source_namespace in ("", namespace) for match in one.matches)
    )
    found: list[Destination] = []
    for one in rules:
        found.extend(to.destination for to in one.routes)
        if isinstance(one, HttpRule):
            found.extend(to.destination for to in one.mirrors)
    return found


def _sorted(found: dict[str, set[int]]) -> Led:
    return tuple((name, tuple(sorted(ports))) for name, ports in sorted(found.items()))
