"""The walk: from the caller through each proxy to the application, or to where it ends."""

from __future__ import annotations

import msgspec
from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions
from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from fairlead.envoy import names
from fairlead.envoy.resource import CLUSTER, LISTENER
from fairlead.model.diagnostic import Origin
from fairlead.simulate import exempt, listening
from fairlead.simulate.arrival import arrive
from fairlead.simulate.client import original_client
from fairlead.simulate.connection import Connection
from fairlead.simulate.exchange import Exchange
from fairlead.simulate.forwarding import Onward, Wanted, missing_secret, onward, tell_dialled
from fairlead.simulate.httpfilters import pass_filters
from fairlead.simulate.matching import Undecided, unpacked
from fairlead.simulate.mesh import Mesh, Proxy
from fairlead.simulate.message import METHODS, Message, normalised
from fairlead.simulate.networkfilters import Bytes, pass_network_filter
from fairlead.simulate.rbac import Peer
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.requesting import route_request
from fairlead.simulate.visit import Closed, Ended, Trail, Visit
from fairlead.simulate.walk import Hop, Setting, Step, Verdict, Walk

_MOST_HOPS = 8
"""A request that has met so many proxies goes round in circles."""
_FAILURES = {
    "reset": ("UC", "upstream_reset_before_response_started{connection_termination}"),
    "tls": ("UF", "upstream_reset_before_response_started{remote_connection_failure|TLS_error}"),
    "refused": ("UF", "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}"),
}
"""How a proxy calls what happens to its connection to an upstream."""


def walk(mesh: Mesh, caller: Caller, request: Request, endpoint: str = "", cluster: str = "") -> Walk:
    """Walk a request through the mesh. Raises NobodyError where the caller, or what it calls, is not there.

    `endpoint` (ADDRESS:PORT) is followed where several could get the request, and `cluster` where the first proxy
    shares requests out among several: such as those that an access log names.
    """
    return _Walker(mesh, request, Trail(endpoint, cluster)).walk(caller)


