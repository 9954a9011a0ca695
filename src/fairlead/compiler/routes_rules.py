"""Routes of one rule set, as a client gets them on one port.

Conditions on the client (labels, namespace, gateways, port) are decided here; what remains are conditions on requests.
The result does not depend on the virtual host that it will stand in, so hosts share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from fairlead.compiler.hosts import NameKey, destination_name, host, host_named, settings
from fairlead.compiler.policies import PolicyKey, effective, policy_for, policy_patterns
from fairlead.compiler.sidecars import imports_of, is_limited, namespace_of, sees_routes
from fairlead.envoy import names
from fairlead.envoy.route import RouteList, Serving, default_route, http_route, route_list
from fairlead.envoy.routeaction import Forwarding, MirrorTarget, Target
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.host import HOSTS_BY_NAME, HostKey
from fairlead.ir.route import (
    MESH,
    ROUTES,
    ROUTES_BY_MESH_HOST,
    ROUTES_BY_NAMESPACE,
    ROUTES_MESH,
    ROUTES_WILDCARD,
    Destination,
    HttpMatch,
    HttpRule,
    Mirror,
    RouteSet,
    WeightedDestination,
    specificity,
)
from fairlead.ir.sidecar import ANY, OWN
from fairlead.ir.traffic import TRAFFIC_POLICIES_BY_HOST, HashPolicy
from fairlead.ir.view import selects
from fairlead.ir.visibility import is_visible
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.ref import NamespacedName


class ClientKey(NamedTuple):
    """What of a client decides its routes: its namespace, and those of its labels that some rule asks for."""

    namespace: str
    labels: Pairs


class RoutesKey(NamedTuple):
    """A rule set for a client on a port. `gateway` is `namespace/name`, or `mesh` for sidecars."""

    client: ClientKey
    gateway: str
    port: int
    routes: NamespacedName
    tls: bool = False


class DefaultKey(NamedTuple):
    """A host about which no rule says anything, for a client on a port."""

    client: ClientKey
    host: HostKey
    port: int


class RouteSummary(msgspec.Struct, frozen=True):
    """What decides where a rule set applies; its rules may change without this changing."""

    key: NamespacedName
    hosts: tuple[str, ...]
    created: str
    export_to: tuple[str, ...]
    gateway_api: bool

    def visible(self, namespace: str) -> bool:
        """Whether clients of a namespace see the rules."""
        return is_visible(self.export_to, self.key.namespace, namespace)

    def seen_in(self, r: Reader, scope: str) -> bool:
        """Whether clients of a scope see the rules."""
        return self.visible(namespace_of(scope)) and sees_routes(
            r, scope, self.hosts, self.key.namespace, exact=self.gateway_api
        )

    def rank(self, namespace: str) -> tuple[int, str, str, str]:
        """Where the rules stand among others for the same host: the lowest wins.

        Istio's order: private ones, those exported to named namespaces, Gateway API routes of the client's own
        namespace, then the others; the oldest first in each.
        """
        if self.export_to == (".",):
            group = 0
        elif self.export_to and "*" not in self.export_to:
            group = 1
        else:
            group = 2 if self.gateway_api and self.key.namespace == namespace else 3
        return group, self.created, self.key.name, self.key.namespace


@rule
def summary(r: Reader, key: NamespacedName) -> RouteSummary | None:
    """Where a rule set applies; None where there is none or it says nothing of HTTP."""
    found = r.get(ROUTES, key)
    if found is None:
        return None
    export_to = found.export_to or settings(r).default_route_export_to
    return RouteSummary(key, found.hosts, found.created, export_to, found.gateway_api)


@rule
def candidate_routes(r: Reader, scope: str) -> tuple[NamespacedName, ...]:
    """The rule sets for sidecars that a scope may see: all, or with a Sidecar those of hosts that it imports."""
    if not is_limited(scope):
        return r.find(ROUTES_MESH, "")
    found: set[NamespacedName] = set()
    for one in imports_of(r, scope):
        if one.is_exclusion:
            continue
        if not one.is_pattern:
            found.update(r.find(ROUTES_BY_MESH_HOST, one.host), r.find(ROUTES_WILDCARD, ""))
        elif one.namespace == ANY:
            found.update(r.find(ROUTES_MESH, ""))
        else:
            where = namespace_of(scope) if one.namespace == OWN else one.namespace
            found.update(r.find(ROUTES_BY_NAMESPACE, where))
    return tuple(sorted(found))


@rule
def http_routes(r: Reader, key: RoutesKey) -> RouteList:
    """The serialised routes of a rule set; empty if no rule applies to this client and port."""
    found = r.get(ROUTES, key.routes)
    if found is None:
        return RouteList()
    return route_list(
        http_route(one, match, _serving(key, found, one), _forwarding(r, key, found, one))
        for one, match in _applicable(key, found)
    )


class MergedKey(NamedTuple):
    """Rule sets of the Gateway API that hold together, for a client on a port."""

    client: ClientKey
    port: int
    routes: tuple[NamespacedName, ...]


@rule
def merged_routes(r: Reader, key: MergedKey) -> RouteList:
    """The serialised routes of rule sets of the Gateway API: the more special match first, then the older object."""
    found: list[tuple[RoutesKey, RouteSet, HttpRule, HttpMatch | None]] = []
    for one in key.routes:
        said = r.get(ROUTES, one)
        at = RoutesKey(key.client, MESH, key.port, one)
        if said is not None:
            found.extend((at, said, rule_, match) for rule_, match in _applicable(at, said))
    found.sort(key=lambda one: specificity(one[3]), reverse=True)
    return route_list(
        http_route(
            rule_,
            match,
            Serving(key.port, False, said.origin.ref.name, said.origin, said.whole_segments),
            _forwarding(r, at, said, rule_),
        )
        for at, said, rule_, match in found
    )


@rule
def has_routes(r: Reader, key: RoutesKey) -> bool:
    """Whether any rule of a set applies to this client and port."""
    return not http_routes(r, key).empty


@rule
def default_routes(r: Reader, key: DefaultKey) -> RouteList:
    """The serialised route to a host about which no rule says anything."""
    hashed = _hash(r, key.client, key.host, "", key.port)
    cluster = names.subset_key("outbound", key.port, "", key.host.hostname)
    target = Target(cluster, hash=hashed, external=_is_external(r, key.host))
    return route_list([default_route(key.host.hostname, key.port, target, settings(r).default_retry)])


@rule
def label_names(r: Reader, key: NamespacedName) -> tuple[str, ...]:
    """The client labels on which the routes of a rule set depend."""
    found = r.get(ROUTES, key)
    asked: set[str] = set()
    for one in found.http if found is not None else ():
        asked.update(name for match in one.matches for name, _ in match.source_labels)
        for to in one.routes:
            asked.update(policy_label_names(r, to.destination.host))
    return tuple(sorted(asked))


@rule
def policy_label_names(r: Reader, hostname: str) -> tuple[str, ...]:
    """The client labels by which traffic policies for a host choose their clients."""
    return tuple(
        sorted(
            {
                name
                for pattern in policy_patterns(r, hostname)
                for _, policy in r.rows(TRAFFIC_POLICIES_BY_HOST, pattern)
                for name, _ in policy.selector
            }
        )
    )


def is_known(r: Reader, name: str) -> bool:
    """Whether any host or rule has a name. Most short names are nobody's, and this is cheap to know of many."""
    return r.has(HOSTS_BY_NAME, name) or r.has(ROUTES_BY_MESH_HOST, name)


