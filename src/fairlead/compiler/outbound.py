"""The outbound listeners of a sidecar: one for each address and port that some visible host has.

A redirected connection arrives at `virtualOutbound`, which hands it to the listener of its original destination, or
lets it through (or not) if there is none. An explicitly captured application finds the ports of other hosts bound at
its outbound address, and beside them an HTTP proxy.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from msgspec.structs import replace

from fairlead.compiler.hosts import PortKey, host, host_keys, settings
from fairlead.compiler.loggers import counts_grpc, listener_loggers, loggers, trace
from fairlead.compiler.outboundports import (
    LOOPBACK,
    PRIVILEGED,
    Bind,
    Caller,
    Standing,
    binds,
    bound_hosts,
    caller_ports,
    is_called,
    own_sockets,
    standing,
)
from fairlead.compiler.outboundtcp import ChainsKey, TcpChain, tcp_chains
from fairlead.compiler.own import settings_of
from fairlead.compiler.sidecars import bound_address, listeners_of, namespace_of, sockets_of
from fairlead.compiler.unknown import unknown
from fairlead.envoy import names
from fairlead.envoy.hcm import Http, UnknownRoute, connection_manager, outbound_stat_prefix
from fairlead.envoy.listener import (
    PASSTHROUGH_CHAIN,
    PLAINTEXT_HTTP,
    Match,
    Shape,
    Socket,
    build,
    chain,
    inspectors,
    match,
)
from fairlead.envoy.overlap import Taken
from fairlead.envoy.resource import Resource
from fairlead.envoy.route import Unknown, unknown_route
from fairlead.envoy.tcpproxy import BLACK_HOLE, TcpTarget, forwarding, tcp_proxy, to_cluster
from fairlead.inc import Reader, rule
from fairlead.ir.families import ANYWHERE, loopbacks, wildcards
from fairlead.ir.filters import Filter, FilterScope
from fairlead.ir.host import Host
from fairlead.ir.protocol import Protocol
from fairlead.model.diagnostic import Diagnostic, Severity

CATCH_ALL_TCP = "virtualOutbound-catchall-tcp"
CATCH_ALL_HTTP = "virtualOutbound-catchall-http"
BLACK_HOLE_CHAIN = "virtualOutbound-blackhole"

_SERVER_FIRST = (Protocol.MONGO, Protocol.MYSQL)
_HTTP = match(transport="raw_buffer", alpn=PLAINTEXT_HTTP)
_EVERYTHING = match()


class At(NamedTuple):
    """A listener of a caller: address (may be `ANYWHERE` or `LOOPBACK`) and port."""

    caller: Caller
    address: str
    port: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it is; the first address is in its name."""
        if self.address == ANYWHERE and not self.caller.bind:
            return wildcards(self.caller.families)
        return loopbacks(self.caller.families) if self.address == LOOPBACK else (self.address,)

    @property
    def name(self) -> str:
        """The listener's name."""
        return names.listener(self.addresses[0], self.port)

    def sockets(self, netns: str) -> tuple[Socket, ...]:
        """What it binds, in a network namespace."""
        return tuple(Socket(one, self.port, netns) for one in self.addresses)


class OutboundKey(NamedTuple):
    """A listener of a caller with the filters that kinds contribute to its chains.

    `netns` is where the application is; it matters to listeners that a Sidecar has bound ("": Envoy's own namespace).
    """

    at: At
    http_filters: tuple[Filter, ...] = ()
    tcp_filters: tuple[Filter, ...] = ()
    netns: str = ""


class VirtualKey(NamedTuple):
    """The listener of redirected connections; `netns` is where the application is, "" for Envoy's own namespace.

    `port` is the one to which they are redirected.
    """

    caller: Caller
    netns: str = ""
    http_filters: tuple[Filter, ...] = ()
    port: int = names.OUTBOUND_PORT


class _Entry(NamedTuple):
    """A host that a listener serves, and how: `http` also if HTTP is detected, `tcp` also if bytes are forwarded."""

    standing: Standing
    http: bool
    tcp: bool


@rule
def outbound_sockets(r: Reader, caller: Caller) -> tuple[tuple[str, int], ...]:
    """Addresses and ports of a caller's listeners, without the virtual one and the HTTP proxy; port 0: Unix sockets."""
    sockets = tuple((socket, 0) for socket, _ in sockets_of(r, caller.namespace))
    if not caller.bind:
        told = (one for one in binds(r, caller.namespace) if is_called(one[0], caller.families))
        return (*told, *sockets)
    return (*((caller.bind, port) for port in caller_ports(r, caller)), *own_sockets(r, caller), *sockets)


