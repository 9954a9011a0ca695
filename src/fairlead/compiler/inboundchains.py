"""Filter chains of inbound listeners: ways in, by what the first bytes look like.

Chains are chosen by port, then by whether the client speaks TLS and which application protocols it offers: mesh clients
offer names that begin with `istio`, so PERMISSIVE tells mesh mTLS from plain text and from the application's own TLS.
The combinations and their order are Istio's (`pilot/pkg/networking/core`).

All workloads of a namespace of which filters and telemetry know no difference have these chains in common, but for the
routes of their own ports: a thousand services are a thousand routes, and a few chains.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter

from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.hosts import settings
from fairlead.compiler.loggers import counts_grpc, loggers, trace
from fairlead.compiler.mtls import Mode
from fairlead.compiler.own import settings_of
from fairlead.envoy import names
from fairlead.envoy.chainpieces import HttpChain, http_chain, routes, whole, with_routes
from fairlead.envoy.hcm import Http, InboundRoute
from fairlead.envoy.listener import PLAINTEXT_HTTP, Match, chain, match
from fairlead.envoy.plaintext import plaintext_access_log
from fairlead.envoy.resource import Piece
from fairlead.envoy.tcpproxy import BLACK_HOLE, forwarding, tcp_proxy, to_cluster
from fairlead.envoy.tls import ALPN_HTTP, ALPN_TCP, gateway_server, mesh_server
from fairlead.inc import Reader, rule
from fairlead.ir.filters import FilterScope, Pairs
from fairlead.ir.gateway import ServerTls
from fairlead.ir.kind import Stage
from fairlead.ir.proxyown import OwnSettings
from fairlead.model.ref import NamespacedName

CATCH_ALL_HTTP = "virtualInbound-catchall-http"
BLACK_HOLE_CHAIN = "virtualInbound-blackhole"

_MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
_MESH_TCP = ("istio-peer-exchange", "istio")
_MESH_ANY = ("istio", "istio-peer-exchange", *_MESH_HTTP)
Spoken = Literal["http", "tcp", "auto"]


class _Way(NamedTuple):
    """One way in: how the first bytes look, whether Envoy ends mesh mTLS, and what it parses inside."""

    http: bool
    mtls: bool
    transport: Literal["raw_buffer", "tls"]
    alpn: tuple[str, ...] = ()


_PLAIN_HTTP = _Way(True, False, "raw_buffer")
_PLAIN_TCP = _Way(False, False, "raw_buffer")
_DETECTED_HTTP = _Way(True, False, "raw_buffer", PLAINTEXT_HTTP)
_OWN_TLS = _Way(False, False, "tls")

_WAYS: dict[tuple[Spoken, Mode], tuple[_Way, ...]] = {
    ("http", "STRICT"): (_Way(True, True, "tls"),),
    ("http", "PERMISSIVE"): (_Way(True, True, "tls", _MESH_ANY), _PLAIN_HTTP),
    ("http", "DISABLE"): (_PLAIN_HTTP,),
    ("tcp", "STRICT"): (_Way(False, True, "tls"),),
    ("tcp", "PERMISSIVE"): (_Way(False, True, "tls", _MESH_ANY), _PLAIN_TCP, _OWN_TLS),
    ("tcp", "DISABLE"): (_PLAIN_TCP,),
    ("auto", "STRICT"): (_Way(True, True, "tls", _MESH_HTTP), _Way(False, True, "tls")),
    ("auto", "PERMISSIVE"): (
        _Way(True, True, "tls", _MESH_HTTP),
        _DETECTED_HTTP,
        _Way(False, True, "tls", _MESH_TCP),
        _PLAIN_TCP,
        _OWN_TLS,
    ),
    ("auto", "DISABLE"): (_DETECTED_HTTP, _PLAIN_TCP),
}


class Inside(NamedTuple):
    """Workloads of a namespace that are alike for filters and telemetry; `labels` are those at which filters look.

    `own` is what they say themselves of their proxies.
    """

    namespace: str
    labels: Pairs
    telemetry: tuple[NamespacedName, ...] = ()
    own: OwnSettings | None = None

    def scope(self, port: int, *, tcp: bool) -> FilterScope:
        """The chain of a port."""
        return FilterScope("inbound", self.namespace, self.labels, port, tcp, self.telemetry, self.own)


class WaysKey(NamedTuple):
    """The ways to a port of such workloads.

    `port` is the port to match (0: any). `names` are those of the chains that speak HTTP and of the others;
    `stat_name` is the cluster's name in statistics where that is another one. `tls` is the application's own TLS, which
    the proxy ends for it; then there is one way.
    """

    inside: Inside
    port: int
    cluster: str
    spoken: Spoken
    mode: Mode
    names: tuple[str, str]
    stat_prefix: str
    stat_name: str = ""
    http2: bool = False
    grpc_web: bool = False
    tls: ServerTls | None = None


class Chained(NamedTuple):
    """A chain as a field of its listener, and when it is chosen."""

    matching: Match
    pieces: tuple[Piece, ...]


@rule
def ways(r: Reader, key: WaysKey) -> tuple[tuple[Match, HttpChain | tuple[Piece, ...]], ...]:
    """The chains of a port in Istio's order; those that speak HTTP without their routes."""
    if key.tls is not None:
        return (_terminated(r, key, key.tls),)
    found: list[tuple[Match, HttpChain | tuple[Piece, ...]]] = []
    for way in _WAYS[key.spoken, key.mode]:
        matching = match(port=key.port, transport=way.transport, alpn=way.alpn)
        tls = mesh_server(ALPN_HTTP if way.http else ALPN_TCP, settings(r).mesh_tls) if way.mtls else None
        counted = () if way.mtls else (plaintext_access_log(tcp=not way.http),)
        if way.http:
            http, logs = _http(r, key, counted)
            found.append(
                (matching, http_chain(matching, key.names[0], tls, http, settings_of(r, key.inside.own), logs))
            )
        else:
            found.append((matching, whole(chain(matching, _tcp(r, key, counted), key.names[1], tls))))
    return tuple(found)