def first_routes(r: Reader, client: ClientKey, port: int, sets: tuple[NamespacedName, ...]) -> RouteList | None:
    """The routes of the first of some rule sets that has any for a client of a sidecar on a port."""
    for position, one in enumerate(sets):
        first = summary(r, one)
        if first is not None and first.gateway_api:
            # What comes from one namespace in the Gateway API holds together.
            alike = [at for at in sets[position:] if at.namespace == one.namespace and is_gateway_api(r, at)]
            asked = tuple(sorted({name for at in alike for name in label_names(r, at)}))
            merged = merged_routes(r, MergedKey(narrowed(client, asked), port, tuple(alike)))
            if not merged.empty:
                return merged
            continue
        at = RoutesKey(narrowed(client, label_names(r, one)), MESH, port, one)
        if has_routes(r, at):
            return http_routes(r, at)
    return None


def is_gateway_api(r: Reader, key: NamespacedName) -> bool:
    """Whether a rule set was written in the Gateway API."""
    found = summary(r, key)
    return found is not None and found.gateway_api


def narrowed(client: ClientKey, asked: tuple[str, ...]) -> ClientKey:
    """The client with only those labels that are asked for, so that clients who differ in others share results."""
    return ClientKey(client.namespace, tuple(pair for pair in client.labels if pair[0] in asked))


def _applicable(key: RoutesKey, found: RouteSet) -> Iterator[tuple[HttpRule, HttpMatch | None]]:
    """Each rule with each of its matches that this client and port can meet."""
    for one in found.http:
        if not (one.routes or one.redirect or one.direct):
            continue
        if not one.matches:
            yield one, None
        for match in one.matches:
            if _meets(key, match):
                yield one, match


def _meets(key: RoutesKey, match: HttpMatch) -> bool:
    return (
        match.port in (0, key.port)
        and (not match.gateways or key.gateway in match.gateways)
        and selects(match.source_labels, key.client.labels)
        and match.source_namespace in ("", key.client.namespace)
    )