@rule
def entries(r: Reader, at: At) -> tuple[_Entry, ...]:
    """The hosts at a listener, the first one first. Reports hosts that the listener cannot serve beside the others.

    Istio's rules for hosts that share a listener: HTTP and TCP share by detection; of several without a declared
    protocol the first stands; protocols in which the server speaks first share with nobody. Nobody stands where
    redirected connections arrive: Envoy takes one listener at an address.
    """
    mesh = settings(r)
    if not at.caller.bind and at.address == ANYWHERE and at.port in (mesh.outbound_port, mesh.inbound_port):
        for one in _standing(r, at):
            found = host(r, one.host)
            if found is not None:
                r.report(_unserved(found, at, "redirected connections arrive at the proxy on that port"))
        return ()
    accepted: list[_Entry] = []
    first: Protocol | None = None
    detects = False
    declared = _declared(r, at)
    for one in _standing(r, at):
        if one.protocol is Protocol.UDP:
            continue
        protocol = declared or one.protocol
        if first is not None and protocol is not first and {first, protocol} & set(_SERVER_FIRST):
            found = host(r, one.host)
            if found is not None:
                r.report(_unserved(found, at, f"{first.value} is already served there, and does not mix"))
            continue
        first = first or protocol
        if protocol.is_http:
            accepted.append(_Entry(one, http=True, tcp=False))
        elif protocol is not Protocol.AUTO:
            accepted.append(_Entry(one, http=False, tcp=True))
        elif not detects:
            accepted.append(_Entry(one, http=True, tcp=True))
        detects = detects or accepted[-1].http
    return tuple(accepted)


@rule
def outbound_route(r: Reader, at: At) -> str:
    """The name of the routes that a listener refers to, "" if it parses no HTTP.

    Hosts share the routes of a port (`80`); a detected port at a host's own address has its own (`host:80`).
    """
    parsed = next((one for one in entries(r, at) if one.http), None)
    if parsed is None:
        return ""
    if not at.port:
        return at.address
    if at.caller.bind or at.address == ANYWHERE:
        return str(at.port)
    return f"{parsed.standing.host.hostname}:{at.port}"


@rule
def outbound_listener(r: Reader, key: OutboundKey) -> Resource | None:
    """The listener at an address and port, or None if no host stands there."""
    at = key.at
    found = entries(r, at)
    if not found:
        return None
    mesh = settings_of(r, at.caller.own)
    forwarded = _forwarded(r, at, found)
    route = outbound_route(r, at)
    made: list[tuple[Match, FilterChain]] = []
    for one in forwarded:
        made.append((one.matching, chain(one.matching, _tcp(r, key, one.target))))
    if route:
        # Only HTTP at an address of our own: nothing to detect, and nowhere else to send what is not HTTP.
        matching = _EVERYTHING if (at.caller.bind or not at.port) and not forwarded else _HTTP
        made.append((matching, chain(matching, [_http(r, key, route)])))
    chosen = [one for one in made if not one[0].is_everything]
    default = next((one[1] for one in made if one[0].is_everything), None)
    if default is None:
        default = FilterChain(name=PASSTHROUGH_CHAIN, filters=_tcp(r, key, _otherwise(r, at)))
    chains = [one for _, one in chosen] or [default]
    bound = bound_address(r, at.caller.namespace)[1]
    first, *more = at.sockets(key.netns if bound else "")
    return build(
        Shape(
            at.name,
            first,
            "outbound",
            more_sockets=tuple(more),
            bound=bool(at.caller.bind) or bound,
            detection_timeout=mesh.protocol_detection_timeout if any(one.alpn for one, _ in chosen) else 0,
            exact_balance=mesh.node.balance_outbound,
            buffer=mesh.connections.listener_buffer,
        ),
        chains,
        default=default if chosen else None,
        inspectors=inspectors((one for one, _ in chosen), always_tls=True),
    )


