"""Route configurations (RDS) of sidecars and gateways.

A configuration is joined from virtual hosts that are each a rule value of their own, serialised once and shared by all
clients whom no rule tells apart. Semantics and names are Istio's (`pilot/pkg/networking/core`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fairlead.compiler.gateways import GatewaysKey, RouteServersKey
from fairlead.compiler.hosts import PortKey, settings
from fairlead.compiler.routes_gateway import gateway_configuration
from fairlead.compiler.routes_groups import GroupKey, JoinKey, group_names, groups, joined, labels_in
from fairlead.compiler.routes_hosts import (
    ANY,
    PLAIN,
    TUNNEL,
    WITH_PORT,
    Site,
    SiteKey,
    VirtualHostKey,
    http_ports,
    serves_http,
    sidecar_virtual_host,
    site,
    tunnel_hosts,
)
from fairlead.compiler.routes_rules import ClientKey, narrowed
from fairlead.compiler.scope import EVERYWHERE, scope, special
from fairlead.compiler.sidecars import on_port, on_socket, proxy_of
from fairlead.compiler.unknown import unknown
from fairlead.envoy.names import HTTP_PROXY_ROUTE
from fairlead.envoy.resource import ROUTE, Piece, Resource
from fairlead.envoy.route import configuration_head, unknown_hosts
from fairlead.inc import Reader, rule
from fairlead.ir.view import Client, View
from fairlead.model.syntax import UNIX_PREFIX


class SidecarRouteKey(NamedTuple):
    """A route configuration of a sidecar.

    `name` is a port number (`80`), `http_proxy` (what an application sends to its sidecar as to an HTTP proxy), a Unix
    socket (`unix:///path`), or `host:port` (one host on a port whose protocol is detected).
    """

    client: Client
    name: str
    explicit: bool = False
    """Whether the application has no other way out than the HTTP proxy, so that CONNECT must work."""


class GatewayRouteKey(NamedTuple):
    """A route configuration of a gateway: `http.80` or `https.443.PORTNAME.GATEWAY.NAMESPACE`."""

    view: View
    name: str


class _SharedKey(NamedTuple):
    client: ClientKey
    name: str
    explicit: bool = False


class _CommonKey(NamedTuple):
    port: int
    form: str


class _NameKey(NamedTuple):
    client_namespace: str
    name: str


@rule
def sidecar_route(r: Reader, key: SidecarRouteKey) -> Resource | None:
    """A sidecar's route configuration; None for a name that is none of the known forms.

    For a port or host that is gone the configuration is there and knows no host: Envoy may still ask for it while the
    listener drains.
    """
    port = _port_of(key.name)
    if port is None:
        return None
    where = on_port(r, key.client.namespace, port) if port else key.client.namespace
    if key.name.startswith(UNIX_PREFIX):
        where = on_socket(r, where, key.name)
    elif key.name == HTTP_PROXY_ROUTE and not key.explicit:
        apart = proxy_of(r, where)
        where = apart[2] if apart is not None else where
    client = ClientKey(where, key.client.labels)
    asked = route_labels(r, _NameKey(client.namespace, key.name))
    return shared_route(r, _SharedKey(narrowed(client, asked), key.name, key.explicit))


@rule
def gateway_route(r: Reader, key: GatewayRouteKey) -> Resource | None:
    """A gateway's route configuration; None for a name that is none of the known forms."""
    if not key.name.startswith(("http.", "https.")):
        return None
    return shared_gateway_route(r, RouteServersKey(GatewaysKey.of(r, key.view), key.name))


@rule
def shared_gateway_route(r: Reader, key: RouteServersKey) -> Resource:
    """A gateway's route configuration, shared by its replicas."""
    return Resource.of(ROUTE, key.name, gateway_configuration(r, key))


@rule
def route_labels(r: Reader, key: _NameKey) -> tuple[str, ...]:
    """The client labels on which a route configuration depends."""
    single = _single(r, key.client_namespace, key.name)
    if single is not None:
        return single.labels
    return tuple(
        sorted({name for group, _ in _groups(r, key.client_namespace, key.name) for name in labels_in(r, group)})
    )


