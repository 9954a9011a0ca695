"""Virtual hosts of gateways: hosts of servers where they meet hosts of the rules that are bound to the gateway."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.gateways import BoundServer, RouteServersKey, servers_of_route, serves_http3
from fairlead.compiler.hosts import settings
from fairlead.compiler.routes_rules import ClientKey, RoutesKey, RouteSummary, has_routes, http_routes, summary
from fairlead.envoy.route import route_configuration, virtual_host
from fairlead.inc import Reader, rule
from fairlead.ir.route import ROUTES_BY_GATEWAY
from fairlead.ir.visibility import host_matches


class GatewayHost(NamedTuple):
    """A virtual host to be: what it answers to, whether it only redirects to HTTPS, and whose routes it has.

    `http3` is the UDP port at which it can be had over QUIC, too; 0 for none.
    """

    domains: tuple[str, ...]
    port: int
    require_tls: bool
    http3: int
    parts: tuple[RoutesKey, ...]


@rule
def gateway_hosts(r: Reader, key: RouteServersKey) -> tuple[GatewayHost, ...]:
    """The virtual hosts of one route configuration. Hosts with equal routes share one, as in Istio."""
    ports: dict[str, int] = {}
    redirects: set[str] = set()
    parts: dict[str, dict[RoutesKey, None]] = {}
    client = ClientKey(key.gateways.namespace, key.gateways.labels)
    for bound in servers_of_route(r, key):
        port, redirect = bound.server.port, bound.server.tls is not None and bound.server.tls.https_redirect
        for routes in _bound_routes(r, bound, client.namespace):
            met = _intersection(_hosts_for(bound, routes.key.namespace), routes.hosts)
            at = RoutesKey(client, str(bound.gateway), port, routes.key, bound.server.tls is not None)
            if not met or not has_routes(r, at):
                continue
            for name in met:
                ports.setdefault(name, port)
                parts.setdefault(name, {})[at] = None
                if redirect:
                    redirects.add(name)
        for name in bound.sni_hosts if redirect else ():
            ports.setdefault(name.lower(), port)
            redirects.add(name.lower())
    quic = any(serves_http3(r, bound.server) for bound in servers_of_route(r, key))
    return _collapsed(ports, redirects, parts, http3=quic)


@rule
def gateway_virtual_host(r: Reader, key: GatewayHost) -> bytes:
    """One virtual host, serialised and framed."""
    lists = [http_routes(r, part) for part in key.parts]
    return virtual_host(
        f"{key.domains[0]}:{key.port}",
        key.domains,
        lists,
        require_tls=key.require_tls,
        http3=key.http3,
        attempts=settings(r).headers.attempt_count,
    )


@rule
def gateway_configuration(r: Reader, key: RouteServersKey) -> bytes:
    """A gateway's route configuration, serialised.

    Where no rule is bound, a virtual host without routes answers 404. Where no server has this name any more, there is
    no virtual host: Envoy may still ask while the listener drains.
    """
    made = [gateway_virtual_host(r, one) for one in gateway_hosts(r, key)]
    if not made:
        made = [virtual_host(f"blackhole:{bound.server.port}", ["*"], []) for bound in servers_of_route(r, key)[:1]]
    return route_configuration(key.name, made)


def _bound_routes(r: Reader, bound: BoundServer, namespace: str) -> list[RouteSummary]:
    found = (summary(r, at) for at in r.find(ROUTES_BY_GATEWAY, str(bound.gateway)))
    return sorted(
        (one for one in found if one is not None and one.visible(namespace)), key=lambda one: one.rank(namespace)
    )


def _hosts_for(bound: BoundServer, namespace: str) -> list[str]:
    """The server's hosts that rules of a namespace may bind to."""
    out: list[str] = []
    for one in bound.hosts:
        where, slash, name = one.rpartition("/")
        if not slash or where == namespace:
            out.append(name)
    return out


def _intersection(served: list[str], routed: tuple[str, ...]) -> list[str]:
    """The names that both sides cover: of each overlapping pair the narrower one, in lower case."""
    out: dict[str, None] = {}
    for mine in served:
        for theirs in routed:
            if host_matches(theirs, mine):
                out[mine.lower()] = None
            elif host_matches(mine, theirs):
                out[theirs.lower()] = None
    return list(out)


def _collapsed(
    ports: dict[str, int], redirects: set[str], parts: dict[str, dict[RoutesKey, None]], *, http3: bool
) -> tuple[GatewayHost, ...]:
    groups: dict[tuple[int, bool, int, tuple[RoutesKey, ...]], list[str]] = {}
    for name in sorted(ports, key=lambda one: (one.startswith("*"), -len(one), one)):
        group = (ports[name], name in redirects, ports[name] if http3 else 0, tuple(parts.get(name, ())))
        groups.setdefault(group, []).append(name)
    made = [GatewayHost(tuple(domains), *group) for group, domains in groups.items()]
    return tuple(sorted(made, key=lambda one: f"{one.domains[0]}:{one.port}"))
