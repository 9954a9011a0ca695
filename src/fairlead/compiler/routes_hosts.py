"""Virtual hosts of sidecars: which there are on a port, the names they answer to, and the rules that hold for them.

Two sorts of names become virtual hosts. A host that speaks HTTP (or may, on a port whose protocol is detected) answers
to its full name, its short names in the client's namespace and its addresses. A name that only routing rules know
becomes one on port 80, and on other ports where its rules also apply to a host there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from fairlead.compiler.hosts import (
    ChunkKey,
    NameKey,
    PortKey,
    aliases_of,
    chunks_seen,
    host,
    host_keys,
    host_named,
    hosts_in,
    hosts_on_port,
    settings,
)
from fairlead.compiler.outboundports import is_bound
from fairlead.compiler.routes_rules import (
    ClientKey,
    DefaultKey,
    RouteSummary,
    candidate_routes,
    default_routes,
    first_routes,
    is_known,
    label_names,
    narrowed,
    policy_label_names,
    summary,
)
from fairlead.compiler.scope import scope, special
from fairlead.compiler.sidecars import namespace_of, on_port
from fairlead.envoy import names
from fairlead.envoy.route import RouteList, connect_route, virtual_host
from fairlead.inc import Reader, rule
from fairlead.ir.families import version_of
from fairlead.ir.host import HOSTS_BY_ADDRESS, HostKey, HostPort, Resolution
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import ROUTES_BY_MESH_HOST, ROUTES_WILDCARD
from fairlead.ir.visibility import host_matches, most_specific
from fairlead.model.ref import NamespacedName

HTTP_PORT = 80
"""The port on which names that no host claims become virtual hosts."""


class SiteKey(NamedTuple):
    """A name on a port, as a client namespace sees it."""

    client_namespace: str
    port: int
    hostname: str


class Site(msgspec.Struct, frozen=True):
    """A virtual host to be: its Envoy name, the name it is for, its port, and the client labels it depends on."""

    name: str
    hostname: str
    port: int
    labels: tuple[str, ...] = ()


class VirtualHostKey(NamedTuple):
    """A virtual host for a client.

    `form`: names alone, names with the port, those with a route for CONNECT ("tunnel"), or every name ("any").
    """

    client: ClientKey
    port: int
    hostname: str
    form: str


class QualifiesKey(NamedTuple):
    """Whether a rule set applies to a host on a port that the client namespace sees."""

    client_namespace: str
    port: int
    routes: NamespacedName


PLAIN, WITH_PORT, TUNNEL, ANY = "plain", "with-port", "tunnel", "any"


@rule
def site(r: Reader, key: SiteKey) -> Site:
    """One virtual host to be."""
    asked: set[str] = set()
    if serves_http(r, key):
        sets = route_sets_for(r, NameKey(key.client_namespace, key.hostname))
        asked.update(policy_label_names(r, key.hostname))
    else:
        sets = owners(r, key)
    for one in sets:
        asked.update(label_names(r, one))
    return Site(f"{_literal(key.hostname)}:{key.port}", key.hostname, key.port, tuple(sorted(asked)))


@rule
def http_ports(r: Reader, client_namespace: str) -> tuple[int, ...]:
    """The ports on which a client namespace sees hosts that may speak HTTP."""
    found: set[int] = {HTTP_PORT}
    for at in host_keys(r, client_namespace):
        found.update(http_ports_of(r, at))
    return tuple(sorted(found))


@rule
def serves_http(r: Reader, key: SiteKey) -> bool:
    """Whether the name is that of a host which speaks HTTP on the port, or may."""
    at = host_named(r, NameKey(key.client_namespace, key.hostname))
    return at is not None and key.port in http_ports_of(r, at)


@rule
def route_sets_for(r: Reader, key: NameKey) -> tuple[NamespacedName, ...]:
    """The rule sets that claim a host by its very name, in the order of precedence; else the one whose wildcard covers
    it most specifically."""
    exact = _ranked(r, key.client_namespace, r.find(ROUTES_BY_MESH_HOST, key.hostname))
    if exact:
        at = host_named(r, key)
        near = (namespace_of(key.client_namespace), "" if at is None else at.namespace)
        return tuple(one.key for one in exact if not one.gateway_api or one.key.namespace in near)
    wild = _ranked(r, key.client_namespace, r.find(ROUTES_WILDCARD, ""))
    pattern = most_specific((name for one in wild for name in one.hosts if name.startswith("*")), key.hostname)
    return tuple(one.key for one in wild if pattern in one.hosts)[:1]


@rule
def unclaimed(r: Reader, key: PortKey) -> tuple[str, ...]:
    """The names that only routing rules know and that are virtual hosts of this port."""
    seen = special(r, key.client_namespace)
    if key.port == HTTP_PORT:
        sets = set(candidate_routes(r, key.client_namespace))
    else:
        sets = {one for chunk in chunks_seen(r, *key) for one in applying_in(r, ChunkKey(*key, chunk))}
    found: set[str] = set()
    for one in sets:
        known = summary(r, one)
        found.update(known.hosts if known is not None else ())
    return tuple(sorted(name for name in found if owners(r, SiteKey(seen.seen_by(name), key.port, name))))


@rule
def applying_in(r: Reader, key: ChunkKey) -> tuple[NamespacedName, ...]:
    """The rule sets that hold for the HTTP hosts of a chunk."""
    seen = special(r, key.client_namespace)
    found: dict[NamespacedName, None] = {}
    for at in hosts_in(r, key):
        near = seen.seen_by(at.hostname)
        if serves_http(r, SiteKey(near, key.port, at.hostname)):
            found.update(dict.fromkeys(route_sets_for(r, NameKey(near, at.hostname))))
    return tuple(found)


@rule
def owners(r: Reader, key: SiteKey) -> tuple[NamespacedName, ...]:
    """The rule sets that make a name a virtual host of a port although no host there has it, by precedence."""
    if key.hostname == "*" or _claimed(r, key):
        return ()
    ranked = _ranked(r, key.client_namespace, r.find(ROUTES_BY_MESH_HOST, key.hostname))
    return tuple(
        one.key
        for one in ranked
        if (key.port == HTTP_PORT and not one.gateway_api)
        or qualifies(r, QualifiesKey(key.client_namespace, key.port, one.key))
    )


@rule
def qualifies(r: Reader, key: QualifiesKey) -> bool:
    """Whether a rule set applies to some host that speaks HTTP on the port."""
    known = summary(r, key.routes)
    for name in known.hosts if known is not None else ():
        if name.startswith("*"):
            covered = [
                at.hostname
                for at in hosts_on_port(r, PortKey(key.client_namespace, key.port))
                if host_matches(name, at.hostname)
            ]
        else:
            covered = [name]
        for hostname in covered:
            if serves_http(r, SiteKey(key.client_namespace, key.port, hostname)) and key.routes in route_sets_for(
                r, NameKey(key.client_namespace, hostname)
            ):
                return True
    return False


@rule
def covers_host(r: Reader, key: SiteKey) -> bool:
    """Whether a wildcard covers a host on the port."""
    return any(host_matches(key.hostname, at.hostname) for at in hosts_on_port(r, PortKey(*key[:2])))


@rule
def as_seen(r: Reader, key: NameKey) -> str:
    """The client namespace under which to ask about a name: itself only if something is special about it there."""
    return special(r, key.client_namespace).seen_by(key.hostname)


@rule
def sidecar_virtual_host(r: Reader, key: VirtualHostKey) -> bytes:
    """One virtual host, serialised and framed; empty if no rule applies to this client or all its names are taken."""
    at = SiteKey(key.client.namespace, key.port, key.hostname)
    # The names are those of the client's namespace; where they lead is the same for others, if nothing is special.
    near = as_seen(r, NameKey(namespace_of(key.client.namespace), key.hostname))
    alike = key._replace(client=key.client._replace(namespace=near))
    if serves_http(r, at):
        domains, routes = _names(r, at), _host_routes(r, alike, at)
    else:
        domains, routes = [_literal(key.hostname)], first_routes(r, alike.client, alike.port, owners(r, at))
    if routes is None or not domains:
        return b""
    tunnels = [connect_route(_tunnelled(r, at))] if key.form == TUNNEL and serves_http(r, at) else []
    attempts = settings(r).headers.attempt_count
    name = f"{_literal(key.hostname)}:{key.port}"
    return virtual_host(name, _formed(domains, key), [*tunnels, routes], attempts=attempts)


def _tunnelled(r: Reader, key: SiteKey) -> str:
    """The cluster for CONNECT to an HTTP host: what comes through is routed where all HTTP to the port is, if it is."""
    at = host_named(r, NameKey(key.client_namespace, key.hostname))
    if at is not None and is_bound(r, PortKey(on_port(r, scope(r, key.client_namespace), key.port), key.port), at):
        return names.tunnel_cluster(key.port)
    return names.subset_key("outbound", key.port, "", key.hostname)


@rule
def tunnel_sites(r: Reader, client_namespace: str) -> tuple[SiteKey, ...]:
    """The hosts' ports that speak no HTTP, and that applications reach by CONNECT."""
    return tuple(
        SiteKey(client_namespace, port.number, at.hostname)
        for at in host_keys(r, client_namespace)
        for port in _ports(r, at)
        if port.protocol is not Protocol.UDP and port.number not in http_ports_of(r, at)
    )


