"""Which gateways a proxy serves, and their servers merged by port.

Istio's rules: a Gateway binds to every proxy whose labels its selector covers, in any namespace; the oldest binds
first. One that names services (as those do that stand for Gateways of the Gateway API) binds to the proxies behind
these instead, and only to ports that these services have. Servers on one port and address merge if all are plain HTTP
of any version, or if all use TLS with distinct SNI hosts; any other server on a taken port is left out, and a
diagnostic says so.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fairlead.compiler.endpoints import target_port
from fairlead.compiler.hosts import settings
from fairlead.compiler.serving import ProxyKey, serving_hosts, telling_addresses
from fairlead.envoy import names
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.gateway import GATEWAYS, GATEWAYS_BY_SELECTOR, GATEWAYS_BY_SERVICE, Gateway, GatewayServer
from fairlead.ir.host import HostKey
from fairlead.ir.protocol import Protocol
from fairlead.ir.view import View, selects
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.ref import NamespacedName
from fairlead.model.syntax import UNIX_PREFIX

_NO_TRANSLATION = "experimental.istio.io/disable-gateway-port-translation"
_WITH_CERTIFICATES = frozenset(("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"))
_PASSTHROUGH = frozenset(("PASSTHROUGH", "AUTO_PASSTHROUGH"))


class GatewaysKey(NamedTuple):
    """What of a proxy decides which gateways it serves. `addresses` are those that some object lists."""

    namespace: str
    labels: Pairs
    addresses: tuple[str, ...] = ()

    @staticmethod
    def of(r: Reader, view: View) -> GatewaysKey:
        """The key of a view."""
        return GatewaysKey(view.namespace, view.labels, telling_addresses(r, view.namespace, view.addresses))


class BoundServer(msgspec.Struct, frozen=True):
    """A server of a selected gateway.

    `hosts` are `host` (routes of any namespace may bind) or `namespace/host` (only routes of that namespace).
    `route_name` names its route configuration; it is "" where HTTP is not parsed.
    """

    gateway: NamespacedName
    server: GatewayServer
    hosts: tuple[str, ...]
    route_name: str

    @property
    def sni_hosts(self) -> tuple[str, ...]:
        """The hosts without their namespaces, each once, in order."""
        return tuple(dict.fromkeys(_bare(host) for host in self.hosts))


class PortServers(msgspec.Struct, frozen=True):
    """The servers that share one port of a proxy; all of them speak TLS to the client, or none does.

    `port` is the one to listen on; the servers' own numbers may differ from it (see `translations`). `bind` is their
    address ("": all), or with port 0 a Unix socket: servers at different addresses have nothing to do with each other.
    """

    port: int
    bind: str
    tls: bool
    servers: tuple[BoundServer, ...]


class RouteServersKey(NamedTuple):
    """A route configuration of a gateway proxy, by name."""

    gateways: GatewaysKey
    name: str


class Translation(NamedTuple):
    """A port of a service that leads to the proxy, and the proxy's port to which it leads.

    `opted_out` says that servers are not moved from the one to the other unless their gateway names the service.
    """

    service: HostKey
    port: int
    target: int
    opted_out: bool


@rule
def gateways_of(r: Reader, key: GatewaysKey) -> tuple[NamespacedName, ...]:
    """The gateways that bind to the proxy, oldest first."""
    found: dict[NamespacedName, str] = {}
    for pair in (("", ""), *key.labels):
        for name, gateway in r.rows(GATEWAYS_BY_SELECTOR, pair):
            if selects(gateway.selector, key.labels):
                found[name] = gateway.created
    for service in dict.fromkeys(one.service for one in translations(r, key)):
        for name, gateway in r.rows(GATEWAYS_BY_SERVICE, service):
            found[name] = gateway.created
    return tuple(sorted(found, key=lambda name: (found[name], name)))


@rule
def translations(r: Reader, key: GatewaysKey) -> tuple[Translation, ...]:
    """The ports of the services that lead to the proxy.

    Istio's gateway port translation: a server on port 80 of a gateway whose Service maps 80 to 8080 listens on 8080.
    """
    found: set[Translation] = set()
    for one in serving_hosts(r, ProxyKey(*key)):
        opted_out = any(label == _NO_TRANSLATION for label, _ in one.host.labels)
        for port in one.host.ports:
            target = target_port(port, one.ports)
            if target:
                found.add(Translation(one.host.key, port.number, target, opted_out))
    return tuple(sorted(found))


@rule
def merged_servers(r: Reader, key: GatewaysKey) -> tuple[PortServers, ...]:
    """The servers of all selected gateways, by port. Reports servers that cannot share their port."""
    ports: dict[tuple[int, str], list[BoundServer]] = {}
    mapped = translations(r, key)
    for name in gateways_of(r, key):
        gateway = r.get(GATEWAYS, name)
        for server in gateway.servers if gateway is not None else ():
            hosts = _hosts(server, name.namespace)
            for port in _listening(gateway, server.port, mapped) if gateway is not None else ():
                bound = BoundServer(name, server, hosts, route_name(server, name, port))
                taken = ports.setdefault((port, server.bind), [])
                conflict = _conflict(taken, bound)
                if conflict:
                    r.report(_left_out(bound, conflict))
                else:
                    taken.append(bound)
    return tuple(
        PortServers(port, bind, is_tls(servers[0].server), tuple(servers))
        for (port, bind), servers in sorted(ports.items())
    )


@rule
def joins_networks(r: Reader, key: GatewaysKey) -> bool:
    """Whether the proxy passes mesh mTLS of other networks on by SNI (AUTO_PASSTHROUGH)."""
    return any(
        one.server.tls is not None and one.server.tls.mode == "AUTO_PASSTHROUGH"
        for port in merged_servers(r, key)
        for one in port.servers
    )


@rule
def servers_of_route(r: Reader, key: RouteServersKey) -> tuple[BoundServer, ...]:
    """The servers whose requests one route configuration serves."""
    return tuple(one for port in merged_servers(r, key.gateways) for one in port.servers if one.route_name == key.name)


def is_tls(server: GatewayServer) -> bool:
    """Whether clients speak TLS to this server (a plain HTTP server that redirects to HTTPS does not)."""
    return server.tls is not None and not server.protocol.is_http


def parses_http(server: GatewayServer) -> bool:
    """Whether the proxy parses HTTP: plain HTTP, or HTTPS that it terminates."""
    if server.protocol.is_http:
        return True
    return server.protocol is Protocol.HTTPS and server.tls is not None and server.tls.mode not in _PASSTHROUGH


def serves_http3(r: Reader, server: GatewayServer) -> bool:
    """Whether a server answers over QUIC, too: HTTPS that ends here, where TLS 1.3 is allowed and the mesh wants it."""
    tls = server.tls
    if tls is None or not parses_http(server) or server.protocol.is_http or not settings(r).http3:
        return False
    if server.bind.startswith(UNIX_PREFIX):
        return False
    return tls.mode in _WITH_CERTIFICATES and tls.max_version.upper() in ("", "TLS_AUTO", "TLSV1_3")


def route_name(server: GatewayServer, gateway: NamespacedName, port: int) -> str:
    """The name of the server's route configuration where it listens on `port`, or "" where HTTP is not parsed."""
    if not parses_http(server):
        return ""
    if server.protocol.is_http:
        return names.gateway_route(port, server.bind)
    return names.gateway_tls_route(server.port, server.port_name, gateway.name, gateway.namespace, server.bind)


