"""Listeners: addresses, filter chains and what must look at the first bytes to choose among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_network
from typing import Literal

import msgspec
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.core.v3.address_pb2 import Address, CidrRange, SocketAddress
from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.config.listener.v3.listener_components_pb2 import (
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.original_src.v3.original_src_pb2 import OriginalSrc
from envoy.extensions.filters.listener.proxy_protocol.v3.proxy_protocol_pb2 import ProxyProtocol
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from envoy.type.v3.range_pb2 import Int32Range
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from fairlead.envoy import resource
from fairlead.envoy.endpoint import socket_address
from fairlead.envoy.pack import pack, seconds
from fairlead.envoy.resource import Piece, Resource
from fairlead.envoy.tls import quic_socket, transport_socket

PLAINTEXT_HTTP = ("http/1.1", "h2c")
"""What the HTTP inspector calls plain-text HTTP."""

PASSTHROUGH_CHAIN = "PassthroughFilterChain"
_PREDICATES = ListenerFilterChainMatchPredicate


class Match(msgspec.Struct, frozen=True):
    """When a filter chain is chosen; empty fields match everything.

    `sni` and `subnets` are sets in sorted order without wildcards that match everything; see `match`.
    """

    port: int = 0
    subnets: tuple[str, ...] = ()
    sni: tuple[str, ...] = ()
    transport: Literal["", "raw_buffer", "tls"] = ""
    alpn: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether every connection matches."""
        return self == _EVERYTHING


_EVERYTHING = Match()


def match(
    *,
    port: int = 0,
    subnets: Iterable[str] = (),
    sni: Iterable[str] = (),
    transport: Literal["", "raw_buffer", "tls"] = "",
    alpn: Sequence[str] = (),
) -> Match:
    """A match in its normal form, so that two that Envoy would call duplicates are equal."""
    named = {one.lower() for one in sni}
    nets = {str(ip_network(one, strict=False)) for one in subnets}
    everywhere = any(ip_network(one).prefixlen == 0 for one in nets)
    return Match(
        port,
        () if everywhere else tuple(sorted(nets)),
        () if "*" in named else tuple(sorted(named)),
        transport,
        tuple(alpn),
    )


def chain(
    matching: Match,
    filters: Iterable[NetworkFilter],
    name: str = "",
    tls: DownstreamTlsContext | None = None,
) -> FilterChain:
    """A filter chain; a match of everything is left out, as Envoy's default chain has none."""
    made = FilterChain(name=name, filters=filters)
    if not matching.is_everything:
        made.filter_chain_match.CopyFrom(_chain_match(matching))
    if tls is not None:
        made.transport_socket.CopyFrom(transport_socket(tls))
    return made


def quic_chain(matching: Match, filters: Iterable[NetworkFilter], tls: DownstreamTlsContext) -> FilterChain:
    """A filter chain of a QUIC listener; its TLS is part of the transport."""
    made = chain(matching, filters)
    made.transport_socket.CopyFrom(quic_socket(tls))
    return made


def narrowed(made: FilterChain, matching: Match) -> FilterChain:
    """The chain for another match."""
    found = FilterChain()
    found.CopyFrom(made)
    found.filter_chain_match.CopyFrom(_chain_match(matching))
    return found


def _chain_match(matching: Match) -> FilterChainMatch:
    made = FilterChainMatch(
        server_names=matching.sni,
        transport_protocol=matching.transport,
        application_protocols=matching.alpn,
    )
    if matching.port:
        made.destination_port.value = matching.port
    for one in matching.subnets:
        net = ip_network(one)
        made.prefix_ranges.append(
            CidrRange(address_prefix=str(net.network_address), prefix_len=UInt32Value(value=net.prefixlen))
        )
    return made


class Socket(msgspec.Struct, frozen=True):
    """Where a listener is: address, port, and the network namespace (a path) in which it is bound.

    The address may be a Unix socket (`unix:///path`); it has port 0 and no network namespace.
    """

    address: str
    port: int
    netns: str = ""


_PROXY_MARK = 1337
"""The mark of Istio's capture rules for packets of the proxy's own connections to the application."""


class Shape(msgspec.Struct, frozen=True):
    """Everything about a listener but its filter chains.

    `detection_timeout` is how long inspectors wait for the first bytes (seconds, 0: for ever); with
    `continue_on_timeout` the connection then goes on undetected (a server that speaks first needs this).
    """

    name: str
    socket: Socket
    direction: Literal["inbound", "outbound"]
    more_sockets: tuple[Socket, ...] = ()
    bound: bool = True
    hands_off: bool = False
    """Whether connections go on to the listener of their original destination."""
    original_dst: bool = False
    transparent: bool = False
    """Whether connections come by TPROXY, and go on with the caller's own address."""
    proxy_protocol: bool = False
    """Whether connections begin with the PROXY protocol."""
    quic: bool = False
    """Whether it is a UDP socket, and all chains are `quic_chain`s."""
    exact_balance: bool = False
    """Whether Envoy's workers take connections in turn."""
    detection_timeout: float = 0
    continue_on_timeout: bool = True
    buffer: int | None = None
    """Bytes of a connection that are kept at most; None: what Envoy keeps."""


def build(
    shape: Shape,
    chains: Sequence[FilterChain],
    *,
    default: FilterChain | None = None,
    inspectors: Sequence[ListenerFilter] = (),
    access_logs: Iterable[AccessLog] = (),
) -> Resource:
    """The listener as a resource."""
    made = _listener(shape, chains, inspectors, access_logs)
    if default is not None:
        made.default_filter_chain.CopyFrom(default)
    return Resource.of(resource.LISTENER, shape.name, made.SerializeToString(deterministic=True))