def _serving(key: RoutesKey, found: RouteSet, one: HttpRule) -> Serving:
    origin = Origin(one.origin.ref) if found.ingress else found.origin
    return Serving(
        key.port, key.tls, origin.ref.name if found.ingress else found.key.name, origin, found.whole_segments
    )


def _forwarding(r: Reader, key: RoutesKey, found: RouteSet, one: HttpRule) -> Forwarding | None:
    if not one.routes or one.redirect is not None or one.direct is not None:
        return None
    return Forwarding(
        targets=tuple(_target(r, key, one, to) for to in one.routes),
        mirrors=tuple(_mirror(r, key, mirror, one.origin) for mirror in one.mirrors if mirror.percent > 0),
        retry=settings(r).default_retry,
        gateway_api=found.gateway_api,
        forwarded_host=settings(r).headers.forwarded_host,
    )


def _target(r: Reader, key: RoutesKey, one: HttpRule, to: WeightedDestination) -> Target:
    cluster, at, port = _cluster(r, key, to.destination, to.origin or one.origin)
    hashed = None if at is None else _hash(r, key.client, at, to.destination.subset, port)
    return Target(cluster, to.weight, to.headers, hashed, _is_external(r, at))


def _mirror(r: Reader, key: RoutesKey, mirror: Mirror, origin: Origin) -> MirrorTarget:
    cluster, at, _ = _cluster(r, key, mirror.destination, origin)
    return MirrorTarget(cluster, mirror.percent, _is_external(r, at))


def _is_external(r: Reader, at: HostKey | None) -> bool:
    found = None if at is None else host(r, at)
    return found is not None and found.external


def _cluster(r: Reader, key: RoutesKey, to: Destination, origin: Origin) -> tuple[str, HostKey | None, int]:
    """The cluster of a destination, its host if the client sees one, and its port.

    A destination that does not exist keeps its cluster's name: requests then fail with Envoy's flag NC, as they do in
    Istio, and begin to work once the host appears. A diagnostic says so meanwhile.
    """
    name = destination_name(r, to.host)
    at = host_named(r, NameKey(key.client.namespace, name))
    fact = None if at is None else host(r, at)
    port = to.port or key.port
    if fact is not None and not to.port and len(fact.ports) == 1:
        port = fact.ports[0].number
    cluster = names.subset_key("outbound", port, to.subset, name)
    if at is None or fact is None:
        whom = f" to clients in namespace {key.client.namespace}" if key.client.namespace else ""
        r.report(_dangling(origin, f"no host {to.host} is known{whom}"))
    elif fact.port(port) is None and (to.port or _is_called(r, key)):
        known = ", ".join(str(one.number) for one in fact.ports)
        r.report(_dangling(origin, f"host {to.host} has no port {port}; it has {known or 'none'}"))
    elif to.subset and not _has_subset(r, key.client, at, to.subset):
        r.report(_dangling(origin, f"no DestinationRule gives host {to.host} a subset {to.subset!r}"))
    return cluster, at, port


def _is_called(r: Reader, key: RoutesKey) -> bool:
    """Whether clients have reason to call the rule set's hosts on this port.

    On port 80 names without a host are virtual hosts too, so there a rule set is built for hosts that lack the port.
    """
    known = summary(r, key.routes)
    if key.gateway != MESH or known is None:
        return True
    found = [host_named(r, NameKey(key.client.namespace, name)) for name in known.hosts]
    facts = [host(r, at) for at in found if at is not None]
    return not facts or any(fact is not None and fact.port(key.port) is not None for fact in facts)


def _has_subset(r: Reader, client: ClientKey, at: HostKey, subset: str) -> bool:
    policy = policy_for(r, PolicyKey(client.namespace, client.labels, at))
    return policy is not None and any(one.name == subset for one in policy.subsets)


def _hash(r: Reader, client: ClientKey, at: HostKey, subset: str, port: int) -> HashPolicy | None:
    """What requests to a host are hashed by, where its traffic policy balances by a consistent hash."""
    policy = policy_for(r, PolicyKey(client.namespace, client.labels, at))
    found = host(r, at)
    balancer = effective(r, policy, subset, port, found).load_balancer if found is not None else None
    return None if balancer is None else balancer.hash


def _dangling(origin: Origin, what: str) -> Diagnostic:
    return Diagnostic(
        "FL0202",
        Severity.WARNING,
        f"{what}: requests that this route takes fail with 503",
        origin,
        "Correct the destination, or create what it names.",
    )


__all__ = [
    "MESH",
    "ClientKey",
    "DefaultKey",
    "MergedKey",
    "RouteSummary",
    "RoutesKey",
    "candidate_routes",
    "default_routes",
    "first_routes",
    "has_routes",
    "http_routes",
    "label_names",
    "merged_routes",
    "narrowed",
    "policy_label_names",
    "summary",
]
