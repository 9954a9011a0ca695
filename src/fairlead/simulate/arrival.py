"""How a call begins: which proxy the caller's connection meets first, and where it was going."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fairlead.envoy import names
from fairlead.envoy.resource import LISTENER, ROUTE
from fairlead.model.diagnostic import Origin
from fairlead.model.names import nearest
from fairlead.simulate import exempt
from fairlead.simulate.connection import Connection, Inside
from fairlead.simulate.listening import bound_listener
from fairlead.simulate.mesh import Mesh, Proxy, chosen, is_address
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.walk import Hop, Step

UNKNOWN_ADDRESS = "192.0.2.1"
"""Stands for the address of a host outside of the mesh, which only DNS knows (an address for documentation)."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


class NobodyError(LookupError):
    """Who or what is named in a request is not there. The message says what is, for people."""


class Arrival(NamedTuple):
    """The first proxy (None: the connection meets none), the part that it plays, and the connection.

    `nowhere`: there is no connection, since the name leads to no address. `undecided` is why it may meet another proxy.
    """

    proxy: Proxy | None
    hop: Hop
    connection: Connection
    steps: tuple[Step, ...]
    nowhere: bool = False
    undecided: str = ""


def arrive(mesh: Mesh, caller: Caller, request: Request) -> Arrival:
    """Where the caller's connection arrives. Raises NobodyError."""
    if caller.kind == "internet":
        return _from_outside(mesh, caller, request)
    if request.protocol == "http3":
        raise NobodyError("HTTP/3 is for gateways: sidecars take TCP only, so ask it --from internet")
    if caller.kind == "plaintext":
        return _directly(mesh, caller.namespace, request, caller.address, "a peer outside of the mesh")
    proxy = chosen(mesh.workloads.named(caller.name, caller.namespace))
    if proxy is None:
        raise NobodyError(_unknown(mesh, caller))
    mode = proxy.view.capture.mode
    if mode == "none" and proxy.view.type == "sidecar":
        return _directly(mesh, proxy.view.namespace, request, proxy.address, "its traffic is not captured")
    if mode == "explicit":
        return _explicit(mesh, proxy, request)
    return _captured(mesh, proxy, request, caller.user)


def _unknown(mesh: Mesh, caller: Caller) -> str:
    name = f"{caller.name}.{caller.namespace}" if caller.namespace else caller.name
    known = mesh.workloads.names()
    bare = {one.partition(".")[0]: one for one in known}
    near = nearest(name, known) or bare.get(nearest(caller.name, bare) or "")
    if near:
        return f"no workload {name!r}; did you mean {near!r}?"
    listed = ", ".join(known[:8]) + (" ..." if len(known) > 8 else "")
    return f"no workload {name!r}; there are: {listed}" if known else f"no workload {name!r}: there are none at all"


def _inside(request: Request) -> Inside:
    if request.protocol == "tcp":
        return "tcp"
    return "http/1.1" if request.protocol == "http" else "h2"


def _connection(request: Request, address: str, port: int, source: str) -> Connection:
    """The connection that the client itself makes."""
    alpn: tuple[str, ...] = ()
    if request.tls:
        alpn = {"http": ("http/1.1",), "tcp": (), "http3": ("h3",)}.get(request.protocol, ("h2",))
    sni = (request.sni or request.host) if request.tls else ""
    shown = "a certificate" if request.tls and request.certificate else ""
    refused, quic = request.certificate == "invalid", request.protocol == "http3"
    inside = _inside(request)
    return Connection(address, port, source, request.tls, sni, alpn, shown, False, inside, refused, quic)


