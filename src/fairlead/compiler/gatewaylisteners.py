"""Listeners of gateways: one for each address and port of the gateways that a proxy serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.config.listener.v3.listener_components_pb2 import FilterChain

from fairlead.compiler.clients import client
from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.gateways import BoundServer, GatewaysKey, PortServers, merged_servers, parses_http, serves_http3
from fairlead.compiler.hosts import settings
from fairlead.compiler.loggers import counts_grpc, listener_loggers, loggers, trace
from fairlead.compiler.outboundports import Caller
from fairlead.compiler.outboundtcp import rule_target
from fairlead.compiler.own import settings_of
from fairlead.compiler.providing import sources_of
from fairlead.envoy import names
from fairlead.envoy.hcm import Http, connection_manager, outbound_stat_prefix
from fairlead.envoy.listener import Match, Shape, Socket, build, chain, inspectors, match, narrowed, quic_chain
from fairlead.envoy.overlap import Taken
from fairlead.envoy.resource import Resource
from fairlead.envoy.tcpproxy import by_server_name, forwarding
from fairlead.envoy.tls import gateway_server
from fairlead.inc import Reader, rule
from fairlead.ir.address import Address
from fairlead.ir.families import wildcards
from fairlead.ir.filters import FilterScope, Phase
from fairlead.ir.gateway import ServerTls
from fairlead.ir.host import HOSTS_LOOKED_UP
from fairlead.ir.kind import Stage
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import ROUTES_BY_GATEWAY, L4Match, L4Rule, RouteSet
from fairlead.ir.view import View
from fairlead.ir.visibility import host_matches, is_visible
from fairlead.model.diagnostic import Diagnostic, Origin, Severity


class _Made(NamedTuple):
    matching: Match
    chain: FilterChain
    origin: Origin


@rule
def gateway_listener_names(r: Reader, view: View) -> tuple[str, ...]:
    """The names of a gateway's listeners that have something to serve, in the order of ports."""
    found: dict[str, None] = {}
    anywhere = wildcards(view.speaks)[0]
    for port in merged_servers(r, GatewaysKey.of(r, view)):
        found[names.listener(port.bind or anywhere, port.port)] = None
        if any(serves_http3(r, one.server) for one in port.servers):
            found[names.quic_listener(port.bind or anywhere, port.port)] = None
    return tuple(name for name in found if gateway_listener(r, (view, name)) is not None)


@rule
def gateway_route_names(r: Reader, view: View) -> tuple[str, ...]:
    """The names of the route configurations that a gateway's listeners refer to."""
    return tuple(
        dict.fromkeys(
            server.route_name
            for port in merged_servers(r, GatewaysKey.of(r, view))
            for server in port.servers
            if server.route_name
        )
    )


@rule
def gateway_listener(r: Reader, key: tuple[View, str]) -> Resource | None:
    """One listener of a gateway, or None if there is none of this name or nothing is routed through it."""
    view, name = key
    if name.startswith(names.QUIC_PREFIX):
        return _quic_listener(r, view, name)
    address, _, number = name.rpartition("_")
    port = _port(r, view, address, number)
    if port is None:
        return None
    chosen: dict[Match, _Made] = {}
    taken: Taken[_Made] = Taken()
    for made in _chains(r, view, name, port.servers, tls=port.tls):
        parts, kept = taken.free(made.matching, made)
        for part in parts:
            chosen[part] = made if kept is None else made._replace(chain=narrowed(made.chain, part))
        if kept is not None and kept.origin != made.origin:
            r.report(_repeated(made, kept, name))
    if not chosen:
        return None
    mesh = settings_of(r, view.own)
    first, *more = _sockets(view, address, port)
    looked_at = [*chosen, *([match(transport="tls")] if port.tls else [])]
    return build(
        # Whoever connects to a TLS port speaks first, so there is no reason to stop waiting.
        Shape(
            name,
            first,
            "outbound",
            more_sockets=tuple(more),
            continue_on_timeout=False,
            proxy_protocol=mesh.gateway_proxy_protocol,
            exact_balance=mesh.node.balance_outbound,
            buffer=mesh.connections.at(gateway=True).listener_buffer,
        ),
        [one.chain for one in chosen.values()],
        inspectors=inspectors(looked_at),
        access_logs=listener_loggers(r, _scope(view, port.port, tcp=True)),
    )


