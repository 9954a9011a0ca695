"""The inbound listener of a sidecar: what reaches the application, and over what.

Filter chains are chosen by port, then by whether the client speaks TLS and which application protocols it offers: mesh
clients offer names that begin with `istio`, so PERMISSIVE tells mesh mTLS from plain text and from the application's
own TLS. The combinations and their order are Istio's (`pilot/pkg/networking/core`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.config.listener.v3.listener_components_pb2 import FilterChain

from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.hosts import settings
from fairlead.compiler.inboundports import InboundPort, inbound_ports
from fairlead.compiler.loggers import counts_grpc, listener_loggers, loggers, trace
from fairlead.compiler.mtls import Mode, workload_mtls
from fairlead.compiler.own import settings_of
from fairlead.compiler.statnames import inbound_stat_name
from fairlead.envoy import names
from fairlead.envoy.hcm import Http, InboundRoute, connection_manager, inbound_stat_prefix
from fairlead.envoy.listener import PLAINTEXT_HTTP, Match, Shape, Socket, build, chain, inspectors, match
from fairlead.envoy.plaintext import plaintext_access_log
from fairlead.envoy.resource import Resource
from fairlead.envoy.tcpproxy import BLACK_HOLE, forwarding, tcp_proxy, to_cluster
from fairlead.envoy.tls import ALPN_HTTP, ALPN_TCP, gateway_server, mesh_server
from fairlead.inc import Reader, rule
from fairlead.ir.filters import FilterScope
from fairlead.ir.gateway import ServerTls
from fairlead.ir.kind import Stage
from fairlead.ir.protocol import Protocol
from fairlead.ir.sidecar import IngressListener
from fairlead.ir.view import View
from fairlead.model.diagnostic import Diagnostic, Severity

CATCH_ALL_HTTP = "virtualInbound-catchall-http"
BLACK_HOLE_CHAIN = "virtualInbound-blackhole"

_MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
_MESH_TCP = ("istio-peer-exchange", "istio")
_MESH_ANY = ("istio", "istio-peer-exchange", *_MESH_HTTP)


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

_WAYS: dict[tuple[str, Mode], tuple[_Way, ...]] = {
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


class _Target(NamedTuple):
    """Where a port's connections go; `port` None is every port that nothing else serves."""

    cluster: str
    port: InboundPort | None
    number: int
    """The port to match; 0: any."""

    address: str = "0.0.0.0"  # noqa: S104 - Istio's name for a port of any address

    def name(self, *, http: bool) -> str:
        """The name of a filter chain."""
        if self.port is None:
            return CATCH_ALL_HTTP if http else names.VIRTUAL_INBOUND
        return names.listener(self.address, self.number)


class _Made(NamedTuple):
    matching: Match
    chain: FilterChain


@rule
def inbound_listener(r: Reader, view: View) -> Resource | None:
    """`virtualInbound`, or None where nothing is captured."""
    mode = view.capture.mode
    if view.type != "sidecar" or mode == "none":
        return None
    redirected = mode == "redirect"
    if not redirected and not view.addresses:
        return None
    ports = tuple(one for one in inbound_ports(r, view) if not is_own(view, one))
    mtls = workload_mtls(r, (view.namespace, view.labels))
    made = [_black_hole(r, view)]
    if redirected:
        served = {port.port for port in ports}
        special = [number for number, _ in mtls.ports if number not in served]
        for number in (0, *special):
            target = _Target(names.INBOUND_PASSTHROUGH_CLUSTER, None, number)
            made.extend(_chains(r, view, target, "auto", mtls.on(number)))
    for port in ports:
        made.extend(_chains(r, view, _target(view, port), _protocol(port.protocol), mtls.on(port.port)))
    mesh = settings(r)
    return build(
        _shape(view, ports, mesh.protocol_detection_timeout),
        [one.chain for one in made],
        inspectors=inspectors(one.matching for one in made),
        access_logs=listener_loggers(r, _scope(view, names.INBOUND_PORT, tcp=True)),
    )


@rule
def ingress_listener(r: Reader, key: tuple[View, InboundPort]) -> Resource:
    """A listener that a Sidecar has bound at an address of its own."""
    view, port = key
    mode = workload_mtls(r, (view.namespace, view.labels)).on(port.port)
    made = list(_chains(r, view, _target(view, port), _protocol(port.protocol), mode))
    mesh = settings(r)
    address = ingress_address(view, port)
    return build(
        Shape(
            names.listener(address, port.port),
            Socket(address, port.port),
            "inbound",
            detection_timeout=mesh.protocol_detection_timeout,
        ),
        [one.chain for one in made],
        inspectors=inspectors(one.matching for one in made),
        access_logs=listener_loggers(r, _scope(view, port.port, tcp=True)),
    )


def own_ingress(r: Reader, view: View) -> tuple[InboundPort, ...]:
    """The ports that a Sidecar has bound at addresses of their own."""
    if view.type != "sidecar" or view.capture.mode == "none":
        return ()
    return tuple(one for one in inbound_ports(r, view) if is_own(view, one))


def is_own(view: View, port: InboundPort) -> bool:
    """Whether a port has a listener of its own. Without redirection all are bound at the workload's address."""
    said = port.ingress
    if said is None or said.captured or not view.addresses:
        return False
    return view.capture.mode == "redirect" or said.bind not in ("", view.addresses[0])