def tunnel_hosts(r: Reader, client_namespace: str) -> Iterator[bytes]:
    """The virtual hosts of those ports for a client namespace."""
    seen = special(r, client_namespace)
    suffix = settings(r).domain_suffix
    for one in tunnel_sites(r, scope(r, client_namespace)):
        own = service_of(one.hostname, suffix)[1] == namespace_of(client_namespace)
        near = client_namespace if own else seen.seen_by(one.hostname)
        yield tunnel_virtual_host(r, one._replace(client_namespace=near))


@rule
def tunnel_virtual_host(r: Reader, key: SiteKey) -> bytes:
    """The virtual host of a port that speaks no HTTP, serialised and framed."""
    domains = [f"{one}:{key.port}" for one in _tunnel_names(r, key)]
    if not domains:
        return b""
    cluster = names.subset_key("outbound", key.port, "", key.hostname)
    return virtual_host(f"{_literal(key.hostname)}:{key.port}", domains, [connect_route(cluster)])


def _host_routes(r: Reader, key: VirtualHostKey, site: SiteKey) -> RouteList:
    """The routes of the first rule set that has any for this client; else the default route."""
    name = NameKey(site.client_namespace, key.hostname)
    found = first_routes(r, key.client, key.port, route_sets_for(r, name))
    if found is not None:
        return found
    at = host_named(r, name)
    assert at is not None
    client = narrowed(key.client, policy_label_names(r, key.hostname))
    return default_routes(r, DefaultKey(client, at, key.port))