class _Walker:
    def __init__(self, mesh: Mesh, request: Request, trail: Trail) -> None:
        self._mesh = mesh
        self._request = request
        self._trail = trail
        self._message = None if request.protocol == "tcp" else Message(request)

    def walk(self, caller: Caller) -> Walk:
        arrival = arrive(self._mesh, caller, self._request)
        self._trail.steps.extend(arrival.steps)
        if arrival.undecided:
            self._trail.doubt(arrival.undecided)
        if arrival.nowhere:
            ended = Ended(0, "", "name_not_found", hop="client")
        elif arrival.proxy is None:
            self._trail.steps.append(self._application(arrival.hop, "", "no proxy is before it"))
            ended = Ended(self._success, "", "via_upstream", hop=arrival.hop)
        elif (past := exempt.inbound(self._mesh, arrival.proxy, arrival.connection.port)) is not None:
            told = self._application(arrival.hop, "", past.said, arrival.proxy.shown)
            self._trail.steps.append(self._by(told, past))
            ended = Ended(self._success, "", "via_upstream", hop=arrival.hop)
        else:
            ended = self._serve(arrival.proxy, arrival.hop, arrival.connection)
        return Walk(tuple(self._trail.steps), self._verdict(ended))

    @property
    def _success(self) -> int:
        return 0 if self._message is None else 200

    def _status(self, ended: Ended) -> int:
        """What the client gets: gRPC has its status beside HTTP's, which is 200 also where a proxy refuses."""
        grpc = self._message is not None and self._message.grpc
        return 200 if grpc and ended.status else ended.status

    def _verdict(self, ended: Ended) -> Verdict:
        met = self._trail.met
        return Verdict(
            self._status(ended),
            ended.hop,
            ended.flags,
            ended.details,
            met.get("listener", ""),
            met.get("chain", ""),
            met.get("virtual_host", ""),
            met.get("route", ""),
            met.get("cluster", ""),
            met.get("endpoint", ""),
            tuple(self._trail.undecided),
        )

    def _serve(self, proxy: Proxy, hop: Hop, connection: Connection) -> Ended:
        """Take a connection through one proxy; how it ends."""
        visit = Visit(self._mesh, self._trail, proxy, hop, connection)
        if self._message is not None:
            self._message.entered()
        try:
            if self._trail.hops > _MOST_HOPS:
                visit.say("listener", "", "the request goes round in circles", passed=False)
                raise visit.end(503, "UF", "loop")
            self._enter(visit)
            self._filter(visit)
        except Ended as ended:
            return ended
        except Undecided as reason:
            self._trail.doubt(str(reason))
            visit.say("filter", "", f"undecided: {reason}; the walk ends here", passed=False)
        return visit.end(0, "", "unknown")

    def _enter(self, visit: Visit) -> None:
        """Listener, filter chain, TLS."""
        listener = self._listener(visit)
        connection = visit.connection
        if listener is None:
            where = f"{connection.address}:{connection.port}"
            said, origins = self._closed(visit)
            visit.say("listener", where, said, origins, passed=False)
            raise visit.end(0, "", "connection_refused", "refused")
        visit.listener = listener
        visit.name(listener=listener.name)
        for reason in listening.doubts(listener):
            self._trail.doubt(reason)
        seen = listening.inspected(listener, connection)
        chosen = listening.choose(listener, seen)
        where = Setting(LISTENER, listener.name)
        said = f"takes connections to {connection.address}:{connection.port}"
        patched = self._mesh.origins.patches(visit.proxy.view, LISTENER, listener.name)
        visit.say("listener", listener.name, said, (*self._listener_origins(visit), *patched), setting=where)
        if chosen.chain is None:
            what = "TLS" if seen.transport == "tls" else "plaintext"
            said = f"no filter chain takes this {what} connection: none is for {chosen.lost}"
            origins = self._chain_origins(visit)
            if visit.hop == "gateway":
                found = self._mesh.origins.gateway(visit.proxy.view, listener.name, connection.port)
                origins = self._mesh.origins.each(found, "hosts")
            visit.say("filter chain", listener.name, said, origins, setting=where, passed=False)
            raise visit.end(0, "NR", "filter_chain_not_found", "reset")
        visit.chain = chosen.chain
        visit.name(chain=chosen.chain.name)
        at = f"filterChains[{chosen.at}]" if chosen.at >= 0 else "defaultFilterChain"
        said = _chain_words(seen.transport, seen.alpn, seen.sni)
        said += "; HTTP is parsed" if _parses(visit) else "; bytes are forwarded"
        origins = self._chain_origins(visit)
        visit.say("filter chain", chosen.chain.name or at, said, origins, setting=Setting(LISTENER, listener.name, at))
        self._shake_hands(visit)

    def _listener(self, visit: Visit) -> Listener | None:
        at, listeners, world = visit.connection, visit.catalog[LISTENER], self._mesh.world
        mode = visit.proxy.view.capture.mode
        if visit.hop == "client" and mode != "explicit":
            return listening.outbound_listener(world, listeners, at.address, at.port)
        if visit.hop == "server":
            return listening.inbound_listener(world, listeners, at.address, at.port, redirected=mode == "redirect")
        return listening.bound_listener(world, listeners, at.address, at.port, quic=at.quic)

    def _closed(self, visit: Visit) -> tuple[str, tuple[Origin, ...]]:
        """Why a proxy does not listen where it is called."""
        if visit.hop != "gateway":
            what = "a port of its workload" if visit.hop == "server" else "a port of any host that it sees"
            return f"the proxy does not listen there: {visit.connection.port} is not {what}", ()
        found = sorted({int(name.rpartition("_")[2]) for name in visit.catalog[LISTENER] if name[-1:].isdigit()})
        ports = ", ".join(map(str, found)) or "none"
        return f"the gateway does not listen there, only on {ports}", self._mesh.origins.gateways(visit.proxy.view)

    def _listener_origins(self, visit: Visit) -> tuple[Origin, ...]:
        if visit.hop == "gateway":
            return self._mesh.origins.gateway(
                visit.proxy.view, visit.listener.name, visit.connection.port, visit.connection.sni
            )
        if visit.hop == "client" and visit.listener.name == names.VIRTUAL_OUTBOUND:
            return self._mesh.origins.limiting(visit.proxy.view)
        return ()

    def _chain_origins(self, visit: Visit) -> tuple[Origin, ...]:
        if visit.hop == "server":
            return self._mesh.origins.mtls(visit.proxy.view, visit.connection.port)
        return self._called(visit) if visit.hop == "client" else ()

    def _called(self, visit: Visit) -> tuple[Origin, ...]:
        """The host's port that says what is spoken on a connection."""
        at = visit.connection
        if visit.hop == "server":
            found = visit.catalog[CLUSTER].get(names.inbound_cluster(at.port))
            return self._mesh.origins.cluster(self._mesh.world.cluster(found)) if found is not None else ()
        host = self._mesh.virtual(at.address)
        return self._mesh.origins.host(host.hostname, host.namespace, at.port) if host is not None else ()

    def _shake_hands(self, visit: Visit) -> None:
        connection = visit.connection
        problem, context = listening.handshake(visit.chain, connection)
        peer = Peer(connection.address, connection.port, connection.source, sni=connection.sni)
        if context is None:
            visit.peer = peer
            return
        origins = self._chain_origins(visit) or self._listener_origins(visit)
        wanted = [one.name for one in context.common_tls_context.tls_certificate_sds_secret_configs]
        lacking = missing_secret(visit, wanted)
        if lacking:
            said = f"there is no Secret {lacking.removeprefix(names.CREDENTIAL_PREFIX)} with a certificate for the port"
            visit.say("tls", visit.chain.name, said, origins, passed=False)
            raise visit.end(0, "", "tls_handshake", "reset")
        if problem:
            said = {
                "plaintext": "the client does not speak TLS, which the port asks for",
                "no certificate": "the client shows no certificate, which the port asks for",
                "untrusted": "the client's certificate is not one of the mesh",
                "refused": "the client's certificate is of no authority that the port takes",
            }[problem]
            visit.say("tls", visit.chain.name, said, origins, passed=False)
            raise visit.end(0, "", "tls_handshake", "reset")
        visit.terminated = True
        if listening.is_mesh(context):
            visit.say("tls", "mesh mTLS", f"the client is {connection.certificate}", origins)
            visit.peer = Peer(
                peer.address, peer.port, peer.source, identity=connection.certificate, mtls=True, sni=connection.sni
            )
        else:
            visit.say("tls", "TLS", "ends here", origins)
            visit.peer = peer

    def _filter(self, visit: Visit) -> None:
        """Network filters in their order; raises Ended."""
        flowing = Bytes()
        for one in visit.chain.filters:
            if one.typed_config.Is(HttpConnectionManager.DESCRIPTOR):
                self._parse(visit, unpacked(one.typed_config, HttpConnectionManager))
            elif one.typed_config.Is(TcpProxy.DESCRIPTOR):
                self._forward_bytes(visit, unpacked(one.typed_config, TcpProxy), flowing)
            else:
                self._pass(visit, one, flowing)
        visit.say("filter", visit.chain.name, "the filter chain ends without a destination", passed=False)
        raise visit.end(0, "", "no_filter", "reset")

    def _pass(self, visit: Visit, one: NetworkFilter, flowing: Bytes) -> None:
        """One filter before the last. That has a connection made to the upstream before the others see a byte."""
        last = visit.chain.filters[-1]
        if not last.typed_config.Is(TcpProxy.DESCRIPTOR):
            pass_network_filter(visit, one, flowing)
            return
        cluster = flowing.cluster or _chosen(unpacked(last.typed_config, TcpProxy), visit.preferred_cluster)
        visit.name(cluster=cluster)
        told = len(visit.trail.steps)
        try:
            pass_network_filter(visit, one, flowing)
        except Ended as refused:
            steps = visit.trail.steps[told:]
            del visit.trail.steps[told:]
            onward(visit, Wanted(cluster, visit.connection.address, visit.connection.inside, http=False))
            visit.trail.steps[told:] = steps
            raise refused from None

    def _parse(self, visit: Visit, manager: HttpConnectionManager) -> None:
        """HTTP."""
        message, connection = self._message, visit.connection
        hidden = connection.tls and not visit.terminated
        if message is None or hidden or connection.inside == "tcp":
            what = "TLS" if hidden else "bytes that are no HTTP"
            said = f"gets {what} where it parses HTTP"
            visit.say("filter", "http_connection_manager", said, self._called(visit), passed=False)
            raise visit.end(0, "DPE", "http1.codec_error", "tls" if hidden else "reset")
        if connection.inside == "http/1.1" and not (message.method in METHODS and message.path[:1] in "/*"):
            said = f"gets {message.method} {message.path}, which is no HTTP/1 request to it"
            visit.say("filter", "http_connection_manager", said, passed=False)
            raise visit.end(400, "DPE", "http1.codec_error")
        self._screen(visit, manager, message)
        # An application that uses its proxy as such sends whole URLs, which have a scheme as HTTP/2 has.
        whole = visit.hop == "client" and visit.proxy.view.capture.mode == "explicit"
        message.forwarded(manager, tls=visit.terminated, has_scheme=whole or connection.inside == "h2")
        exchange = Exchange(visit, manager, self._request, message)
        visit.peer = msgspec.structs.replace(visit.peer, remote=original_client(manager, message, connection.source))
        exchange.choose()
        pass_filters(exchange)
        sent = route_request(exchange, "h2" if connection.inside == "h2" else "http/1.1")
        self._on(visit, onward(visit, sent.wanted), retried=sent.retried)

    def _screen(self, visit: Visit, manager: HttpConnectionManager, message: Message) -> None:
        """What a connection manager makes of names and paths before anything else looks at them."""
        action = manager.common_http_protocol_options.headers_with_underscores_action
        odd = [name for name, _ in message.headers if "_" in name]
        if odd and action == HttpProtocolOptions.REJECT_REQUEST:
            visit.say("filter", "http_connection_manager", f"the header {odd[0]} is refused for its _", passed=False)
            if visit.connection.inside == "h2":
                raise visit.end(0, "DR", "http2.unexpected_underscore", "reset")
            raise visit.end(400, "DPE", "http1.unexpected_underscore")
        if action == HttpProtocolOptions.DROP_HEADER:
            message.headers = [one for one in message.headers if "_" not in one[0]]
        path = normalised(message.path, manager)
        grpc = any(one.startswith("application/grpc") for one in message.values("content-type"))
        if path is None or (path.redirects and grpc):
            visit.say("filter", "http_connection_manager", f"the path {message.path} is refused", passed=False)
            raise visit.end(400, "", "path_normalization_failed")
        if path.redirects:
            visit.say("local reply", "307", f"redirects to {path.path}")
            raise visit.end(307, "", "path_normalization_failed")
        message.path = path.path

    def _forward_bytes(self, visit: Visit, proxy: TcpProxy, flowing: Bytes) -> None:
        """TCP."""
        cluster = flowing.cluster or proxy.cluster
        if not cluster:
            weighted = proxy.weighted_clusters.clusters
            total = sum(one.weight for one in weighted)
            cluster = _chosen(proxy, visit.preferred_cluster)
            said = ", ".join(f"{100 * one.weight / total:g} % to {one.name}" for one in weighted if one.weight)
            visit.say("route", "tcp_proxy", f"{said}; the walk follows {cluster}")
        visit.name(cluster=cluster)
        wanted = Wanted(cluster, visit.connection.sni or visit.connection.address, visit.connection.inside, http=False)
        if flowing.alpn:
            wanted = wanted._replace(alpn=flowing.alpn)
        self._on(visit, onward(visit, wanted), retried=False)

    def _on(self, visit: Visit, made: Onward, *, retried: bool) -> None:
        """To the application, or to the next proxy; raises Ended."""
        if visit.hop == "server" and visit.listener.traffic_direction == TrafficDirection.INBOUND:
            self._deliver(visit, made)
        tell_dialled(visit, made, http=_parses(visit))
        server = None if made.external else self._mesh.workloads.at(made.connection.address)
        if server is None or (server.view.capture.mode == "none" and server.view.type == "sidecar"):
            self._outside(visit, made, known=server is not None)
            return
        past = exempt.inbound(self._mesh, server, made.connection.port)
        if past is not None:
            self._past(visit, made, server, past, retried=retried)
        dialled = made.dialled
        if dialled.mesh and not dialled.accepts_name(server.identity):
            said = f"{server.shown} is {server.identity}, which the client does not take"
            visit.say("upstream tls", "mesh mTLS", said, self._mesh.origins.cluster(made.cluster), passed=False)
            raise self._failed(visit, "tls", retried=retried)
        hop: Hop = "server" if server.view.type == "sidecar" else "gateway"
        ended = self._serve(server, hop, made.connection)
        # Closed before the handshake that this proxy began is over, as by a server that speaks no TLS.
        unfinished = ended.closed == "reset" and dialled.tls and not ended.terminated
        closed: Closed = "tls" if unfinished else ended.closed
        if closed == "tls" and not dialled.tls:
            closed = "reset"  # it is the application's own handshake that fails, of which this proxy sees bytes only
        if closed and (_parses(visit) or closed != "reset"):
            raise self._failed(visit, closed, retried=retried)
        raise ended

    def _failed(self, visit: Visit, closed: str, *, retried: bool) -> Ended:
        """How this proxy answers where its connection to the upstream came to nothing."""
        flags, details = _FAILURES[closed]
        if not _parses(visit):
            return visit.end(0, flags, details, "reset")
        if retried and flags == "UF":
            flags = "UF,URX"
        visit.say("local reply", "503", f"{flags}: {details}", passed=False)
        return visit.end(503, flags, details)

    def _deliver(self, visit: Visit, made: Onward) -> None:
        connection = visit.connection
        if connection.tls and not visit.terminated and connection.trusted:
            said = "gets mesh mTLS as it is, which it does not speak"
            visit.say("application", made.shown, said, self._chain_origins(visit), passed=False)
            raise visit.end(0, "", "tls_at_application", "tls")
        ports = {one.port for one in visit.proxy.view.ports}
        dialled = made.connection.port
        if ports and dialled and dialled not in ports:
            said = f"the workload declares port {', '.join(map(str, sorted(ports)))}, and not {dialled}"
            self._trail.doubt(f"whether {visit.proxy.shown} listens on port {dialled}: {said}")
            visit.say("application", made.shown, f"undecided: {said}", self._mesh.origins.cluster(made.cluster))
        else:
            visit.say("application", made.shown, "gets the request")
        raise visit.end(self._success, "", "via_upstream")

    def _outside(self, visit: Visit, made: Onward, *, known: bool) -> None:
        """To an address at which no proxy of the mesh is."""
        if made.dialled.mesh:
            self._trail.doubt(f"whether {made.shown} speaks mesh mTLS: no proxy of the mesh is known there")
        elif self._mesh.virtual(made.connection.address) is not None:
            self._no_port(visit, made)
            self._trail.doubt(f"where {made.shown} leads: it is a virtual address, which only proxies understand")
        elif made.dialled.tls and made.dialled.accepts:
            self._trail.doubt(f"whether the certificate of {made.shown} has a name that the proxy takes")
        said = "captures nothing" if known else "no proxy of the mesh is before it"
        self._trail.steps.append(self._application(visit.hop, made.shown, said, visit.proxy.shown))
        raise visit.end(self._success, "", "via_upstream")

    def _past(self, visit: Visit, made: Onward, server: Proxy, past: exempt.Exempt, *, retried: bool) -> None:
        """To a workload whose proxy never sees the connection; raises Ended."""
        if made.dialled.mesh:
            said = f"{past.said}: the application of {server.shown} itself gets mesh mTLS, which it does not speak"
            visit.say("upstream tls", "mesh mTLS", said, self._mesh.origins.placed(past.origin), passed=False)
            raise self._failed(visit, "tls", retried=retried)
        self._trail.steps.append(self._by(self._application("server", made.shown, past.said, server.shown), past))
        raise visit.end(self._success, "", "via_upstream")

    def _by(self, step: Step, past: exempt.Exempt) -> Step:
        return msgspec.structs.replace(step, origins=self._mesh.origins.placed(past.origin))

    def _no_port(self, visit: Visit, made: Onward) -> None:
        """A virtual address on a port that its host has not: nobody is there."""
        at = made.connection
        host = self._mesh.virtual(at.address)
        ports = self._mesh.ports(host.hostname) if host is not None else ()
        if host is None or at.port in ports:
            return
        said = f"{host.hostname} has no port {at.port}, only {', '.join(map(str, ports))}: nobody is there"
        origins = self._mesh.origins.host(host.hostname, host.namespace)
        visit.say("endpoint", made.shown, said, origins, passed=False)
        raise self._failed(visit, "refused", retried=False)

    def _application(self, hop: Hop, met: str, said: str, proxy: str = "") -> Step:
        return Step(hop, proxy, "application", met or self._request.host, said)


def _parses(visit: Visit) -> bool:
    """Whether the proxy speaks HTTP with the client, so that it can answer by itself."""
    return any(one.typed_config.Is(HttpConnectionManager.DESCRIPTOR) for one in visit.chain.filters)


def _chosen(proxy: TcpProxy, preferred: str) -> str:
    """The cluster to which most connections go, or the preferred one if any go there."""
    if proxy.cluster:
        return proxy.cluster
    used = [one for one in proxy.weighted_clusters.clusters if one.weight]
    return max(used, key=lambda one: (one.name == preferred, one.weight)).name


def _chain_words(transport: str, alpn: tuple[str, ...], sni: str) -> str:
    if transport == "tls":
        offered = f", offering {', '.join(alpn)}" if alpn else ""
        return f"TLS{' for ' + sni if sni else ''}{offered}"
    return f"plaintext {', '.join(alpn)}" if alpn else "plaintext, or not looked at"