def _quic_listener(r: Reader, view: View, name: str) -> Resource | None:
    """The listener for HTTP/3 beside one for TCP: the same servers, certificates and routes."""
    address, _, number = name.removeprefix(names.QUIC_PREFIX).rpartition("_")
    limits = settings(r).other_tls
    chosen: dict[Match, FilterChain] = {}
    port = _port(r, view, address, number)
    for bound in port.servers if port is not None else ():
        tls = bound.server.tls
        if tls is None or not serves_http3(r, bound.server):
            continue
        matching = match(sni=bound.sni_hosts)
        context = gateway_server(tls, tcp=False, limits=limits, sources=_sources(r, view, tls))
        chosen.setdefault(matching, quic_chain(matching, [_http(r, view, name, bound, http3=True)], context))
    if port is None or not chosen:
        return None
    first, *more = _sockets(view, address, port)
    shape = Shape(name, first, "outbound", more_sockets=tuple(more), quic=True)
    logs = listener_loggers(r, _scope(view, port.port, tcp=True))
    return build(shape, list(chosen.values()), access_logs=logs)


def _port(r: Reader, view: View, address: str, number: str) -> PortServers | None:
    """The servers of a listener, of which its name says address and port."""
    found = merged_servers(r, GatewaysKey.of(r, view))
    anywhere = wildcards(view.speaks)[0]
    return next((one for one in found if str(one.port) == number and (one.bind or anywhere) == address), None)


def _sockets(view: View, address: str, port: PortServers) -> tuple[Socket, ...]:
    """What a listener binds: a server that names no address is at any, of the families that the proxy has."""
    return tuple(Socket(one, port.port) for one in (wildcards(view.speaks) if not port.bind else (address,)))


def _chains(r: Reader, view: View, name: str, servers: tuple[BoundServer, ...], *, tls: bool) -> Iterator[_Made]:
    if not tls and parses_http(servers[0].server):
        # Plain HTTP servers share one chain: their hosts are told apart by routes.
        everything = match()
        yield _Made(everything, chain(everything, [_http(r, view, name, servers[0])]), servers[0].server.origin)
        return
    for bound in servers:
        yield from _server_chains(r, view, name, bound)


def _server_chains(r: Reader, view: View, name: str, bound: BoundServer) -> Iterator[_Made]:
    server, tls = bound.server, bound.server.tls
    if tls is not None and tls.mode == "PASSTHROUGH":
        yield from _passed_through(r, view, bound)
        return
    if tls is not None and tls.mode == "AUTO_PASSTHROUGH":
        yield _joined(r, view, bound)
        return
    http = parses_http(server)
    filter_ = _http(r, view, name, bound) if http else None
    terminal = [filter_] if filter_ is not None else _tcp(r, view, bound)
    if not terminal:
        return
    matching = match(sni=bound.sni_hosts if tls is not None else ())
    limits = settings(r).other_tls
    context = None
    if tls is not None:
        context = gateway_server(tls, tcp=not http, limits=limits, sources=_sources(r, view, tls))
    yield _Made(matching, chain(matching, terminal, tls=context), server.origin)


def _sources(r: Reader, view: View, tls: ServerTls) -> Mapping[str, Address]:
    return sources_of(r, view.namespace, (*tls.credential_names, tls.ca_credential_name))


def _joined(r: Reader, view: View, bound: BoundServer) -> _Made:
    """The chain that passes mesh mTLS of other networks on, by the cluster that its server name is."""
    hosts = bound.sni_hosts or ("*",)
    # The names begin with port and subset, so that those of one host are what ends with it.
    endings = [one if one.startswith("*") else f"*.{one}" for one in hosts]
    matching = match(sni=endings, transport="tls", alpn=names.MESH_ALPN)
    scope = _scope(view, bound.server.port, tcp=True)
    # Who calls, the certificate says, which is not for the gateway: the workload judges that.
    added = [one for one in filters(r, FilterKey(Stage.NETWORK_FILTERS, scope)) if one.phase is not Phase.AUTHZ]
    return _Made(matching, chain(matching, by_server_name(hosts, added, loggers(r, scope))), bound.server.origin)