def _ranked(r: Reader, namespace: str, keys: tuple[NamespacedName, ...]) -> list[RouteSummary]:
    found = (summary(r, key) for key in keys)
    own = namespace_of(namespace)
    return sorted(
        (one for one in found if one is not None and one.seen_in(r, namespace)), key=lambda one: one.rank(own)
    )


def _claimed(r: Reader, key: SiteKey) -> bool:
    """Whether a host on the port has the name, or is covered by it if it is a wildcard; whatever it speaks."""
    if key.hostname.startswith("*"):
        return covers_host(r, key)
    at = host_named(r, NameKey(key.client_namespace, key.hostname))
    fact = None if at is None else host(r, at)
    return fact is not None and fact.port(key.port) is not None


def _names(r: Reader, key: SiteKey) -> list[str]:
    """The names a host answers to: its own, short forms and addresses, as far as nobody else has them."""
    at = host_named(r, NameKey(key.client_namespace, key.hostname))
    fact = None if at is None else host(r, at)
    if fact is None:
        return []
    answered = [key.hostname]
    short = _short_names(key.hostname, namespace_of(key.client_namespace), settings(r).domain_suffix)
    answered.extend(one for one in short if not _taken(r, key, one))
    if fact.resolution is Resolution.PASSTHROUGH and fact.kubernetes:
        # A headless service's pods have names of their own below the service's.
        answered.extend([f"*.{one}" for one in answered])
    answered.extend(one for one in _further_names(r, key) if not _taken(r, key, one))
    for address in fact.addresses:
        if "/" not in address and not _taken(r, key, address) and _first_at(r, key, address):
            answered.append(_literal(address))
    # Nobody writes the other one into a URL, and every such host would have it in every client's routes.
    answered.extend(one for one in fact.allocated if version_of(one) == 4)
    return answered


