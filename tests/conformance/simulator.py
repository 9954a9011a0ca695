"""Walks one call over compiled resources, as Envoy would: listener, filter chain, virtual host, route, cluster.

Pure: a catalog and a call in, an outcome out. Nothing is sent. What a call meets is decided by Envoy's documented
rules (FilterChainMatch's order of criteria without backtracking, VirtualHost.domains, first matching route); routes
are told apart by path only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Literal, TypeVar

import msgspec
from envoy.config.listener.v3.listener_components_pb2 import (
    FilterChain,
    FilterChainMatch,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from google.protobuf.message import Message

from fairlead.compiler.publish import Catalog
from fairlead.envoy import names
from fairlead.envoy.resource import LISTENER, ROUTE

NO_LISTENER = "no listener matched"
NO_CHAIN = "no filter chains matched"
SEVERAL_CHAINS = "multiple filter chains matched"
NO_HOST = "no virtual host matched"
NO_ROUTE = "no route matched"
TLS_REDIRECT = "tls required, sending 301"
PROTOCOL_ERROR = "protocol error"
TLS_ERROR = "invalid TLS"
MTLS_ERROR = "invalid mTLS"

ANYWHERE = "0.0.0.0"
_TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
_HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"

M = TypeVar("M", bound=Message)


class Call(msgspec.Struct, frozen=True):
    """One connection and, if it speaks HTTP, one request in it.

    `mode`: `outbound` is a connection of the application that was redirected to its proxy, `inbound` one that was
    redirected on its way to the application, `gateway` one that is made to the proxy itself. `alpn` is what the client
    offers in TLS. `certificate` is the secret name by which a chain is known to ask for the mesh's client certificate.
    """

    port: int
    address: str = "1.3.3.7"
    protocol: Literal["http", "http2", "tcp"] = "tcp"
    tls: Literal["plaintext", "tls", "mtls"] = "plaintext"
    host: str = ""
    path: str = "/"
    sni: str = ""
    alpn: str = ""
    mode: Literal["outbound", "inbound", "gateway"] = "outbound"
    certificate: str = names.IDENTITY_SECRET


class Outcome(msgspec.Struct, frozen=True):
    """What a call met, by name, as far as it came; `error` is why it ended there ("" if it did not)."""

    error: str = ""
    listener: str = ""
    chain: str = ""
    routes: str = ""
    """The route configuration, if it comes over RDS."""
    virtual_host: str = ""
    route: str = ""
    cluster: str = ""


class World:
    """The parsed resources of one proxy."""

    def __init__(self, catalog: Catalog) -> None:
        self.listeners = [Listener.FromString(one.body) for one in catalog[LISTENER].values()]
        self.routes = {name: RouteConfiguration.FromString(one.body) for name, one in catalog[ROUTE].items()}


def simulate(world: World, call: Call) -> Outcome:
    """What the call meets."""
    listener = _listener(world.listeners, call)
    if listener is None:
        return Outcome(NO_LISTENER)
    inspected = _inspects(listener, _TLS_INSPECTOR, call.port)
    seen = msgspec.structs.replace(call, alpn=_alpn(listener, call, inspected=inspected))
    met = Outcome(listener=listener.name)
    chains = filter_chains(listener.filter_chains, seen, inspected=inspected)
    if len(chains) > 1:
        return msgspec.structs.replace(met, error=SEVERAL_CHAINS)
    if not chains and not listener.HasField("default_filter_chain"):
        return msgspec.structs.replace(met, error=NO_CHAIN)
    chain = chains[0] if chains else listener.default_filter_chain
    met = msgspec.structs.replace(met, chain=chain.name)
    refused = _handshake(chain, seen)
    if refused:
        return msgspec.structs.replace(met, error=refused)
    return _through(world, chain, seen, met)


def _listener(listeners: Iterable[Listener], call: Call) -> Listener | None:
    if call.mode == "inbound":
        return next((one for one in listeners if one.name == names.VIRTUAL_INBOUND), None)
    at = {
        (one.address.socket_address.address, one.address.socket_address.port_value): one
        for one in listeners
        if one.name not in (names.VIRTUAL_INBOUND, names.VIRTUAL_OUTBOUND)
    }
    found = at.get((call.address, call.port)) or at.get((ANYWHERE, call.port))
    return found or next((one for one in listeners if one.name == names.VIRTUAL_OUTBOUND), None)


def _alpn(listener: Listener, call: Call, *, inspected: bool) -> str:
    """The application protocol as listener filters see it."""
    if call.tls != "plaintext":
        return call.alpn if inspected else ""
    if not _inspects(listener, _HTTP_INSPECTOR, call.port):
        return ""
    return {"http": "http/1.1", "http2": "h2c"}.get(call.protocol, "")


def _inspects(listener: Listener, name: str, port: int) -> bool:
    for one in listener.listener_filters:
        if one.name == name:
            return not (one.HasField("filter_disabled") and _holds(one.filter_disabled, port))
    return False


def _holds(predicate: ListenerFilterChainMatchPredicate, port: int) -> bool:
    match predicate.WhichOneof("rule"):
        case "or_match":
            return any(_holds(one, port) for one in predicate.or_match.rules)
        case "and_match":
            return all(_holds(one, port) for one in predicate.and_match.rules)
        case "not_match":
            return not _holds(predicate.not_match, port)
        case "destination_port_range":
            return predicate.destination_port_range.start <= port < predicate.destination_port_range.end
        case _:
            return True


def filter_chains(chains: Iterable[FilterChain], call: Call, *, inspected: bool) -> list[FilterChain]:
    """The chains that are left after each criterion in Envoy's order.

    At each step the most specific value that some remaining chain has and the call fulfils wins; if there is none,
    the chains that do not ask remain. There is no way back to what an earlier step has dropped.
    """
    transport = "tls" if inspected and call.tls != "plaintext" else "raw_buffer"
    steps: tuple[Callable[[FilterChainMatch], int | None], ...] = (
        lambda one: _exact([one.destination_port.value] if one.HasField("destination_port") else [], call.port),
        lambda one: _prefix(one, call.address),
        lambda one: _server_name(list(one.server_names), call.sni.lower()),
        lambda one: _exact([one.transport_protocol] if one.transport_protocol else [], transport),
        lambda one: _exact(list(one.application_protocols), call.alpn),
    )
    left = list(chains)
    for step in steps:
        ranked = [(step(one.filter_chain_match), one) for one in left]
        best = max((rank for rank, _ in ranked if rank is not None), default=None)
        left = [one for rank, one in ranked if rank is not None and rank == best]
    return left


def _exact(asked: Sequence[object], value: object) -> int | None:
    """How well a criterion fits: 0 if nothing is asked, None if something else is."""
    if not asked:
        return 0
    return 1 if value in asked else None


def _prefix(asked: FilterChainMatch, address: str) -> int | None:
    if not asked.prefix_ranges:
        return 0
    at = ip_address(address)
    nets = [ip_network(f"{one.address_prefix}/{one.prefix_len.value}", strict=False) for one in asked.prefix_ranges]
    return max((1 + net.prefixlen for net in nets if at.version == net.version and at in net), default=None)


def _server_name(asked: list[str], sni: str) -> int | None:
    if not asked:
        return 0
    if sni in asked:
        return 1 << 16
    return max((len(one) for one in asked if one.startswith("*.") and sni.endswith(one[1:])), default=None)


def _handshake(chain: FilterChain, call: Call) -> str:
    """Why the chain's TLS refuses the connection, or ""."""
    if not chain.HasField("transport_socket"):
        return ""
    if call.tls == "plaintext":
        return TLS_ERROR
    context = _unpacked(chain.transport_socket.typed_config, DownstreamTlsContext)
    secrets = [one.name for one in context.common_tls_context.tls_certificate_sds_secret_configs]
    wants = context.require_client_certificate.value and secrets[:1] == [call.certificate]
    return MTLS_ERROR if wants != (call.tls == "mtls") else ""


