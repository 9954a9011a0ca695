"""Hosts: what clients call by name. Services and ServiceEntries become hosts."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_network
from typing import Literal, NamedTuple

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.locality import NETWORK, LocalityLb
from fairlead.ir.protocol import Protocol
from fairlead.ir.visibility import concerned
from fairlead.model.diagnostic import Origin

SLICE = "EndpointSlice/"
"""How the owner of endpoints begins that an EndpointSlice has; no object's name has a slash."""


ALLOCATED = (ip_network("240.240.0.0/16"), ip_network("2001:2::/48"))
"""Where addresses are from that hosts without any are given (Istio's ranges); nobody routes them."""


class Resolution(StrEnum):
    """How endpoints of a host are found (Istio `model.Resolution`)."""

    CLIENT_SIDE_LB = "ClientSideLB"
    DNS_LB = "DNSLB"
    DNS_ROUND_ROBIN = "DNSRoundRobin"
    PASSTHROUGH = "Passthrough"
    DYNAMIC_DNS = "DynamicDNS"


class HostKey(NamedTuple):
    """A host name in the namespace of the object that defines it."""

    hostname: str
    namespace: str


class HostPort(msgspec.Struct, frozen=True):
    """A port of a host. `target` is the port on the endpoints, by number or by name ("" or 0: the same number)."""

    number: int
    name: str
    protocol: Protocol
    target: int | str = 0


class Host(msgspec.Struct, frozen=True):
    """A host name that clients may call.

    `addresses` are virtual addresses (or CIDRs); none for headless hosts. `selector` chooses workloads of the
    namespace; None where endpoints are listed by the object itself. `created` orders objects that claim one name.
    `allocated` are addresses that a host without any was given, to be called at by clients that look its name up here.
    `sticky` says that one client keeps one instance (a Service's sessionAffinity).
    `alias` is the name for which the host merely stands (ExternalName). `joined` names the objects that have added
    ports to it, besides `name` (see `join_hosts`). `locality` is what the object itself says of close endpoints.
    `service_accounts` are accounts of its namespace that its instances may have besides those that they are known by.
    `limit` is how far the mesh lets it be seen, where that is not everywhere; `export_to` is what is left of it.
    `outside` are addresses or DNS names at which other networks reach it (a load balancer's, and externalIPs).
    """

    key: HostKey
    origin: Origin
    ports: tuple[HostPort, ...]
    resolution: Resolution
    addresses: tuple[str, ...] = ()
    external: bool = False
    export_to: tuple[str, ...] = ()
    selector: Pairs | None = None
    labels: Pairs = ()
    name: str = ""
    created: str = ""
    subject_alt_names: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    kubernetes: bool = True
    publish_not_ready: bool = False
    alias: str = ""
    joined: tuple[str, ...] = ()
    locality: LocalityLb | None = None
    sticky: bool = False
    allocated: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    limit: Literal["", "NAMESPACE", "NONE"] = ""

    @property
    def stands_at_instances(self) -> bool:
        """Whether the host has no virtual address, so that clients call its instances."""
        return self.resolution is Resolution.PASSTHROUGH and not self.addresses

    @property
    def is_looked_up(self) -> bool:
        """Whether the name that a client asks for is looked up for each request."""
        return self.resolution is Resolution.DYNAMIC_DNS

    def is_defined_by(self, owner: str) -> bool:
        """Whether the object of this name has a part in the host ("": the only one that can)."""
        return owner in ("", self.name, *self.joined) or (
            self.kubernetes and not self.alias and owner.startswith(SLICE)
        )

    def port(self, number: int) -> HostPort | None:
        """The port with this number."""
        return next((port for port in self.ports if port.number == number), None)


def _ports(_: HostKey, host: Host) -> list[int]:
    return [port.number for port in host.ports]


def chunk_of(hostname: str) -> str:
    """The chunk of a name: its second label, which is the namespace of a service.

    Rules that list hosts do so by chunks: where one host comes or goes, only its chunk is looked at again.
    """
    return hostname.partition(".")[2].partition(".")[0]


