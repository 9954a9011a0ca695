"""Listeners: which one takes a connection, what its filters see, and which filter chain is chosen.

Envoy's documented rules: FilterChainMatch's criteria are judged in a fixed order, at each the most specific value that
is left wins, and there is no way back to what an earlier step has dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Literal, NamedTuple

from envoy.config.core.v3.address_pb2 import CidrRange, SocketAddress
from envoy.config.listener.v3.listener_components_pb2 import (
    FilterChain,
    FilterChainMatch,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext

from fairlead.envoy import names
from fairlead.envoy.resource import Resource
from fairlead.ir.families import ANYWHERE, ANYWHERE_V6
from fairlead.simulate.connection import Connection, Seen
from fairlead.simulate.matching import Undecided, unpacked
from fairlead.simulate.world import World

TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
PROXY_PROTOCOL = "envoy.filters.listener.proxy_protocol"
_KNOWN_FILTERS = (TLS_INSPECTOR, HTTP_INSPECTOR, PROXY_PROTOCOL, "envoy.filters.listener.original_dst")
_USUAL_NAME = re.compile(r".*_\d+|virtual(?:Inbound|Outbound)")
_EXACT_NAME = 1 << 16
_CALLED_BY = {ANYWHERE_V6: (ANYWHERE,), "::1": ("127.0.0.1",)}
"""The first address of listeners that proxies with addresses of both families have at several."""

Rank = int | None


def outbound_listener(world: World, listeners: Mapping[str, Resource], address: str, port: int) -> Listener | None:
    """The listener to which `virtualOutbound` hands a redirected connection: the exact address, any address, itself."""
    found = _at(world, listeners, address, port) or _at(world, listeners, anywhere(address), port)
    if found is not None:
        return found
    last = listeners.get(names.VIRTUAL_OUTBOUND)
    return world.listener(last) if last is not None else None


def bound_listener(
    world: World, listeners: Mapping[str, Resource], address: str, port: int, *, quic: bool = False
) -> Listener | None:
    """The listener that is bound where a client connects: at the address itself, else at any address."""
    for at in (address, anywhere(address)):
        found = _quic_at(world, listeners, at, port) if quic else _at(world, listeners, at, port)
        if found is not None and not (found.HasField("bind_to_port") and not found.bind_to_port.value):
            return found
    return None


def inbound_listener(
    world: World, listeners: Mapping[str, Resource], address: str, port: int, *, redirected: bool
) -> Listener | None:
    """The listener of a sidecar that takes a connection to its workload: one of the Sidecar's own, or the shared."""
    own = _at(world, listeners, address, port)
    if own is not None and own.traffic_direction == 1 and own.name != names.VIRTUAL_INBOUND:
        return own
    shared = listeners.get(names.VIRTUAL_INBOUND)
    if shared is None:
        return None
    listener = world.listener(shared)
    if redirected:
        return listener
    return listener if _stands_at(listener, (address, anywhere(address)), port) else None


def anywhere(address: str) -> str:
    """The address that stands for any of its family: Envoy's listeners at `::` take no IPv4."""
    return ANYWHERE_V6 if ":" in address else ANYWHERE


def _stands_at(listener: Listener, addresses: Sequence[str], port: int, *, udp: bool = False) -> bool:
    places = (listener.address, *(one.address for one in listener.additional_addresses))
    wanted = SocketAddress.UDP if udp else SocketAddress.TCP
    return any(
        one.socket_address.port_value == port
        and one.socket_address.protocol == wanted
        and one.socket_address.address in addresses
        for one in places
    )


def _at(world: World, listeners: Mapping[str, Resource], address: str, port: int) -> Listener | None:
    """The listener at an address and port; its name says where it stands, unless an object has added it."""
    # A listener at several addresses is called by the first. Where calls to the workload are redirected to, it stands
    # at any address, so the proxy's own calls meet it too.
    called = [names.listener(one, port) for one in dict.fromkeys((address, *_CALLED_BY.get(address, ())))]
    usual = [listeners[name] for name in (*called, names.VIRTUAL_INBOUND) if name in listeners]
    added = [one for name, one in listeners.items() if not _USUAL_NAME.fullmatch(name)]
    return next((made for one in (*usual, *added) if _stands_at(made := world.listener(one), (address,), port)), None)