def _http(r: Reader, view: View, name: str, bound: BoundServer, *, http3: bool = False) -> NetworkFilter:
    scope = _scope(view, bound.server.port, tcp=False)
    http = Http(
        role="gateway",
        stat_prefix=(bound.server.name if bound.server.tls is not None else "") or outbound_stat_prefix(name),
        routes=bound.route_name,
        filters=filters(r, FilterKey(Stage.HTTP_FILTERS, scope)),
        forward=bool(r.find(HOSTS_LOOKED_UP, "")),
        families=view.speaks,
        counts_grpc=counts_grpc(r, scope),
        grpc_web=bound.server.protocol is Protocol.GRPC_WEB,
        trace=trace(r, scope),
        http3=http3,
    )
    return connection_manager(http, settings_of(r, scope.own), loggers(r, scope))


def _tcp(r: Reader, view: View, bound: BoundServer) -> list[NetworkFilter]:
    """The filters that forward bytes by the first TCP rule that holds for a server; none if no rule does."""
    for routes in _bound_routes(r, view, bound):
        for said in routes.tcp:
            if not said.matches or any(_holds(one, bound) for one in said.matches):
                made = _forward(r, view, bound, routes, said)
                if made:
                    return made
    return []


def _passed_through(r: Reader, view: View, bound: BoundServer) -> Iterator[_Made]:
    for routes in _bound_routes(r, view, bound):
        for said in routes.tls:
            terminal = _forward(r, view, bound, routes, said)
            for condition in said.matches if terminal else ():
                if _holds(condition, bound):
                    matching = match(sni=condition.sni_hosts, subnets=condition.destination_subnets)
                    yield _Made(matching, chain(matching, terminal), said.origin)


def _forward(r: Reader, view: View, bound: BoundServer, routes: RouteSet, said: L4Rule) -> list[NetworkFilter]:
    seen = client(r, view.client)
    caller = Caller(seen.namespace, seen.labels, families=view.speaks)
    target = rule_target(r, caller, said, bound.server.port, f"{routes.key.name}.{routes.key.namespace}")
    if target is None:
        return []
    scope = _scope(view, bound.server.port, tcp=True)
    fragments = filters(r, FilterKey(Stage.NETWORK_FILTERS, scope))
    return forwarding(target, fragments, loggers(r, scope), settings_of(r, scope.own).node.idle_timeout)


def _bound_routes(r: Reader, view: View, bound: BoundServer) -> list[RouteSet]:
    """The route sets that name a server's gateway and one of its hosts, the oldest first."""
    default = settings(r).default_route_export_to
    found = [
        routes
        for at, routes in r.rows(ROUTES_BY_GATEWAY, str(bound.gateway))
        if is_visible(routes.export_to or default, at.namespace, view.namespace)
        and any(_serves(bound, routes, host) for host in routes.hosts)
    ]
    return sorted(found, key=lambda one: (one.created, one.key))


def _serves(bound: BoundServer, routes: RouteSet, host: str) -> bool:
    for served in bound.hosts:
        namespace, _, pattern = served.rpartition("/")
        if namespace in ("", routes.key.namespace) and (host_matches(pattern, host) or host_matches(host, pattern)):
            return True
    return False


def _holds(condition: L4Match, bound: BoundServer) -> bool:
    return (not condition.gateways or str(bound.gateway) in condition.gateways) and condition.port in (
        0,
        bound.server.port,
    )


def _scope(view: View, port: int, *, tcp: bool) -> FilterScope:
    return FilterScope("gateway", view.namespace, view.labels, port, tcp, own=view.own)


def _repeated(lost: _Made, kept: _Made, name: str) -> Diagnostic:
    what = ", ".join(lost.matching.sni) or "all connections"
    return Diagnostic(
        "FL0312",
        Severity.WARNING,
        f"{what} at listener {name} already goes, at least in part, where {kept.origin.ref} says; "
        "for that this rule is not used",
        lost.origin,
        "Remove one of the two, or give them different sniHosts.",
    )