def _listening(gateway: Gateway, number: int, mapped: tuple[Translation, ...]) -> list[int]:
    """The proxy's ports on which a server with this port number listens."""
    if gateway.services:
        known = gateway.service_keys
        return sorted({one.target for one in mapped if one.service in known and one.port == number})
    return sorted({one.target for one in mapped if one.port == number and not one.opted_out}) or [number]


def _hosts(server: GatewayServer, namespace: str) -> tuple[str, ...]:
    out: list[str] = []
    for host in server.hosts:
        where, slash, name = host.rpartition("/")
        if where == ".":
            out.append(f"{namespace}/{name}")
        elif where == "*" or not slash:
            out.append(name)
        else:
            out.append(host)
    return tuple(dict.fromkeys(out))


def _bare(host: str) -> str:
    return host.rpartition("/")[2]


def _conflict(taken: list[BoundServer], bound: BoundServer) -> str:
    """Why a server cannot join those that already have its port, or ""."""
    if not taken:
        return ""
    first = taken[0]
    if not is_tls(first.server):
        if first.server.protocol.is_http and bound.server.protocol.is_http:
            return ""
        return f"port {bound.server.port} already serves {first.server.protocol} of {first.server.origin.ref}"
    if not is_tls(bound.server):
        return f"port {bound.server.port} already serves TLS of {first.server.origin.ref}"
    for other in taken:
        both = sorted(set(other.sni_hosts) & set(bound.sni_hosts))
        if both:
            return f"host {both[0]} on port {bound.server.port} is already served by {other.server.origin.ref}"
        if bound.route_name and other.route_name == bound.route_name:
            return (
                f"port name {bound.server.port_name!r} is already used by another server of {other.server.origin.ref}"
            )
    return ""


def _left_out(bound: BoundServer, conflict: str) -> Diagnostic:
    return Diagnostic(
        "FL0201",
        Severity.WARNING,
        f"this server of {bound.server.origin.ref} is not served: {conflict}",
        bound.server.origin,
        "Give the server another port, port name or host, or remove one of the two.",
    )


__all__ = [
    "BoundServer",
    "GatewaysKey",
    "PortServers",
    "RouteServersKey",
    "Translation",
    "gateways_of",
    "is_tls",
    "joins_networks",
    "merged_servers",
    "parses_http",
    "route_name",
    "servers_of_route",
    "serves_http3",
    "translations",
]