def _quic_at(world: World, listeners: Mapping[str, Resource], address: str, port: int) -> Listener | None:
    called = (names.quic_listener(one, port) for one in (address, *_CALLED_BY.get(address, ())))
    found = (world.listener(listeners[name]) for name in called if name in listeners)
    return next((one for one in found if _stands_at(one, (address,), port, udp=True)), None)


def doubts(listener: Listener) -> Iterator[str]:
    """What a listener asks of whatever is before it, of which nothing is known."""
    if any(one.name == PROXY_PROTOCOL for one in listener.listener_filters):
        yield f"whether what connects to {listener.name} speaks the PROXY protocol, without which it is closed"


def inspected(listener: Listener, connection: Connection) -> Seen:
    """What the listener's filters find out. Raises Undecided for a filter that is not modelled."""
    for one in listener.listener_filters:
        if one.name not in _KNOWN_FILTERS:
            raise Undecided(f"listener filter {one.name} of {listener.name} is not modelled")
    seen = Seen(connection.address, connection.port, connection.source)
    if connection.tls:
        if not connection.quic and not _looks(listener, TLS_INSPECTOR, connection.port):
            return seen
        return Seen(
            connection.address, connection.port, connection.source, "tls", connection.sni.lower(), connection.alpn
        )
    if connection.inside == "tcp" or not _looks(listener, HTTP_INSPECTOR, connection.port):
        return seen
    detected = "h2c" if connection.inside == "h2" else "http/1.1"
    return Seen(connection.address, connection.port, connection.source, alpn=(detected,))


def waits(listener: Listener, port: int) -> bool:
    """Whether the listener looks at the client's first bytes before it chooses a chain."""
    return any(_looks(listener, name, port) for name in (TLS_INSPECTOR, HTTP_INSPECTOR))


def _looks(listener: Listener, name: str, port: int) -> bool:
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


class Chosen(NamedTuple):
    """A filter chain; `at` is its position, -1 for the default chain, -2 for none. `lost` is what it came down to."""

    chain: FilterChain | None
    at: int
    lost: str = ""


def choose(listener: Listener, seen: Seen) -> Chosen:
    """The filter chain of a connection; where there is none, at which criterion the last ones fell."""
    left = list(enumerate(listener.filter_chains))
    lost = "the listener has no filter chains"
    for name, step in _steps(seen):
        ranked = [(step(one.filter_chain_match), at, one) for at, one in left]
        best = max((rank for rank, _, _ in ranked if rank is not None), default=None)
        if best is None and left:
            lost = name
        left = [(at, one) for rank, at, one in ranked if rank is not None and rank == best]
    if left:
        return Chosen(left[0][1], left[0][0])
    if listener.HasField("default_filter_chain"):
        return Chosen(listener.default_filter_chain, -1, lost)
    return Chosen(None, -2, lost)


def matching_chains(listener: Listener, seen: Seen) -> list[FilterChain]:
    """Every chain that is left after each criterion; Envoy takes no listener in which that can be several."""
    left = list(listener.filter_chains)
    for _, step in _steps(seen):
        ranked = [(step(one.filter_chain_match), one) for one in left]
        best = max((rank for rank, _ in ranked if rank is not None), default=None)
        left = [one for rank, one in ranked if rank is not None and rank == best]
    return left


def _steps(seen: Seen) -> Iterator[tuple[str, Callable[[FilterChainMatch], Rank]]]:
    yield (
        "this port",
        lambda one: _exact([one.destination_port.value] if one.HasField("destination_port") else [], seen.port),
    )
    yield "this address", lambda one: _prefix(one.prefix_ranges, seen.address)
    yield "this server name (SNI)", lambda one: _server_name(one.server_names, seen.sni)
    yield (
        "clients that speak TLS" if seen.transport == "tls" else "clients that speak no TLS",
        lambda one: _exact([one.transport_protocol] if one.transport_protocol else [], seen.transport),
    )
    yield (
        "the application protocols that the client offers",
        lambda one: _protocols(one.application_protocols, seen.alpn),
    )
    yield "the client's own address", lambda one: _prefix(one.direct_source_prefix_ranges, seen.source)
    yield "this sort of source", lambda one: _source_type(one, seen)
    yield "the client's address", lambda one: _prefix(one.source_prefix_ranges, seen.source)
    yield "the client's port", lambda one: None if one.source_ports else 0