def _through(world: World, chain: FilterChain, call: Call, met: Outcome) -> Outcome:
    for one in chain.filters:
        if one.typed_config.Is(HttpConnectionManager.DESCRIPTOR):
            manager = _unpacked(one.typed_config, HttpConnectionManager)
            if call.protocol == "tcp" or (call.tls != "plaintext" and not chain.HasField("transport_socket")):
                return msgspec.structs.replace(met, error=PROTOCOL_ERROR)
            return _request(world, manager, call, met)
        if one.typed_config.Is(TcpProxy.DESCRIPTOR):
            return msgspec.structs.replace(met, cluster=_unpacked(one.typed_config, TcpProxy).cluster)
    return met


def _request(world: World, manager: HttpConnectionManager, call: Call, met: Outcome) -> Outcome:
    if manager.HasField("route_config"):
        found: RouteConfiguration | None = manager.route_config
    else:
        met = msgspec.structs.replace(met, routes=manager.rds.route_config_name)
        found = world.routes.get(manager.rds.route_config_name)
    host = virtual_host(found, call.host) if found is not None else None
    if host is None:
        return msgspec.structs.replace(met, error=NO_HOST)
    met = msgspec.structs.replace(met, virtual_host=host.name)
    if host.require_tls == VirtualHost.ALL and call.tls == "plaintext":
        return msgspec.structs.replace(met, error=TLS_REDIRECT)
    route = next((one for one in host.routes if _takes(one.match, call.path)), None)
    if route is None:
        return msgspec.structs.replace(met, error=NO_ROUTE)
    return msgspec.structs.replace(met, route=route.name, cluster=_cluster(route))