def assemble(
    shape: Shape, chains: Iterable[Piece], matches: Sequence[Match], access_logs: Iterable[AccessLog]
) -> Resource:
    """The listener of chains that are serialised and framed (field 3), in pieces which it shares with others.

    Its inspectors are those that `matches` need. Its bytes are those that `build` makes.
    """
    logs = tuple([one.SerializeToString(deterministic=True) for one in access_logs])
    first, last = _around(shape, tuple(matches), logs)
    return Resource.cut(resource.LISTENER, shape.name, (first, *chains, last))


@lru_cache(512)
def _around(shape: Shape, matches: tuple[Match, ...], access_logs: tuple[bytes, ...]) -> tuple[Piece, Piece]:
    """What stands before and after the chains of a listener: fields are serialised in the order of their numbers."""
    made = _listener(shape, (), inspectors(matches), map(AccessLog.FromString, access_logs))
    whole = made.SerializeToString(deterministic=True)
    first = Listener(name=made.name, address=made.address).SerializeToString(deterministic=True)
    return Piece.shared(first), Piece.shared(whole[len(first) :])


def _listener(
    shape: Shape, chains: Sequence[FilterChain], inspectors: Sequence[ListenerFilter], access_logs: Iterable[AccessLog]
) -> Listener:
    made = Listener(
        name=shape.name,
        address=_address(shape.socket),
        additional_addresses=[AdditionalAddress(address=_address(one)) for one in shape.more_sockets],
        filter_chains=chains,
        traffic_direction=TrafficDirection.INBOUND if shape.direction == "inbound" else TrafficDirection.OUTBOUND,
        listener_filters_timeout=seconds(shape.detection_timeout),
        continue_on_listener_filters_timeout=shape.continue_on_timeout,
        access_log=access_logs,
    )
    if shape.buffer is not None:
        made.per_connection_buffer_limit_bytes.value = shape.buffer
    if not shape.bound:
        made.bind_to_port.CopyFrom(BoolValue(value=False))
    if shape.hands_off:
        made.use_original_dst.CopyFrom(BoolValue(value=True))
    if shape.exact_balance:
        made.connection_balance_config.exact_balance.SetInParent()
    if shape.original_dst:
        made.listener_filters.append(_listener_filter("envoy.filters.listener.original_dst", OriginalDst()))
    if shape.transparent:
        made.transparent.CopyFrom(BoolValue(value=True))
        source = OriginalSrc(mark=_PROXY_MARK)
        made.listener_filters.append(_listener_filter("envoy.filters.listener.original_src", source))
    if shape.proxy_protocol:
        # First of all: whatever looks at bytes must not see this header.
        made.listener_filters.append(_listener_filter("envoy.filters.listener.proxy_protocol", ProxyProtocol()))
    made.listener_filters.extend(inspectors)
    if shape.quic:
        for one in (made.address, *(more.address for more in made.additional_addresses)):
            one.socket_address.protocol = SocketAddress.UDP
        made.udp_listener_config.quic_options.SetInParent()
    return made


def _address(socket: Socket) -> Address:
    return socket_address(socket.address, socket.port, netns=socket.netns)


def inspectors(matches: Iterable[Match], *, always_tls: bool = False) -> list[ListenerFilter]:
    """The inspectors that these chains need, switched off on ports where no chain needs them.

    Waiting for first bytes is what breaks protocols in which the server speaks first, so a port whose protocol is
    declared must not be inspected. `always_tls` looks for TLS wherever it looks for HTTP: outbound chains that are
    chosen by application protocol would otherwise never see TLS.
    """
    tls: dict[int, bool] = {}
    http: dict[int, bool] = {}
    for one in matches:
        wants_http = any(name in PLAINTEXT_HTTP for name in one.alpn)
        wants_tls = one.transport == "tls" or bool(one.sni) or (always_tls and wants_http)
        tls[one.port] = tls.get(one.port, False) or wants_tls
        http[one.port] = http.get(one.port, False) or wants_http
    made: list[ListenerFilter] = []
    if any(tls.values()):
        made.append(_inspector("envoy.filters.listener.tls_inspector", TlsInspector(), tls))
    if any(http.values()):
        # After the TLS inspector: bytes that it calls TLS are not taken for HTTP.
        made.append(_inspector("envoy.filters.listener.http_inspector", HttpInspector(), http))
    return made


def _inspector(name: str, config: Message, wanted: dict[int, bool]) -> ListenerFilter:
    made = _listener_filter(name, config)
    everywhere = wanted.get(0, False)
    odd = sorted(port for port, wants in wanted.items() if port and wants != everywhere)
    if odd:
        predicate = _on_ports(odd)
        made.filter_disabled.CopyFrom(predicate if everywhere else _PREDICATES(not_match=predicate))
    return made


def _on_ports(ports: Sequence[int]) -> ListenerFilterChainMatchPredicate:
    ranges = [_PREDICATES(destination_port_range=Int32Range(start=port, end=port + 1)) for port in ports]
    if len(ranges) == 1:
        return ranges[0]
    return _PREDICATES(or_match=_PREDICATES.MatchSet(rules=ranges))


def _listener_filter(name: str, config: Message) -> ListenerFilter:
    return ListenerFilter(name=name, typed_config=pack(config))
