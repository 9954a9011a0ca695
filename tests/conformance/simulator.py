"""Asks the simulator what one proxy makes of one call, in the words of Istio's own simulation tests.

Those tests look at one proxy and one connection, and name the kind of certificate that a chain asks for; so the parts
of the walk are asked one after the other.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from fairlead.compiler.publish import Catalog
from fairlead.envoy import names
from fairlead.envoy.resource import LISTENER, ROUTE
from fairlead.simulate import listening, world
from fairlead.simulate.connection import Connection, Inside
from fairlead.simulate.matching import unpacked
from fairlead.simulate.message import Message
from fairlead.simulate.request import Request
from fairlead.simulate.routing import take

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

    @property
    def connection(self) -> Connection:
        """The connection that is made."""
        inside: Inside = "tcp" if self.protocol == "tcp" else "h2" if self.protocol == "http2" else "http/1.1"
        alpn = (self.alpn,) if self.alpn else ()
        shown = "spiffe://caller" if self.tls == "mtls" else ""
        return Connection(self.address, self.port, "", self.tls != "plaintext", self.sni, alpn, shown, True, inside)


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
    """The resources of one proxy, parsed as they are met."""

    def __init__(self, catalog: Catalog) -> None:
        self.listeners = catalog[LISTENER]
        self.routes = catalog[ROUTE]
        self.parsed = world.World()


def simulate(proxy: World, call: Call) -> Outcome:
    """What the call meets."""
    listener = _listener(proxy, call)
    if listener is None:
        return Outcome(NO_LISTENER)
    met = Outcome(listener=listener.name)
    seen = listening.inspected(listener, call.connection)
    if call.sni and not seen.sni:
        # Those tests give a name to connections without TLS too, where no inspector would find one.
        seen = msgspec.structs.replace(seen, sni=call.sni)
    if len(listening.matching_chains(listener, seen)) > 1:
        return msgspec.structs.replace(met, error=SEVERAL_CHAINS)
    chain = listening.choose(listener, seen).chain
    if chain is None:
        return msgspec.structs.replace(met, error=NO_CHAIN)
    met = msgspec.structs.replace(met, chain=chain.name)
    refused = _handshake(chain, call)
    if refused:
        return msgspec.structs.replace(met, error=refused)
    return _through(proxy, chain, call, met)


def _listener(proxy: World, call: Call) -> Listener | None:
    if call.mode == "inbound":
        found = proxy.listeners.get(names.VIRTUAL_INBOUND)
        return proxy.parsed.listener(found) if found is not None else None
    return listening.outbound_listener(proxy.parsed, proxy.listeners, call.address, call.port)


def _handshake(chain: FilterChain, call: Call) -> str:
    """Why the chain's TLS refuses the connection, or ""."""
    problem, context = listening.handshake(chain, call.connection)
    if context is None:
        return ""
    if problem == "plaintext":
        return TLS_ERROR
    secrets = [one.name for one in context.common_tls_context.tls_certificate_sds_secret_configs]
    wants = context.require_client_certificate.value and secrets[:1] == [call.certificate]
    return MTLS_ERROR if wants != (call.tls == "mtls") else ""


def _through(proxy: World, chain: FilterChain, call: Call, met: Outcome) -> Outcome:
    for one in chain.filters:
        if one.typed_config.Is(HttpConnectionManager.DESCRIPTOR):
            if call.protocol == "tcp" or (call.tls != "plaintext" and not chain.HasField("transport_socket")):
                return msgspec.structs.replace(met, error=PROTOCOL_ERROR)
            return _request(proxy, unpacked(one.typed_config, HttpConnectionManager), call, met)
        if one.typed_config.Is(TcpProxy.DESCRIPTOR):
            return msgspec.structs.replace(met, cluster=unpacked(one.typed_config, TcpProxy).cluster)
    return met


def _request(proxy: World, manager: HttpConnectionManager, call: Call, met: Outcome) -> Outcome:
    if manager.HasField("route_config"):
        routes: world.Routes | None = world.Routes(manager.route_config)
    else:
        name = manager.rds.route_config_name
        met = msgspec.structs.replace(met, routes=name)
        routes = proxy.parsed.routes(proxy.routes[name]) if name in proxy.routes else None
    found = routes.find(call.host) if routes is not None else None
    if found is None:
        return msgspec.structs.replace(met, error=NO_HOST)
    host = found[0]
    met = msgspec.structs.replace(met, virtual_host=host.name)
    if host.require_tls == VirtualHost.ALL and call.tls == "plaintext":
        return msgspec.structs.replace(met, error=TLS_REDIRECT)
    message = Message(Request(call.host, call.port, call.path, authority=call.host))
    route = take(host, message).route
    if route is None:
        return msgspec.structs.replace(met, error=NO_ROUTE)
    return msgspec.structs.replace(met, route=route.name, cluster=route.route.cluster)