def _cluster(route: Route) -> str:
    return route.route.cluster if route.HasField("route") else ""


def virtual_host(routes: RouteConfiguration, host: str) -> VirtualHost | None:
    """The virtual host of a `Host` header: an exact domain, else the longest `*.suffix`, else the longest
    `prefix.*`, else `*`."""
    name = host.lower()
    if routes.ignore_port_in_host_matching:
        name = re.sub(r":\d+$", "", name)
    ranked: list[tuple[tuple[int, int], VirtualHost]] = []
    for one in routes.virtual_hosts:
        fits = [rank for rank in (_domain(domain.lower(), name) for domain in one.domains) if rank is not None]
        if fits:
            ranked.append((max(fits), one))
    return max(ranked, key=lambda one: one[0])[1] if ranked else None


def _domain(domain: str, name: str) -> tuple[int, int] | None:
    if domain == name:
        return 3, 0
    if domain == "*":
        return 0, 0
    if len(name) < len(domain):
        return None
    if domain.startswith("*") and name.endswith(domain[1:]):
        return 2, len(domain)
    if domain.endswith("*") and name.startswith(domain[:-1]):
        return 1, len(domain)
    return None


def _takes(asked: RouteMatch, path: str) -> bool:
    bare = path.partition("?")[0]
    match asked.WhichOneof("path_specifier"):
        case "prefix":
            return _cased(asked, path).startswith(_cased(asked, asked.prefix))
        case "path":
            return _cased(asked, bare) == _cased(asked, asked.path)
        case "safe_regex":
            return re.fullmatch(asked.safe_regex.regex, bare) is not None
        case "path_separated_prefix":
            prefix, at = _cased(asked, asked.path_separated_prefix), _cased(asked, bare)
            return at == prefix or at.startswith(prefix + "/")
        case _:
            return False


def _cased(asked: RouteMatch, text: str) -> str:
    exact = not asked.HasField("case_sensitive") or asked.case_sensitive.value
    return text if exact else text.lower()


def _unpacked(packed: Message, kind: type[M]) -> M:
    return kind.FromString(packed.value)  # type: ignore[attr-defined]