@rule
def virtual_outbound(r: Reader, key: VirtualKey) -> Resource:
    """`virtualOutbound`: receives redirected connections and passes them to the listener of their destination."""
    logs = loggers(r, _scope(key.caller, key.port, tcp=True))
    own = match(port=key.port)
    chains = [chain(own, [tcp_proxy(BLACK_HOLE, logs)], BLACK_HOLE_CHAIN)]
    found = unknown(r, key.caller.namespace)
    parsed = found.http == names.DYNAMIC_CLUSTER
    if parsed:
        # Requests go to the hosts that they name, which only their headers say.
        chains.append(chain(_HTTP, [_unknown_http(r, key, found)], CATCH_ALL_HTTP))
    idle = settings_of(r, key.caller.own).node.idle_timeout
    on = forwarding(_otherwise(r, At(key.caller, ANYWHERE, key.port)), (), logs, idle)
    rest = chain(_EVERYTHING, on, CATCH_ALL_TCP)
    first, *more = At(key.caller, LOOPBACK if key.netns else ANYWHERE, key.port).sockets(key.netns)
    shape = Shape(
        names.VIRTUAL_OUTBOUND,
        first,
        "outbound",
        more_sockets=tuple(more),
        hands_off=True,
        detection_timeout=settings(r).protocol_detection_timeout if parsed else 0,
        buffer=settings_of(r, key.caller.own).connections.listener_buffer,
    )
    looks = inspectors([_HTTP], always_tls=True) if parsed else ()
    # Beside a chain that asks for HTTP, one that asks for nothing would never be tried: it is the default then.
    default = rest if parsed else None
    chains.extend([] if parsed else [rest])
    opened = listener_loggers(r, _scope(key.caller, key.port, tcp=True))
    return build(shape, chains, default=default, inspectors=looks, access_logs=opened)


def _unknown_http(r: Reader, key: VirtualKey, found: Unknown) -> NetworkFilter:
    scope = _scope(key.caller, key.port, tcp=False)
    http = Http(
        "outbound",
        outbound_stat_prefix(names.VIRTUAL_OUTBOUND),
        UnknownRoute(names.ALLOW_ANY, unknown_route(found)),
        key.http_filters,
        forward=True,
        families=key.caller.families,
        counts_grpc=counts_grpc(r, scope),
        trace=trace(r, scope),
    )
    return connection_manager(http, settings_of(r, scope.own), loggers(r, scope))


@rule
def http_proxy_listener(r: Reader, key: tuple[OutboundKey, str]) -> Resource:
    """The listener that applications use as their HTTP proxy (`HTTP_PROXY`); the second part is a network namespace."""
    wanted, netns = key
    at = wanted.at
    scope = _scope(at.caller, at.port, tcp=False)
    http = Http(
        "outbound",
        outbound_stat_prefix(at.name),
        names.HTTP_PROXY_ROUTE,
        wanted.http_filters,
        proxy=True,
        on_demand=at.caller.on_demand,
        forward=bool(at.caller.bind) or _is_dynamic(r, at),
        families=at.caller.families,
        counts_grpc=counts_grpc(r, scope),
        trace=trace(r, scope),
    )
    manager = connection_manager(http, settings_of(r, scope.own), loggers(r, scope, tunnels=False))
    first, *more = at.sockets(netns)
    buffer = settings_of(r, scope.own).connections.listener_buffer
    shape = Shape(at.name, first, "outbound", more_sockets=tuple(more), buffer=buffer)
    return build(shape, [chain(_EVERYTHING, [manager])])


def _standing(r: Reader, at: At) -> tuple[Standing, ...]:
    if not at.port:
        return _at_socket(r, at)
    if not at.caller.bind or bound_address(r, at.caller.namespace)[0]:
        return standing(r, Bind(at.caller.namespace, at.address, at.port))
    if at.address != at.caller.bind or at.port < PRIVILEGED or at.port == at.caller.http_proxy_port:
        return ()
    out: list[Standing] = []
    for key in bound_hosts(r, PortKey(at.caller.namespace, at.port)):
        one = host(r, key)
        port = one.port(at.port) if one is not None else None
        if one is not None and port is not None:
            out.append(Standing("", key, protocol=port.protocol, looked_up=one.is_looked_up))
    return tuple(out)


def _at_socket(r: Reader, at: At) -> tuple[Standing, ...]:
    """The hosts at a Unix socket: requests name host and port, bytes go to the only port of a host."""
    out: list[Standing] = []
    for key in host_keys(r, at.caller.namespace):
        found = host(r, key)
        spoken = [one.protocol for one in found.ports] if found is not None else []
        if found is None or not spoken:
            continue
        parsed = any(one.is_http or one is Protocol.AUTO for one in spoken)
        out.append(Standing(found.created, key, protocol=Protocol.HTTP if parsed else spoken[0]))
    return tuple(sorted(out))