def _tunnel_names(r: Reader, key: SiteKey) -> list[str]:
    """As `_names`, for a port that speaks no HTTP: virtual hosts of ports that do come first."""
    at = host_named(r, NameKey(key.client_namespace, key.hostname))
    fact = None if at is None else host(r, at)
    if fact is None:
        return []
    answered = [key.hostname]
    short = _short_names(key.hostname, namespace_of(key.client_namespace), settings(r).domain_suffix)
    answered.extend(one for one in short if _is_free(r, key, one))
    if fact.resolution is Resolution.PASSTHROUGH and fact.kubernetes:
        answered.extend([f"*.{one}" for one in answered if _is_free(r, key, f"*.{one}")])
    further = _further_names(r, key)
    answered.extend(one for one in further if not owners(r, SiteKey(key.client_namespace, key.port, one)))
    answered.extend(
        _literal(one) for one in fact.addresses if "/" not in one and _is_free(r, key, one) and _owns(r, key, one)
    )
    return answered


def _further_names(r: Reader, key: SiteKey) -> list[str]:
    """The names, long and short, that stand for a host (ExternalName)."""
    suffix = settings(r).domain_suffix
    own = namespace_of(key.client_namespace)
    names_of = aliases_of(r, NameKey(key.client_namespace, key.hostname))
    return [name for one in names_of for name in (one, *_short_names(one, own, suffix))]


def _is_free(r: Reader, key: SiteKey, name: str) -> bool:
    """Whether no other host has the name, whatever it speaks, and no rule makes it a virtual host."""
    other, at = SiteKey(key.client_namespace, key.port, name), NameKey(key.client_namespace, name)
    return not is_known(r, name) or (host_named(r, at) is None and not owners(r, other))


def _owns(r: Reader, key: SiteKey, address: str) -> bool:
    """Whether of all hosts with this address and port, this one answers: those that speak HTTP go first."""
    rivals: list[tuple[bool, str]] = []
    for one in r.find(HOSTS_BY_ADDRESS, address):
        at = host_named(r, NameKey(key.client_namespace, one.hostname))
        fact = None if at is None else host(r, at)
        if fact is not None and address in fact.addresses and fact.port(key.port) is not None:
            http = serves_http(r, SiteKey(key.client_namespace, key.port, one.hostname))
            rivals.append((not http, one.hostname))
    return min(rivals)[1] == key.hostname


def _short_names(hostname: str, namespace: str, suffix: str) -> list[str]:
    """`reviews` (only in its own namespace), `reviews.default` and `reviews.default.svc`."""
    name, where = service_of(hostname, suffix)
    if not where or name.startswith("*"):
        return []
    stem = f"{name}.{where}"
    return [*([name] if where == namespace else []), stem, f"{stem}.svc"]


def service_of(hostname: str, suffix: str) -> tuple[str, str]:
    """The service and the namespace in a name such as `reviews.default.svc.cluster.local`; empty in all others."""
    stem = hostname.removesuffix(f".svc.{suffix}")
    name, _, where = stem.partition(".")
    return ("", "") if stem == hostname or "." in where else (name, where)


def _taken(r: Reader, key: SiteKey, name: str) -> bool:
    other = SiteKey(key.client_namespace, key.port, name)
    return name != key.hostname and is_known(r, name) and (serves_http(r, other) or bool(owners(r, other)))


def _first_at(r: Reader, key: SiteKey, address: str) -> bool:
    """Whether of all hosts with this address on the port, this one is the first by name."""
    rivals = (at.hostname for at in r.find(HOSTS_BY_ADDRESS, address) if at.hostname < key.hostname)
    for name in rivals:
        at = host_named(r, NameKey(key.client_namespace, name))
        fact = None if at is None else host(r, at)
        rival = SiteKey(key.client_namespace, key.port, name)
        if fact is not None and address in fact.addresses and serves_http(r, rival):
            return False
    return True


def _formed(domains: list[str], key: VirtualHostKey) -> list[str]:
    if key.form == ANY:
        return ["*"]
    if key.form == PLAIN:
        return domains
    with_port = [f"{one}:{key.port}" for one in domains]
    return [*domains, *with_port] if key.port == HTTP_PORT else with_port


def _literal(name: str) -> str:
    """A name or address as a URL writes it: IPv6 addresses stand in brackets."""
    return f"[{name}]" if ":" in name else name


@rule
def http_ports_of(r: Reader, at: HostKey) -> tuple[int, ...]:
    """The ports on which a host speaks HTTP, or may."""
    return tuple(one.number for one in _ports(r, at) if one.protocol.is_http or one.protocol is Protocol.AUTO)


def _ports(r: Reader, at: HostKey) -> tuple[HostPort, ...]:
    fact = host(r, at)
    return fact.ports if fact is not None else ()