@rule
def shared_route(r: Reader, key: _SharedKey) -> Resource:
    """A sidecar's route configuration, shared by clients that differ only in labels that nothing asks for."""
    form = ANY if ":" in key.name else PLAIN
    if _names_ports(key.name):
        form = TUNNEL if key.explicit else WITH_PORT
    namespace = key.client.namespace
    plain = form in (ANY, PLAIN)
    head = configuration_head(key.name, ignore_port=plain)
    if form == ANY:
        single = _single(r, namespace, key.name)
        host = b"" if single is None else sidecar_virtual_host(r, _virtual_host(r, key.client, single))
        return Resource.of(ROUTE, key.name, head + host)
    pieces = list(_pieces(r, key.client, key.name, form))
    tail = list(tunnel_hosts(r, namespace)) if form == TUNNEL else []
    attempts = settings(r).headers.attempt_count
    tail.append(unknown_hosts(unknown(r, namespace), connect=form == TUNNEL, attempts=attempts))
    return Resource.joined(ROUTE, key.name, (Piece.of(head), *pieces, Piece.of(b"".join(tail))))


@rule
def common_pieces(r: Reader, key: _CommonKey) -> dict[str, tuple[frozenset[str], Piece]]:
    """The groups of a port as clients have them to whom nothing special applies: the labels on which a group depends,
    and its virtual hosts for a client without these. The value is never changed.

    One value for all namespaces: each reads it once, and not each group.
    """
    found: dict[str, tuple[frozenset[str], Piece]] = {}
    for name in group_names(r, PortKey(EVERYWHERE, key.port)):
        group = GroupKey(EVERYWHERE, key.port, name)
        piece = joined(r, JoinKey(group, ClientKey(EVERYWHERE, ()), key.form))
        found[name] = (frozenset(labels_in(r, group)), piece)
    return found


def _pieces(r: Reader, client: ClientKey, name: str, form: str) -> Iterator[Piece]:
    """The groups of virtual hosts of a route configuration for a client, in order."""
    own = frozenset(label for label, _ in client.labels)
    common: dict[int, dict[str, tuple[frozenset[str], Piece]]] = {}
    for group, near in _groups(r, client.namespace, name):
        if near == EVERYWHERE and group.client_namespace == EVERYWHERE:
            if group.port not in common:
                common[group.port] = common_pieces(r, _CommonKey(group.port, form))
            labels, piece = common[group.port][group.group]
            if labels.isdisjoint(own):
                yield piece
                continue
        yield joined(r, JoinKey(group, narrowed(ClientKey(near, client.labels), labels_in(r, group)), form))


def _virtual_host(r: Reader, client: ClientKey, one: Site) -> VirtualHostKey:
    """The key of a virtual host that answers to every name, so that it is nobody's own."""
    near = special(r, client.namespace).seen_by(one.hostname)
    return VirtualHostKey(narrowed(ClientKey(near, client.labels), one.labels), one.port, one.hostname, ANY)


def _single(r: Reader, namespace: str, name: str) -> Site | None:
    """The only virtual host of a route configuration for one host."""
    port = _port_of(name)
    if ":" not in name or not port:
        return None
    hostname = name.rpartition(":")[0]
    at = SiteKey(special(r, namespace).seen_by(hostname), port, hostname)
    return site(r, at) if serves_http(r, at) else None


def _groups(r: Reader, namespace: str, name: str) -> Iterator[tuple[GroupKey, str]]:
    """The groups of virtual hosts of a route configuration, in order."""
    port = _port_of(name)
    if _names_ports(name):
        for one in http_ports(r, scope(r, namespace)):
            yield from groups(r, PortKey(on_port(r, namespace, one), one))
    elif ":" not in name and port is not None:
        yield from groups(r, PortKey(namespace, port))


def _names_ports(name: str) -> bool:
    """Whether the requests of a route configuration say which port they are for."""
    return name == HTTP_PROXY_ROUTE or name.startswith(UNIX_PREFIX)


def _port_of(name: str) -> int | None:
    """The port that a route name is about; 0 for all of them; None if the name has no known form."""
    if _names_ports(name):
        return 0
    number = name.rpartition(":")[2]
    if not number.isascii() or not number.isdecimal() or len(number) > 5 or not 0 < int(number) < 65536:
        return None
    return int(number)