def _called(r: Reader, at: At, one: Standing) -> int:
    """The port of a host that calls at a listener are for; 0 where a Unix socket does not say which of several."""
    found = host(r, one.host) if not at.port else None
    return found.ports[0].number if found is not None and len(found.ports) == 1 else at.port


def _forwarded(r: Reader, at: At, found: tuple[_Entry, ...]) -> list[TcpChain]:
    """The chains that forward bytes. Reports those that another one leaves nothing."""
    taken: Taken[TcpChain] = Taken()
    out: list[TcpChain] = []
    for one in found:
        if not one.tcp:
            continue
        shared = bool(at.caller.bind) or at.address == ANYWHERE or not at.port
        called = _called(r, at, one.standing)
        several = None if called else host(r, one.standing.host)
        if several is not None:
            r.report(_unserved(several, at, "it has several ports, and bytes at a socket do not say which is meant"))
        key = ChainsKey(at.caller, one.standing.host, called, one.standing.subnet, shared)
        for made in tcp_chains(r, key):
            # Who dials a socket dials no address: Istio leaves destination subnets out there.
            wanted = made.matching if at.port else replace(made.matching, subnets=())
            parts, kept = taken.free(wanted, made)
            out.extend(replace(made, matching=part) for part in parts)
            if kept is not None and not parts and not one.http:
                served = host(r, one.standing.host)
                if served is not None:
                    r.report(_unserved(served, at, f"{kept.origin.ref} already takes these connections"))
    return out


def _http(r: Reader, key: OutboundKey, route: str) -> NetworkFilter:
    at = key.at
    scope = _scope(at.caller, at.port, tcp=False)
    http = Http(
        "outbound",
        outbound_stat_prefix(at.name),
        route,
        key.http_filters,
        on_demand=at.caller.on_demand,
        counts_grpc=counts_grpc(r, scope),
        grpc_web=any(one.standing.protocol is Protocol.GRPC_WEB for one in entries(r, at)),
        forward=_is_dynamic(r, at) or any(one.standing.looked_up for one in entries(r, at)),
        families=at.caller.families,
        trace=trace(r, scope),
    )
    return connection_manager(http, settings_of(r, scope.own), loggers(r, scope))


def _tcp(r: Reader, key: OutboundKey, target: TcpTarget) -> list[NetworkFilter]:
    idle = settings_of(r, key.at.caller.own).node.idle_timeout
    return forwarding(target, key.tcp_filters, loggers(r, _scope(key.at.caller, key.at.port, tcp=True)), idle)


def _otherwise(r: Reader, at: At) -> TcpTarget:
    """Where connections go that no host claims; one to our own address or socket has nowhere else to go."""
    cluster = unknown(r, at.caller.namespace).tcp
    if not cluster or ((at.caller.bind or not at.port) and cluster == names.PASSTHROUGH_CLUSTER):
        return BLACK_HOLE
    return to_cluster(cluster)


def _is_dynamic(r: Reader, at: At) -> bool:
    """Whether requests to hosts that the mesh does not know go to the hosts that they name."""
    return unknown(r, at.caller.namespace).http == names.DYNAMIC_CLUSTER


def _declared(r: Reader, at: At) -> Protocol | None:
    """The protocol that a Sidecar's listener has, whatever those of its hosts are; None if none says."""
    for one in listeners_of(r, at.caller.namespace) if at.caller.namespace.count("/") == 3 else ():
        return one.protocol if (one.port or one.is_socket) and one.protocol is not Protocol.AUTO else None
    return None


def _scope(caller: Caller, port: int, *, tcp: bool) -> FilterScope:
    direction: Literal["outbound"] = "outbound"
    return FilterScope(
        direction, namespace_of(caller.namespace), caller.labels, port, tcp, caller.telemetry, caller.own
    )


def _unserved(found: Host, at: At, why: str) -> Diagnostic:
    where = "at the outbound addresses" if at.caller.bind else f"at {at.addresses[0]}"
    return Diagnostic(
        "FL0311",
        Severity.WARNING,
        f"{f'port {at.port} of ' if at.port else ''}{found.key.hostname} is not reachable {where}: {why}",
        found.origin,
        "Give one of the hosts another port, a virtual address of its own, or declare HTTP or TLS if that is spoken.",
    )
