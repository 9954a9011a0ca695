"""Parsed resources: each version of a resource is parsed once, when it is first met, and kept within a bound."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from fairlead.envoy.nds_pb2 import NameTable
from fairlead.envoy.resource import Resource

_PORT = re.compile(r":\d+$")
_LIMIT = 32 * 1024 * 1024
"""Serialised bytes of what is kept parsed; the messages take a few times as much."""

T = TypeVar("T")


class Routes:
    """A route configuration with its virtual hosts under their domains."""

    def __init__(self, config: RouteConfiguration) -> None:
        self.config = config
        self._exact: dict[str, int] = {}
        self._suffixes: dict[str, int] = {}
        self._prefixes: dict[str, int] = {}
        self._default = -1
        for at, host in enumerate(config.virtual_hosts):
            for domain in host.domains:
                self._put(domain.lower(), at)
        self._suffix_lengths = sorted({len(one) for one in self._suffixes}, reverse=True)
        self._prefix_lengths = sorted({len(one) for one in self._prefixes}, reverse=True)

    def _put(self, domain: str, at: int) -> None:
        if domain == "*":
            self._default = at
        elif domain.startswith("*"):
            self._suffixes.setdefault(domain[1:], at)
        elif domain.endswith("*"):
            self._prefixes.setdefault(domain[:-1], at)
        else:
            self._exact.setdefault(domain, at)

    def find(self, authority: str) -> tuple[VirtualHost, str, int] | None:
        """The virtual host of a Host header, the domain by which it was found, and its position.

        An exact domain, else the longest `*.suffix`, else the longest `prefix.*`, else `*`.
        """
        name = authority.lower()
        if self.config.ignore_port_in_host_matching:
            name = _PORT.sub("", name)
        domain, at = self._position(name)
        return None if at < 0 else (self.config.virtual_hosts[at], domain, at)

    def _position(self, name: str) -> tuple[str, int]:
        found = self._exact.get(name)
        if found is not None:
            return name, found
        for length in self._suffix_lengths:
            if length < len(name):
                found = self._suffixes.get(name[-length:])
                if found is not None:
                    return f"*{name[-length:]}", found
        for length in self._prefix_lengths:
            if length < len(name):
                found = self._prefixes.get(name[:length])
                if found is not None:
                    return f"{name[:length]}*", found
        return "*", self._default


class World:
    """What has been parsed, by type, name and version. Belongs to one thread; costs nothing for what no walk meets."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[tuple[str, str, str], tuple[object, int]] = OrderedDict()

    def listener(self, resource: Resource) -> Listener:
        """The listener."""
        return self._parsed(resource, Listener.FromString)

    def routes(self, resource: Resource) -> Routes:
        """The route configuration."""
        return self._parsed(resource, lambda body: Routes(RouteConfiguration.FromString(body)))

    def cluster(self, resource: Resource) -> Cluster:
        """The cluster."""
        return self._parsed(resource, Cluster.FromString)

    def endpoints(self, resource: Resource) -> ClusterLoadAssignment:
        """The endpoints of a cluster."""
        return self._parsed(resource, ClusterLoadAssignment.FromString)

    def names(self, resource: Resource) -> Mapping[str, Any]:
        """A name table's rows by host name."""
        return self._parsed(resource, lambda body: dict(NameTable.FromString(body).table))

    def _parsed(self, resource: Resource, parse: Callable[[bytes], T]) -> T:
        key = (resource.type_url, resource.name, resource.version)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return cast("T", found[0])
        made = parse(resource.body)
        self._kept[key] = made, resource.size
        self._size += resource.size
        while self._size > self._limit and len(self._kept) > 1:
            _, (_, size) = self._kept.popitem(last=False)
            self._size -= size
        return made
