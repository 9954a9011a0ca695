"""Where a client's outbound listeners stand: which hosts share which address and port.

Istio's rules: HTTP ports share one listener on every address, because routes tell hosts apart; other ports stand at the
host's virtual addresses, or on every address where the host has none. Ports of headless hosts stand at the addresses of
their instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import NamedTuple

import msgspec

from fairlead.compiler.endpoints import EndpointsKey, endpoints_of, stands_anywhere
from fairlead.compiler.hosts import ChunkKey, PortKey, chunks_seen, host, hosts_in, hosts_on_port
from fairlead.compiler.sidecars import bound_address, on_port, scopes_of
from fairlead.inc import Reader, rule
from fairlead.ir.families import ANYWHERE, ANYWHERE_V6, Families
from fairlead.ir.host import Host, HostKey, HostPort, Resolution
from fairlead.ir.protocol import Protocol
from fairlead.ir.proxyown import OwnSettings
from fairlead.model.ref import NamespacedName
from fairlead.model.syntax import is_ip

_UNTOLD: dict[Families, tuple[str, ...]] = {"IPv4": ("2001:2::",), "IPv6": ("240.240.",), "dual": ()}
"""How addresses begin that were given to hosts (`ir.host.ALLOCATED`), and of which a client is not told."""
LOOPBACK = "localhost"
"""Stands for the client's own loopback addresses, of whatever family."""
PRIVILEGED = 1024
"""Ports below this number need privileges, so nothing is bound there for explicitly captured applications."""


class Caller(msgspec.Struct, frozen=True):
    """What of a proxy its outbound listeners depend on.

    `bind` is the address at which the application finds other services' ports ("": its connections are redirected to
    the proxy). `labels` are those at which someone looks; `telemetry` names the Telemetry objects for it. `on_demand`:
    its requests wait for clusters that the proxy lacks. `own` is what its workload says of its proxy. `families` are
    those of its addresses: they decide what "any address" is.
    """

    namespace: str
    labels: tuple[tuple[str, str], ...] = ()
    bind: str = ""
    http_proxy_port: int = 0
    telemetry: tuple[NamespacedName, ...] = ()
    on_demand: bool = False
    own: OwnSettings | None = None
    families: Families = "IPv4"


class HostPortKey(NamedTuple):
    """A port of a host."""

    host: HostKey
    port: int


class Bind(NamedTuple):
    """A listener's address and port, as a client namespace has it.

    The address is `ANYWHERE` for all addresses, of whatever family, and `LOOPBACK` for the client's own.
    """

    client_namespace: str
    address: str
    port: int


class Standing(NamedTuple):
    """A host at a listener, and what it speaks there; `subnet` limits it to destinations in a network ("": any)."""

    created: str
    host: HostKey
    subnet: str = ""
    protocol: Protocol = Protocol.AUTO
    looked_up: bool = False
    """Whether Envoy looks the host's name up for each request."""


@rule
def binds_of(r: Reader, key: HostPortKey) -> tuple[tuple[str, str], ...]:
    """The listeners at which one port of a host stands: address, and subnet of the destination."""
    found = host(r, key.host)
    port = found.port(key.port) if found is not None else None
    if found is None or port is None or port.protocol is Protocol.UDP:
        return ()
    if port.protocol.is_http:
        return ((ANYWHERE, ""),)
    addresses = [one for one in found.addresses if one not in (ANYWHERE, ANYWHERE_V6)]
    if addresses:
        return tuple(dict.fromkeys(_bind(one) for one in addresses))
    if found.resolution is Resolution.PASSTHROUGH:
        return _instances(r, found, port)
    # Clients that look names up elsewhere do not know the address that the host was given.
    return (*((one, "") for one in found.allocated), (ANYWHERE, ""))


@rule
def binds_on_port(r: Reader, key: PortKey) -> dict[str, tuple[Standing, ...]]:
    """The hosts at each address for one port, the oldest first. The value is never changed."""
    found: dict[str, list[Standing]] = {}
    for chunk in chunks_seen(r, *key):
        for address, one in binds_in(r, ChunkKey(*key, chunk)):
            found.setdefault(address, []).append(one)
    return {address: tuple(sorted(found[address])) for address in sorted(found)}


@rule
def binds_in(r: Reader, key: ChunkKey) -> tuple[tuple[str, Standing], ...]:
    """The hosts of a chunk with the addresses at which they stand."""
    found: list[tuple[str, Standing]] = []
    own, bound = bound_address(r, key.client_namespace)
    own = own or (LOOPBACK if bound else "")
    for at in hosts_in(r, key):
        one = host(r, at)
        port = one.port(key.port) if one is not None else None
        if one is not None and port is not None:
            for address, subnet in ((own, ""),) if own else binds_of(r, HostPortKey(at, key.port)):
                found.append((address, Standing(one.created, at, subnet, port.protocol, one.is_looked_up)))
    return tuple(found)