def _exact(asked: Sequence[object], value: object) -> Rank:
    """How well a criterion fits: 0 if nothing is asked, None if something else is."""
    if not asked:
        return 0
    return 1 if value in asked else None


def _prefix(asked: Sequence[CidrRange], address: str) -> Rank:
    if not asked:
        return 0
    if not address:
        raise Undecided("the client's address decides which filter chain is chosen, and is not given")
    at = ip_address(address)
    nets = [ip_network(f"{one.address_prefix}/{one.prefix_len.value}", strict=False) for one in asked]
    return max((1 + net.prefixlen for net in nets if at.version == net.version and at in net), default=None)


def _server_name(asked: Iterable[str], sni: str) -> Rank:
    wanted = list(asked)
    if not wanted:
        return 0
    if sni in wanted:
        return _EXACT_NAME
    return max((len(one) for one in wanted if one.startswith("*.") and sni.endswith(one[1:])), default=None)


def _protocols(asked: Iterable[str], offered: Sequence[str]) -> Rank:
    """The client's first protocol that some chain asks for decides."""
    wanted = set(asked)
    if not wanted:
        return 0
    return next((len(offered) - at for at, one in enumerate(offered) if one in wanted), None)


def _source_type(asked: FilterChainMatch, seen: Seen) -> Rank:
    kind = asked.source_type
    if kind == FilterChainMatch.ANY:
        return 0
    if not seen.source:
        raise Undecided("whether the client is on the same host decides, and its address is not given")
    local = ip_address(seen.source).is_loopback or seen.source == seen.address
    return 1 if local == (kind == FilterChainMatch.SAME_IP_OR_LOOPBACK) else None


Handshake = Literal["", "plaintext", "no certificate", "untrusted", "refused"]


def handshake(chain: FilterChain, connection: Connection) -> tuple[Handshake, DownstreamTlsContext | None]:
    """Why the chain's TLS refuses a connection ("" if it does not), and that TLS (None: the chain has none)."""
    if not chain.HasField("transport_socket"):
        return "", None
    packed = chain.transport_socket.typed_config
    if packed.Is(QuicDownstreamTransport.DESCRIPTOR):
        context = unpacked(packed, QuicDownstreamTransport).downstream_tls_context
    elif packed.Is(DownstreamTlsContext.DESCRIPTOR):
        context = unpacked(packed, DownstreamTlsContext)
    else:
        raise Undecided(f"transport socket {chain.transport_socket.name} is not modelled")
    if not connection.tls:
        return "plaintext", context
    if context.require_client_certificate.value:
        if not connection.certificate:
            return "no certificate", context
        if is_mesh(context) and not connection.trusted:
            return "untrusted", context
    if connection.certificate and connection.refused and _judges(context):
        return "refused", context
    return "", context


def _judges(context: DownstreamTlsContext) -> bool:
    """Whether a client is refused for a certificate that cannot be verified, asked for or not."""
    common = context.common_tls_context
    wanted = common.combined_validation_context.default_validation_context
    if wanted.trust_chain_verification == wanted.ACCEPT_UNTRUSTED:
        return False
    return common.HasField("combined_validation_context") or common.HasField("validation_context_sds_secret_config")


def is_mesh(context: DownstreamTlsContext) -> bool:
    """Whether TLS is the mesh's own: the workload's certificate is shown, and the mesh's roots judge the client's."""
    secrets = [one.name for one in context.common_tls_context.tls_certificate_sds_secret_configs]
    return context.require_client_certificate.value and secrets[:1] == [names.IDENTITY_SECRET]