def ingress_address(view: View, port: InboundPort) -> str:
    """Where a Sidecar's ingress listener is: the workload's address unless it says so."""
    bind = port.ingress.bind if port.ingress is not None else ""
    return bind or (view.addresses[0] if view.addresses else "0.0.0.0")  # noqa: S104 - a proxy without an address


def _target(view: View, port: InboundPort) -> _Target:
    made = _Target(names.inbound_cluster(port.port), port, port.port)
    return made if port.ingress is None else made._replace(address=ingress_address(view, port))


def _shape(view: View, ports: tuple[InboundPort, ...], timeout: float) -> Shape:
    """Redirected connections arrive on one port; without redirection every port is bound at the workload's address."""
    if view.capture.mode == "redirect":
        everywhere = Socket("0.0.0.0", names.INBOUND_PORT)  # noqa: S104 - whatever address the host redirects
        return Shape(
            names.VIRTUAL_INBOUND,
            everywhere,
            "inbound",
            original_dst=True,
            transparent=view.capture.transparent,
            detection_timeout=timeout,
        )
    address = view.addresses[0]
    return Shape(
        names.VIRTUAL_INBOUND,
        Socket(address, names.INBOUND_PORT),
        "inbound",
        more_sockets=tuple(Socket(address, one.port) for one in ports if one.port != names.INBOUND_PORT),
        detection_timeout=timeout,
    )


def _protocol(protocol: Protocol) -> str:
    if protocol.is_http:
        return "http"
    return "auto" if protocol is Protocol.AUTO else "tcp"


def _black_hole(r: Reader, view: View) -> _Made:
    """Connections to the proxy's own port would come back to it for ever."""
    matching = match(port=names.INBOUND_PORT)
    logs = loggers(r, _scope(view, names.INBOUND_PORT, tcp=True))
    return _Made(matching, chain(matching, [tcp_proxy(BLACK_HOLE, logs)], BLACK_HOLE_CHAIN))


def _chains(r: Reader, view: View, target: _Target, protocol: str, mode: Mode) -> Iterator[_Made]:
    said = target.port.ingress if target.port is not None else None
    if said is not None and said.tls is not None and mode == "DISABLE":
        yield _terminated(r, view, target, said.tls)
        return
    if said is not None and said.tls is not None:
        r.report(_not_terminated(said, mode))
    for way in _WAYS[protocol, mode]:
        matching = match(port=target.number, transport=way.transport, alpn=way.alpn)
        tls = mesh_server(ALPN_HTTP if way.http else ALPN_TCP, settings(r).mesh_tls) if way.mtls else None
        counted = () if way.mtls else (plaintext_access_log(tcp=not way.http),)
        terminal = _http(r, view, target, counted) if way.http else _tcp(r, view, target, counted)
        yield _Made(matching, chain(matching, terminal, target.name(http=way.http), tls))


def _terminated(r: Reader, view: View, target: _Target, tls: ServerTls) -> _Made:
    """TLS of the application's own that the proxy terminates for it."""
    http = target.port is not None and (target.port.protocol.is_http or target.port.protocol is Protocol.HTTPS)
    matching = match(port=target.number, transport="tls")
    terminal = _http(r, view, target) if http else _tcp(r, view, target)
    context = gateway_server(tls, tcp=not http, limits=settings(r).other_tls)
    return _Made(matching, chain(matching, terminal, target.name(http=http), context))


def _not_terminated(said: IngressListener, mode: Mode) -> Diagnostic:
    return Diagnostic(
        "FL2001",
        Severity.WARNING,
        f"the TLS settings of port {said.port} are not used: its mesh mTLS mode is {mode}",
        said.origin,
        f"Set portLevelMtls {said.port} to DISABLE in a PeerAuthentication, or remove tls.",
    )


def _http(r: Reader, view: View, target: _Target, counted: tuple[AccessLog, ...] = ()) -> list[NetworkFilter]:
    port = target.port
    scope = _scope(view, target.number, tcp=False)
    called = port.service_port if port is not None else 0
    hostname = port.hostname if port is not None else ""
    http = Http(
        role="inbound",
        stat_prefix=(names.stat_name(target.cluster) if port is None else inbound_stat_prefix(target.name(http=True))),
        routes=InboundRoute(target.cluster, called, f"{hostname}:{called}/*"),
        filters=filters(r, FilterKey(Stage.HTTP_FILTERS, scope)),
        counts_grpc=counts_grpc(r, scope),
        grpc_web=port is not None and port.protocol is Protocol.GRPC_WEB,
        http2=port is not None and port.protocol.is_http2,
        trace=trace(r, scope),
    )
    return [connection_manager(http, settings_of(r, scope.own), (*loggers(r, scope), *counted))]


def _tcp(r: Reader, view: View, target: _Target, counted: tuple[AccessLog, ...] = ()) -> list[NetworkFilter]:
    scope = _scope(view, target.number, tcp=True)
    fragments = filters(r, FilterKey(Stage.NETWORK_FILTERS, scope))
    name = inbound_stat_name(r, view.namespace, target.port) if target.port is not None else ""
    return forwarding(to_cluster(target.cluster, name), fragments, (*loggers(r, scope), *counted))


def _scope(view: View, port: int, *, tcp: bool) -> FilterScope:
    return FilterScope("inbound", view.namespace, view.labels, port, tcp, own=view.own)


__all__ = ["InboundPort", "inbound_listener", "inbound_ports"]