def _captured(mesh: Mesh, proxy: Proxy, request: Request, user: str) -> Arrival:
    # Rules of a host leave connections to its own addresses alone: they never leave the loopback interface.
    own = proxy.view.capture.mode == "redirect" and (request.address or request.host) == proxy.address
    if own or (request.host in _LOCAL and not request.address):
        made = _connection(request, proxy.address if own else "127.0.0.1", request.port, proxy.address)
        said = "the caller's own address: not captured" if own else "the caller's own host: not captured"
        return Arrival(None, "client", made, (Step("client", proxy.shown, "capture", request.host, said),))
    if not request.address and mesh.is_nowhere(proxy.view, request.host):
        near = _near(mesh, proxy, request.host)
        hint = f"; did the caller mean {near}?" if near else ""
        said = f"no host of the mesh has this name, and it is none of another domain{hint}"
        step = Step("client", proxy.shown, "capture", request.host, said, passed=False)
        made = _connection(request, UNKNOWN_ADDRESS, request.port, proxy.address)
        return Arrival(None, "client", made, (step,), nowhere=True)
    address, how = _address(mesh, proxy, request)
    unknown = address == UNKNOWN_ADDRESS
    past = exempt.outbound(mesh, proxy, "" if unknown else address, request.port, user)
    if past is not None and not past.undecided:
        return _past(mesh, proxy, request, address, past)
    made = _connection(request, address, request.port, proxy.address)
    said = f"{how}; redirected to the proxy"
    origins = _hiding(mesh, proxy, request.host) if unknown else ()
    if past is not None:
        said = f"{how}; undecided: {past.said}; taken as redirected to the proxy"
        origins = (*mesh.origins.placed(past.origin), *origins)
    step = Step("client", proxy.shown, "capture", f"{address}:{request.port}", said, origins=origins)
    return Arrival(proxy, "client", made, (step,), undecided=past.said if past is not None else "")


def _past(mesh: Mesh, proxy: Proxy, request: Request, address: str, past: exempt.Exempt) -> Arrival:
    """A connection that the rules leave alone: the caller's proxy never sees it."""
    host = mesh.virtual(address)
    if host is not None and mesh.instances(host.hostname, request.port):
        found = _directly(mesh, proxy.view.namespace, request, proxy.address, past.said)
    else:
        made = _connection(request, address, request.port, proxy.address)
        server = mesh.workloads.at(address)
        hop: Hop = "server" if server is None or server.view.type == "sidecar" else "gateway"
        said = f"{past.said}: the client connects past its proxy"
        found = Arrival(server, hop, made, (Step("client", "", "capture", f"{address}:{request.port}", said),))
    step, *_ = found.steps
    told = msgspec.structs.replace(step, proxy=proxy.shown, origins=mesh.origins.placed(past.origin))
    return found._replace(steps=(told,))


def _hiding(mesh: Mesh, proxy: Proxy, host: str) -> tuple[Origin, ...]:
    """What keeps the caller from seeing a host that the mesh knows."""
    known = mesh.hostname(host, proxy.view.namespace, proxy.view.domain_suffix)
    return mesh.origins.hiding(proxy.view, known) if known and not mesh.origins.shown(proxy.view, known) else ()


def _address(mesh: Mesh, proxy: Proxy, request: Request) -> tuple[str, str]:
    """To which address the client connects, and how it came to it."""
    if request.address:
        return request.address, f"the client connects to {request.address}"
    if is_address(request.host):
        return request.host, "the client connects to the address"
    found = mesh.resolve(proxy.view, request.host)
    if not found.addresses:
        known = mesh.hostname(request.host, proxy.view.namespace, proxy.view.domain_suffix)
        why = "not a name of the mesh"
        if known:
            hidden = not mesh.origins.shown(proxy.view, known)
            why = "a host that the caller does not see" if hidden else "known to the mesh, without an address of it"
        return UNKNOWN_ADDRESS, f"{request.host} is {why}: looked up in DNS, taken as {UNKNOWN_ADDRESS}"
    first, *others = found.addresses
    of = f" (one of {len(others) + 1})" if others else ""
    return first, f"{request.host} is {found.hostname}, {first}{of}"


