"""Routing rules: which requests and connections go where.

One `RouteSet` is what one object says. Host names are fully qualified, gateways are `namespace/name` or `mesh`.
Times are seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.traffic import RetryPolicy
from fairlead.ir.visibility import concerned
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName, Ref
from fairlead.model.syntax import is_partial_wildcard

MESH = "mesh"


class StringMatch(msgspec.Struct, frozen=True):
    """How a string is compared. `present` needs no value; `regex` is RE2 and must match the whole string."""

    kind: Literal["exact", "prefix", "regex", "present"]
    value: str = ""


class HttpMatch(msgspec.Struct, frozen=True):
    """Conditions on a request; all must hold. Ports are the ones clients call (or the gateway's server port)."""

    name: str = ""
    uri: StringMatch | None = None
    ignore_uri_case: bool = False
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: tuple[tuple[str, StringMatch], ...] = ()
    without_headers: tuple[tuple[str, StringMatch], ...] = ()
    query: tuple[tuple[str, StringMatch], ...] = ()
    port: int = 0
    source_labels: Pairs = ()
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    stat_prefix: str = ""


def specificity(match: HttpMatch | None) -> tuple[int, int, bool, int, int]:
    """How much a match asks for, by the Gateway API's order: what asks for more is tried first."""
    if match is None:
        return 0, 0, False, 0, 0
    kinds = {"exact": 3, "prefix": 2, "regex": 1}
    uri = match.uri
    further = match.method is not None, len(match.headers), len(match.query)
    if uri is None and not any(further):
        return 0, 0, *further  # Every request: after regular expressions, too.
    kind, length = (kinds.get(uri.kind, 0), len(uri.value)) if uri is not None else (kinds["prefix"], 1)
    return kind, length, *further


class HeaderOperations(msgspec.Struct, frozen=True):
    """Changes to headers, applied in the order remove, set, add."""

    set: Pairs = ()
    add: Pairs = ()
    remove: tuple[str, ...] = ()


class Headers(msgspec.Struct, frozen=True):
    """Header changes on the request and on the response."""

    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


class Destination(msgspec.Struct, frozen=True):
    """Where to; `port` 0 means the only port of the host, or the port that was called."""

    host: str
    subset: str = ""
    port: int = 0


class WeightedDestination(msgspec.Struct, frozen=True):
    """A destination and its share. `weight` 0 among several gets nothing; a single one gets everything."""

    destination: Destination
    weight: int
    headers: Headers = Headers()
    origin: Origin | None = None


class Redirect(msgspec.Struct, frozen=True):
    """Answer with a redirect. Empty fields keep what the request had."""

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    scheme: str = ""
    port: int = 0
    derive_port: Literal["", "FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] = ""
    code: int = 301


class DirectResponse(msgspec.Struct, frozen=True):
    """Answer without an upstream."""

    status: int
    body: bytes = b""


class Rewrite(msgspec.Struct, frozen=True):
    """Changes to path and authority before forwarding. A uri replaces what the match matched."""

    uri: str = ""
    authority: str = ""
    regex: str = ""
    substitution: str = ""


class Fault(msgspec.Struct, frozen=True):
    """Injected delay and abort; percentages 0 to 100. Exactly one of the two abort codes is set if it aborts."""

    delay: float = 0
    delay_percent: float = 0
    abort_status: int = 0
    abort_grpc: str = ""
    abort_percent: float = 0


class Mirror(msgspec.Struct, frozen=True):
    """A copy of a share of the requests, whose answers are thrown away."""

    destination: Destination
    percent: float = 100.0


class Cors(msgspec.Struct, frozen=True):
    """Cross-origin resource sharing."""

    origins: tuple[StringMatch, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age: float | None = None
    credentials: bool | None = None
    forward_unmatched_preflights: bool | None = None


class HttpRule(msgspec.Struct, frozen=True):
    """One rule: if any match holds (or there is none), do this.

    Exactly one of routes, redirect, direct is set, or `delegate` names the rule set whose rules stand here.
    """

    origin: Origin
    name: str = ""
    matches: tuple[HttpMatch, ...] = ()
    routes: tuple[WeightedDestination, ...] = ()
    redirect: Redirect | None = None
    direct: DirectResponse | None = None
    rewrite: Rewrite | None = None
    headers: Headers = Headers()
    timeout: float | None = None
    retry: RetryPolicy | None = None
    fault: Fault | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    delegate: NamespacedName | None = None


class L4Match(msgspec.Struct, frozen=True):
    """Conditions on a connection. `sni_hosts` is for TLS rules only."""

    sni_hosts: tuple[str, ...] = ()
    destination_subnets: tuple[str, ...] = ()
    port: int = 0
    source_labels: Pairs = ()
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()


class L4Rule(msgspec.Struct, frozen=True):
    """A TLS (by SNI, not terminated) or TCP rule."""

    origin: Origin
    matches: tuple[L4Match, ...] = ()
    routes: tuple[WeightedDestination, ...] = ()


class RouteSet(msgspec.Struct, frozen=True):
    """What one object says about routing to `hosts`, on the proxies behind `gateways`.

    `gateway_api`: it was written in the Gateway API. Then path prefixes match whole segments, a missing backend
    answers 500, and a sidecar takes the rules only from its own namespace (first) or from that of the host.
    `ingress`: it has the rules of all Ingresses of a host. Path prefixes match whole segments there, too.
    """

    key: NamespacedName
    origin: Origin
    hosts: tuple[str, ...]
    gateways: tuple[str, ...] = (MESH,)
    http: tuple[HttpRule, ...] = ()
    tls: tuple[L4Rule, ...] = ()
    tcp: tuple[L4Rule, ...] = ()
    export_to: tuple[str, ...] = ()
    created: str = ""
    gateway_api: bool = False
    ingress: bool = False

    @property
    def whole_segments(self) -> bool:
        """Whether a path prefix stands for whole segments of paths."""
        return self.gateway_api or self.ingress


def _mesh_hosts(_: NamespacedName, routes: RouteSet) -> tuple[str, ...]:
    return routes.hosts if MESH in routes.gateways else ()


def _wildcards(_: NamespacedName, routes: RouteSet) -> list[str]:
    wild = MESH in routes.gateways and any(host.startswith("*") for host in routes.hosts)
    return [""] if wild else []


def _with_source_labels(_: NamespacedName, routes: RouteSet) -> list[str]:
    rules = (*routes.http, *routes.tls, *routes.tcp)
    return [""] if any(match.source_labels for rule in rules for match in rule.matches) else []


def _concerning(key: NamespacedName, routes: RouteSet) -> set[str]:
    found = set(concerned(routes.export_to, key.namespace))
    if routes.gateway_api:
        # Its own namespace takes these rules first.
        found.add(key.namespace)
    rules = (*routes.http, *routes.tls, *routes.tcp)
    found.update(match.source_namespace for rule in rules for match in rule.matches if match.source_namespace)
    return found if MESH in routes.gateways else set()


def _not_asking(_: NamespacedName, routes: RouteSet) -> list[str]:
    found = routes.tls or routes.tcp or any(rule.mirrors for rule in routes.http)
    return [""] if found and MESH in routes.gateways else []


def _objects(key: NamespacedName, routes: RouteSet) -> set[Ref]:
    rules = (*routes.http, *routes.tls, *routes.tcp)
    return {rule.origin.ref for rule in rules if (rule.origin.ref.namespace, rule.origin.ref.name) != key}


def _destinations(_: NamespacedName, routes: RouteSet) -> set[str]:
    rules = (*routes.http, *routes.tls, *routes.tcp)
    return {to.destination.host for rule in rules for to in rule.routes}


WRITTEN_ROUTES: Table[NamespacedName, RouteSet] = Table("routes", stage=1)
"""Rule sets as objects have them. Those without hosts are for others that delegate to them."""
ROUTES: Table[NamespacedName, RouteSet] = Table("effective-routes", stage=2)
"""Rule sets that hold: with the rules of those to which they delegate."""
ROUTES_BY_MESH_HOST = ROUTES.index("mesh-host", _mesh_hosts)
"""Route sets for sidecars, under each host they name (wildcards as they are)."""
ROUTES_PARTIAL = ROUTES.index(
    "partial", lambda key, routes: [""] if any(map(is_partial_wildcard, _mesh_hosts(key, routes))) else []
)
"""Route sets for sidecars with a wildcard that is not a whole label (`*-x.example.com`), under ""."""
ROUTES_MESH = ROUTES.index("mesh", lambda key, routes: [""] if MESH in routes.gateways else [])
"""Every route set for sidecars, under ""."""
ROUTES_BY_NAMESPACE = ROUTES.index("namespace", lambda key, routes: [key.namespace] if MESH in routes.gateways else [])
"""Route sets for sidecars, under the namespace of their object."""
ROUTES_WILDCARD = ROUTES.index("wildcard", _wildcards)
ROUTES_CONCERNING = ROUTES.index("concerning", _concerning)
"""Route sets for sidecars that are not for the clients of all namespaces alike, under the namespaces that differ."""
ROUTES_BY_DESTINATION = ROUTES.index("destination", _destinations)
"""Route sets under each host to which they lead."""
ROUTES_BY_GATEWAY = ROUTES.index("gateway", lambda key, routes: [one for one in routes.gateways if one != MESH])
ROUTES_BY_OBJECT = ROUTES.index("object", _objects)
"""Route sets under the objects of their rules, where these have other names than the set."""
ROUTES_NOT_ASKING = ROUTES.index("not-asking", _not_asking)
"""The route sets for sidecars by which proxies reach hosts otherwise than by requests that wait, under ""."""
ROUTES_WITH_SOURCE_LABELS = ROUTES.index("source-labels", _with_source_labels)
"""The route sets that look at labels of the caller, under ""."""