@rule
def passing(r: Reader, key: tuple[Inside, int, Mode]) -> tuple[Chained, ...]:
    """The chains of a port that nothing serves (0: of all those): what comes goes on to where it was sent."""
    inside, port, mode = key
    cluster = names.INBOUND_PASSTHROUGH_CLUSTER
    called = (CATCH_ALL_HTTP, names.VIRTUAL_INBOUND)
    wanted = WaysKey(inside, port, cluster, "auto", mode, called, names.stat_name(cluster))
    return chained(r, wanted, InboundRoute(cluster, 0, ":0/*", settings(r).inbound_retry))


def chained(r: Reader, key: WaysKey, route: InboundRoute) -> tuple[Chained, ...]:
    """The chains of a port with its routes."""
    framed = b""
    found: list[Chained] = []
    for matching, made in ways(r, key):
        if isinstance(made, HttpChain):
            framed = framed or routes(route)
            found.append(Chained(matching, with_routes(made, framed)))
        else:
            found.append(Chained(matching, made))
    return tuple(found)


@rule
def black_hole(r: Reader, key: tuple[Inside, int]) -> Chained:
    """Connections to the proxy's own port would come back to it for ever."""
    inside, port = key
    matching = match(port=port)
    logs = loggers(r, inside.scope(port, tcp=True))
    return Chained(matching, whole(chain(matching, [tcp_proxy(BLACK_HOLE, logs)], BLACK_HOLE_CHAIN)))


def _terminated(r: Reader, key: WaysKey, tls: ServerTls) -> tuple[Match, HttpChain | tuple[Piece, ...]]:
    """TLS of the application's own that the proxy terminates for it."""
    matching = match(port=key.port, transport="tls")
    speaks = key.spoken == "http"
    context = gateway_server(tls, tcp=not speaks, limits=settings(r).other_tls)
    if not speaks:
        return matching, whole(chain(matching, _tcp(r, key, ()), key.names[1], context))
    http, logs = _http(r, key, ())
    return matching, http_chain(matching, key.names[0], context, http, settings_of(r, key.inside.own), logs)


def _http(r: Reader, key: WaysKey, counted: tuple[AccessLog, ...]) -> tuple[Http, tuple[AccessLog, ...]]:
    scope = key.inside.scope(key.port, tcp=False)
    http = Http(
        role="inbound",
        stat_prefix=key.stat_prefix,
        routes="",
        filters=filters(r, FilterKey(Stage.HTTP_FILTERS, scope)),
        counts_grpc=counts_grpc(r, scope),
        grpc_web=key.grpc_web,
        http2=key.http2,
        trace=trace(r, scope),
    )
    return http, (*loggers(r, scope), *counted)


def _tcp(r: Reader, key: WaysKey, counted: tuple[AccessLog, ...]) -> list[NetworkFilter]:
    scope = key.inside.scope(key.port, tcp=True)
    fragments = filters(r, FilterKey(Stage.NETWORK_FILTERS, scope))
    idle = settings_of(r, key.inside.own).node.idle_timeout
    return forwarding(to_cluster(key.cluster, key.stat_name), fragments, (*loggers(r, scope), *counted), idle)