def _near(mesh: Mesh, proxy: Proxy, host: str) -> str:
    """The host that a name may have been meant to be, as the caller would write it."""
    name, _, rest = host.partition(".")
    namespace = rest.partition(".")[0] or proxy.view.namespace
    near = nearest(name, mesh.hosts_of(namespace))
    return "" if near is None else near if not rest else f"{near}.{namespace}"


def _explicit(mesh: Mesh, proxy: Proxy, request: Request) -> Arrival:
    """The application uses its sidecar as HTTP proxy, and dials it on the port of the host for all else."""
    capture = proxy.view.capture
    http = request.protocol != "tcp" and not request.tls
    port = capture.http_proxy_port if http else request.port
    made = _connection(request, capture.outbound_address, port, proxy.address)
    said = "by HTTP_PROXY" if http else "at the address in NAME_SERVICE_HOST"
    origins = _hiding(mesh, proxy, request.host)
    if origins:
        said += f"; {request.host} is a host that the caller does not see"
    step = Step("client", proxy.shown, "capture", f"{capture.outbound_address}:{port}", said, origins=origins)
    return Arrival(proxy, "client", made, (step,))


def _directly(mesh: Mesh, namespace: str, request: Request, source: str, why: str) -> Arrival:
    """To an instance of the host itself, with no proxy of the caller's between."""
    address, port = request.address or request.host, request.port
    if not is_address(address):
        hostname = mesh.hostname(request.host, namespace)
        if not hostname:
            raise NobodyError(f"no host {request.host!r} in the mesh; name it as HOST.NAMESPACE, or give an address")
        found = mesh.instances(hostname, port)
        if not found:
            ports = ", ".join(map(str, mesh.ports(hostname))) or "none"
            raise NobodyError(f"{hostname} has no instance for port {port} (its ports: {ports})")
        address, port = found[0].address, found[0].port
    proxy = mesh.workloads.at(address)
    hop: Hop = "server" if proxy is None or proxy.view.type == "sidecar" else "gateway"
    step = Step("client", "", "capture", f"{address}:{port}", f"{why}: it connects to the instance itself")
    return Arrival(proxy, hop, _connection(request, address, port, source), (step,))


def _from_outside(mesh: Mesh, caller: Caller, request: Request) -> Arrival:
    routers = [one for one in mesh.workloads.routers() if _is_meant(one, caller)]
    if not routers:
        named = f" {caller.name!r}" if caller.name else ""
        raise NobodyError(f"no gateway{named} is there for clients from outside")
    found = next((one for one in routers if _serves(mesh, one, request)), routers[0])
    port = mesh.listening_port(found, request.port)
    address = request.address or found.address or UNKNOWN_ADDRESS
    made = _connection(request, address, port, caller.address)
    others = f" (of {len(routers)} gateways)" if len(routers) > 1 else ""
    step = Step("gateway", found.shown, "capture", f"{address}:{port}", f"a client connects to the gateway{others}")
    return Arrival(found, "gateway", made, (step,))


def _is_meant(router: Proxy, caller: Caller) -> bool:
    if not caller.name:
        return True
    called = (router.name, router.view.workload_name)
    return caller.name in called and caller.namespace in ("", router.view.namespace)


def _serves(mesh: Mesh, router: Proxy, request: Request) -> bool:
    """Whether a gateway listens on the port, and has routes for the host where it parses HTTP in the clear."""
    catalog = mesh.catalog(router.view)
    port = mesh.listening_port(router, request.port)
    quic = request.protocol == "http3"
    if bound_listener(mesh.world, catalog[LISTENER], router.address, port, quic=quic) is None:
        return False
    # A server that names its address has routes of its own.
    own, shared = names.gateway_route(port, router.address), names.gateway_route(port)
    routes = catalog[ROUTE].get(own) or catalog[ROUTE].get(shared)
    return routes is None or request.tls or mesh.world.routes(routes).find(request.host) is not None