@rule
def standing(r: Reader, key: Bind) -> tuple[Standing, ...]:
    """The hosts at one listener, the oldest first."""
    return binds_on_port(r, PortKey(key.client_namespace, key.port)).get(key.address, ())


@rule
def ports_of(r: Reader, key: HostKey) -> tuple[int, ...]:
    """The numbers of a host's ports that a proxy can forward."""
    found = host(r, key)
    return tuple(one.number for one in found.ports if one.protocol is not Protocol.UDP) if found is not None else ()


@rule
def called_ports(r: Reader, client_namespace: str) -> tuple[int, ...]:
    """Every port number that some visible host has, in order."""
    if client_namespace.count("/") == 2:
        scopes = scopes_of(r, client_namespace)
        special = {port for port, _ in scopes if port}
        on_all = {port for own, one in scopes if not own for port in called_ports(r, one)}
        return tuple(
            sorted((on_all - special) | {port for port, one in scopes if port and hosts_on_port(r, PortKey(one, port))})
        )
    at = chunks_seen(r, client_namespace, 0)
    return tuple(sorted({port for chunk in at for port in ports_in(r, ChunkKey(client_namespace, 0, chunk))}))


@rule
def ports_in(r: Reader, key: ChunkKey) -> tuple[int, ...]:
    """The port numbers of the hosts of a chunk, in order."""
    return tuple(sorted({port for at in hosts_in(r, key) for port in ports_of(r, at)}))


@rule
def binds(r: Reader, client_namespace: str) -> tuple[tuple[str, int], ...]:
    """Every address and port at which a redirected client has a listener, by port and address."""
    return tuple(
        (address, port)
        for port in called_ports(r, client_namespace)
        for address in binds_on_port(r, PortKey(on_port(r, client_namespace, port), port))
    )


@rule
def bound_hosts(r: Reader, key: PortKey) -> tuple[HostKey, ...]:
    """The hosts whose port stands at the outbound address of an explicitly captured client.

    A host of which only clients know where it is does not: it is reached through the HTTP proxy.
    """
    if bound_address(r, key.client_namespace)[0]:
        return ()  # A Sidecar gives them an address of their own.
    found = ((at, host(r, at)) for at in hosts_on_port(r, key))
    return tuple(at for at, one in found if one is not None and not stands_anywhere(r, one))


def is_bound(r: Reader, key: PortKey, at: HostKey) -> bool:
    """Whether a host's port stands at the outbound address of explicitly captured clients."""
    return key.port >= PRIVILEGED and at in bound_hosts(r, key)


def _bind(address: str) -> tuple[str, str]:
    """An address of its own, or a network: any address, limited to destinations in it."""
    net = ip_network(address, strict=False)
    return (str(net.network_address), "") if net.num_addresses == 1 else (ANYWHERE, str(net))


def _instances(r: Reader, found: Host, port: HostPort) -> tuple[tuple[str, str], ...]:
    """The addresses of a headless host's instances.

    A host that names no instances at all (ServiceEntry without resolution and endpoints) stands everywhere.
    """
    endpoints = endpoints_of(r, EndpointsKey(found.key, port.number))
    if not endpoints and found.selector is None and not found.kubernetes:
        return ((ANYWHERE, ""),)
    return tuple(sorted({(one.address, "") for one in endpoints if is_ip(one.address)}))


def caller_ports(r: Reader, caller: Caller) -> Iterator[int]:
    """The ports that an explicitly captured client can bind without privileges, but the one of its HTTP proxy."""
    for port in called_ports(r, caller.namespace):
        where = on_port(r, caller.namespace, port)
        if port >= PRIVILEGED and port != caller.http_proxy_port and bound_hosts(r, PortKey(where, port)):
            yield port


def is_called(address: str, families: Families) -> bool:
    """Whether a client may have been told this address: of those that hosts were given it knows its own families'."""
    return not address.startswith(_UNTOLD[families])


def own_sockets(r: Reader, caller: Caller) -> Iterator[tuple[str, int]]:
    """The addresses of their own that a Sidecar gives listeners of an explicitly captured client."""
    for port, scope in scopes_of(r, caller.namespace) if caller.namespace.count("/") == 2 else ():
        address, bound = bound_address(r, scope)
        if port and address and bound and hosts_on_port(r, PortKey(scope, port)):
            yield address, port
