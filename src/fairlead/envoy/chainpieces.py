"""Filter chains in serialised pieces: what many listeners have in common is serialised once, and kept once.

A chain that ends in an HTTP connection manager is the same for all workloads alike but for the routes in its middle.
Fields are serialised in the order of their numbers, so bytes put together here are those of the message as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from google.protobuf.any_pb2 import Any

from fairlead.envoy.hcm import CONNECTION_MANAGER, Http, InboundRoute, around_routes, inbound_routes
from fairlead.envoy.listener import Match, chain
from fairlead.envoy.pack import framed, opened
from fairlead.envoy.resource import Piece
from fairlead.ir.mesh import Mesh

_CHAINS, _FILTERS, _CONFIG, _VALUE, _ROUTES = 3, 3, 4, 2, 4
"""Numbers of Listener.filter_chains, FilterChain.filters, Filter.typed_config, Any.value and of a manager's routes."""
_TYPE = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_NAMED = Filter(name=CONNECTION_MANAGER).SerializeToString()
_TYPED = Any(type_url=_TYPE).SerializeToString()


class HttpChain(NamedTuple):
    """A filter chain without its routes: the fields before its filters, those of its manager, and those behind."""

    begin: bytes
    before: bytes
    after: Piece
    end: Piece


def http_chain(
    matching: Match, name: str, tls: DownstreamTlsContext | None, http: Http, mesh: Mesh, logs: Iterable[AccessLog]
) -> HttpChain:
    """A chain that speaks HTTP."""
    empty = chain(matching, (), name, tls)
    begin = FilterChain(filter_chain_match=empty.filter_chain_match).SerializeToString(deterministic=True)
    if not empty.HasField("filter_chain_match"):
        begin = b""
    end = empty.SerializeToString(deterministic=True)[len(begin) :]
    before, after = around_routes(http, mesh, logs)
    return HttpChain(begin, before, Piece.shared(after), Piece.shared(end))


def routes(route: InboundRoute) -> bytes:
    """The routes of a manager, serialised and framed."""
    return framed(_ROUTES, inbound_routes(route).SerializeToString(deterministic=True))


def with_routes(made: HttpChain, framed_routes: bytes) -> tuple[Piece, ...]:
    """The chain as a field of its listener; the first piece is its own."""
    size = len(made.before) + len(framed_routes) + len(made.after.body)
    typed = _TYPED + opened(_VALUE, size)
    size += len(typed)
    named = _NAMED + opened(_CONFIG, size)
    size += len(named)
    filters = opened(_FILTERS, size)
    size += len(made.begin) + len(filters) + len(made.end.body)
    own = b"".join((opened(_CHAINS, size), made.begin, filters, named, typed, made.before, framed_routes))
    return Piece.of(own), made.after, made.end


def whole(made: FilterChain) -> tuple[Piece, ...]:
    """A chain that many listeners have, as a field of each."""
    return (Piece.shared(framed(_CHAINS, made.SerializeToString(deterministic=True))),)