def _port_chunks(key: HostKey, host: Host) -> list[tuple[int, str]]:
    chunk = chunk_of(key.hostname)
    return [(port.number, chunk) for port in host.ports]


def _selector(key: HostKey, host: Host) -> list[tuple[str, str, str]]:
    if host.selector is None:
        return []
    name, value = host.selector[0] if host.selector else ("", "")
    return [(key.namespace, name, value)]


def join_hosts(one: Host, other: Host) -> Host | None:
    """One host out of two objects of a namespace that define the same name, None where they cannot be one.

    Istio joins ServiceEntries that differ in their ports; of a port that both have the first one's definition counts.
    """
    if one.kubernetes or other.kubernetes:
        return None
    same = ("resolution", "selector", "external", "export_to")
    if any(getattr(one, field) != getattr(other, field) for field in same):
        return None
    return msgspec.structs.replace(
        one,
        ports=(*one.ports, *(port for port in other.ports if one.port(port.number) is None)),
        addresses=tuple(dict.fromkeys((*one.addresses, *other.addresses))),
        subject_alt_names=tuple(dict.fromkeys((*one.subject_alt_names, *other.subject_alt_names))),
        created=min(one.created, other.created),
        allocated=tuple(dict.fromkeys((*one.allocated, *other.allocated))),
        joined=(*one.joined, other.name, *other.joined),
    )


HOSTS: Table[HostKey, Host] = Table("hosts", stage=1, join=join_hosts)
"""Hosts by name and namespace."""
HOSTS_ALL = HOSTS.index("all", lambda key, host: [""])
"""Every host, under "": for the few rules that list what a proxy may see."""
HOSTS_BY_NAME = HOSTS.index("name", lambda key, host: [key.hostname])
HOSTS_BY_PORT = HOSTS.index("port", _ports)
HOSTS_BY_CHUNK = HOSTS.index("chunk", lambda key, host: [chunk_of(key.hostname)])
"""Hosts under the chunks of their names (see `chunk_of`)."""
HOSTS_BY_PORT_CHUNK = HOSTS.index("port-chunk", _port_chunks)
"""Hosts under each of their ports and the chunk."""
HOSTS_BY_ADDRESS = HOSTS.index("address", lambda key, host: host.addresses)
"""Hosts under each of their virtual addresses."""
HOSTS_CONCERNING = HOSTS.index("concerning", lambda key, host: concerned(host.export_to, key.namespace))
"""Hosts that are not shown everywhere, under each namespace to which they are shown."""
HOSTS_DECLARED = HOSTS.index("declared", lambda key, host: [] if host.kubernetes else [""])
"""Hosts whose names are free to choose (ServiceEntry), under ""."""
HOSTS_BY_ALIAS = HOSTS.index("alias", lambda key, host: [host.alias] if host.alias else [])
"""Hosts under the name for which they stand."""
HOSTS_ALIASING = HOSTS.index("aliasing", lambda key, host: [key.namespace] if host.alias else [])
"""Hosts that stand for other names, under their namespaces."""
HOSTS_NEAR = HOSTS.index("near", lambda key, host: [""] if host.locality else [])
"""Hosts that prefer close endpoints, under ""."""
HOSTS_LOOKED_UP = HOSTS.index("looked-up", lambda key, host: [""] if host.resolution is Resolution.DYNAMIC_DNS else [])
"""Hosts whose names are looked up as clients ask for them, under ""."""
HOSTS_INTO_NETWORKS = HOSTS.index(
    "into-networks", lambda key, host: [""] if host.kubernetes and dict(host.labels).get(NETWORK) else []
)
"""Services whose label says into which network they lead, under ""."""
HOSTS_BY_NAMESPACE = HOSTS.index("namespace", lambda key, host: [key.namespace])
HOSTS_AT_INSTANCES = HOSTS.index("at-instances", lambda key, host: [""] if host.stands_at_instances else [])
"""Hosts without a virtual address whose ports stand at the addresses of their instances, under ""."""
HOSTS_BY_SELECTOR = HOSTS.index("selector", _selector)
"""Hosts with a selector, under (namespace, first label, its value) of the selector; ("", "") if it is empty."""
