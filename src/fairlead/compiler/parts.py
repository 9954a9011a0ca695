"""Which resources a view gets: lists of parts, each a rule and its key, by resource type.

A part is built once and shared by every view that has it. The lists change when something comes or goes; the parts
change when their content does, and then the lists stand. The lists themselves are kept in layers: what proxies have in
common is listed once, however many there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.compiler.clients import caller, client, seen_as
from fairlead.compiler.clusters import (
    ClusterKey,
    Way,
    endpoints_key,
    inbound_cluster,
    inbound_keys,
    named_cluster,
    named_endpoints_key,
    outbound_cluster,
    outbound_keys,
)
from fairlead.compiler.credentials import may_name_secrets, secret, secret_keys
from fairlead.compiler.endpoints import PeersKey, assignment_of, peers_of
from fairlead.compiler.extensions import WorkloadKey, extension, extension_keys
from fairlead.compiler.fixedclusters import fixed_cluster, fixed_keys, tunnel_cluster, tunnel_keys
from fairlead.compiler.gatewaylisteners import gateway_route_names
from fairlead.compiler.gateways import GatewaysKey, joins_networks
from fairlead.compiler.listeners import (
    Calls,
    calls_of,
    http_proxy,
    is_captured,
    outbound_listeners,
    outbound_routes,
    own_listener_keys,
)
from fairlead.compiler.nametable import name_table, name_table_keys
from fairlead.compiler.near import near_of
from fairlead.compiler.ondemand import Learned, Outside, known_hosts, learned_keys, standing_keys
from fairlead.compiler.outbound import outbound_listener
from fairlead.compiler.own import Shared, said_of_shared, shared
from fairlead.compiler.patches import Patched, ProxyKey, added, added_keys, patched, touching
from fairlead.compiler.reduced import reduced
from fairlead.compiler.routes import GatewayRouteKey, SidecarRouteKey, gateway_route, sidecar_route
from fairlead.envoy.names import HTTP_PROXY_ROUTE
from fairlead.envoy.ownshared import Said
from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, NAME_TABLE, ROUTE, SECRET
from fairlead.inc import Reader, Rule, rule
from fairlead.ir.view import Client, View
from fairlead.model.ref import NamespacedName


class Part(NamedTuple):
    """One resource of a view: the rule that makes it (a `Resource` or None), and the key."""

    rule: Rule[Any, Any]
    key: Hashable


class Layer(NamedTuple):
    """Some resources of one type: the rule that lists their parts, and the key. Views share layers of equal keys."""

    type_url: str
    rule: Rule[Any, tuple[Part, ...]]
    key: Hashable


@lru_cache(1024)
def _common(layer: Layer) -> Layer:
    """The first of equal layers, with all that its key says: one object for the views that share it."""
    return layer


class Routed(NamedTuple):
    """What the routes of a sidecar depend on: who calls, where its listeners stand, and its way as an HTTP proxy."""

    client: Client
    calls: Calls | None
    proxied: bool
    explicit: bool


@rule
def layers(r: Reader, view: View) -> tuple[Layer, ...]:
    """The layers of a reduced view; of equal names, what stands first is given."""
    known = known_hosts(r, view)
    peers = PeersKey(view.namespace, view.workload_name, view.locality) if view.knows_peers else None
    if view.workload_name:
        # Nothing but the clusters of others, and where its peers are, depends on which workload it is.
        view = replace(view, workload_name="", knows_peers=False)
    by_name = "name" if view.capture.mode in ("explicit", "none") else ""
    way: Way = "gateway" if view.type == "router" else by_name
    outside = Outside(seen_as(r, caller(r, view)), way, near_of(r, view.client))
    found = [
        Layer(CLUSTER, own_clusters, view),
        *_of_others(outside, known),
    ]
    if view.type == "router" and joins_networks(r, GatewaysKey.of(r, view)):
        found += [Layer(CLUSTER, named_clusters, outside), Layer(ENDPOINT, named_endpoints, outside)]
    if view.type == "router":
        found += [Layer(LISTENER, own_listeners, view), Layer(ROUTE, gateway_routes, view)]
    else:
        calls = calls_of(r, view) if is_captured(view) else None
        if calls is not None:
            found.append(Layer(LISTENER, called_listeners, calls))
        who = client(r, caller(r, view))
        explicit = view.capture.mode == "explicit"
        # Neither filters nor telemetry nor waiting nor families of addresses change which routes a listener has.
        asked = None
        if calls is not None:
            same = replace(calls.caller, telemetry=(), on_demand=False, own=None, families="IPv4")
            asked = calls._replace(labels=(), caller=same)
        routed = Routed(Client(who.namespace, who.labels), asked, http_proxy(r, view) is not None, explicit)
        found += [Layer(LISTENER, own_listeners, view), Layer(ROUTE, sidecar_routes, routed)]
    if may_name_secrets(r, view):
        found.append(Layer(SECRET, own_secrets, view))
    workload = WorkloadKey(view.namespace, view.labels)
    if extension_keys(r, workload):
        found.append(Layer(EXTENSION, fetched_extensions, workload))
    if view.capture.mode in ("netns", "redirect"):
        found.append(Layer(NAME_TABLE, known_names, outside.client.namespace))
    if peers is not None:
        found.append(Layer(ENDPOINT, own_peers, peers))
    said = said_of_shared(r, view)
    if said is not None:
        found = [_as_said(one, said) for one in found]
    proxy = ProxyKey.of(r, view)
    if proxy.sets:
        found = list(_with_patches(r, proxy, found))
    return tuple([one if one.key is view else _common(one) for one in found])


def _of_others(outside: Outside, known: tuple[str, ...] | None) -> tuple[Layer, ...]:
    """Clusters and endpoints of other services: all, or those that nobody could ask for and those of known hosts."""
    if known is None:
        return Layer(CLUSTER, outbound_clusters, outside), Layer(ENDPOINT, outbound_endpoints, outside)
    learned = Learned(outside, known)
    return (
        Layer(CLUSTER, standing_clusters, outside),
        Layer(CLUSTER, learned_clusters, learned),
        Layer(ENDPOINT, standing_endpoints, outside),
        Layer(ENDPOINT, learned_endpoints, learned),
    )


class SaidLayer(NamedTuple):
    """A layer of which a workload says something itself."""

    layer: Layer
    said: Said


def _as_said(one: Layer, said: Said) -> Layer:
    made_by = SAID.get(one.type_url) if one.type_url == CLUSTER or said.headers is not None else None
    return one if made_by is None else Layer(one.type_url, made_by, SaidLayer(one, said))


def _said_parts(r: Reader, key: SaidLayer) -> tuple[Part, ...]:
    inner = key.layer.rule(r, key.layer.key)
    return tuple(Part(shared, Shared(one.rule, one.key, key.said)) for one in inner)


SAID: Mapping[str, Rule[SaidLayer, tuple[Part, ...]]] = {
    CLUSTER: Rule("parts.said_clusters", _said_parts),
    ROUTE: Rule("parts.said_routes", _said_parts),
}


class PatchedLayer(NamedTuple):
    """A layer whose resources objects patch, for proxies of one type."""

    layer: Layer
    sets: tuple[NamespacedName, ...]
    proxy: ProxyKey


class AddedLayer(NamedTuple):
    """The resources of one type that objects add."""

    type_url: str
    proxy: ProxyKey


def _with_patches(r: Reader, proxy: ProxyKey, found: list[Layer]) -> Iterator[Layer]:
    for layer in found:
        sets = touching(r, proxy, layer.type_url)
        if not sets:
            yield layer
            continue
        yield Layer(layer.type_url, PATCHED[layer.type_url], PatchedLayer(layer, sets, proxy))
    for type_url, made_by in ADDED.items():
        if added_keys(r, proxy, type_url):
            yield Layer(type_url, made_by, AddedLayer(type_url, proxy))


def _patched_parts(r: Reader, key: PatchedLayer) -> tuple[Part, ...]:
    inner = key.layer.rule(r, key.layer.key)
    return tuple(
        Part(patched, Patched(one.rule, one.key, key.layer.type_url, key.proxy.only(key.sets))) for one in inner
    )


def _added_parts(r: Reader, key: AddedLayer) -> tuple[Part, ...]:
    return tuple(Part(added, one) for one in added_keys(r, key.proxy, key.type_url))


PATCHED: Mapping[str, Rule[PatchedLayer, tuple[Part, ...]]] = {
    CLUSTER: Rule("parts.patched_clusters", _patched_parts),
    LISTENER: Rule("parts.patched_listeners", _patched_parts),
    ROUTE: Rule("parts.patched_routes", _patched_parts),
}
ADDED: Mapping[str, Rule[AddedLayer, tuple[Part, ...]]] = {
    CLUSTER: Rule("parts.added_clusters", _added_parts),
    LISTENER: Rule("parts.added_listeners", _added_parts),
    EXTENSION: Rule("parts.added_extensions", _added_parts),
}


class PartsKey(NamedTuple):
    """The parts of one resource type for a view."""

    type_url: str
    view: View


@rule
def parts(r: Reader, key: PartsKey) -> tuple[Part, ...]:
    """The parts of one type that a view gets, all layers together, in a fixed order (for tools and tests)."""
    return tuple(
        part for one in layers(r, reduced(r, key.view)) if one.type_url == key.type_url for part in one.rule(r, one.key)
    )


@rule
def own_clusters(r: Reader, view: View) -> tuple[Part, ...]:
    """The clusters that lead to the workload itself, and those that lead nowhere in particular."""
    return (
        *(Part(fixed_cluster, at) for at in fixed_keys(r, view)),
        *(Part(tunnel_cluster, at) for at in tunnel_keys(r, view)),
        *(Part(inbound_cluster, at) for at in inbound_keys(r, view)),
    )


@rule
def outbound_clusters(r: Reader, key: Outside) -> tuple[Part, ...]:
    """The clusters of other services."""
    return tuple(Part(outbound_cluster, at) for at in _outbound(r, key))


@rule
def outbound_endpoints(r: Reader, key: Outside) -> tuple[Part, ...]:
    """The endpoints of other services."""
    return _assignments(r, _outbound(r, key))


@rule
def standing_clusters(r: Reader, key: Outside) -> tuple[Part, ...]:
    """The clusters of other services that are there without being asked for."""
    return tuple(Part(outbound_cluster, at) for at in standing_keys(r, key))


@rule
def standing_endpoints(r: Reader, key: Outside) -> tuple[Part, ...]:
    """The endpoints of such clusters."""
    return _assignments(r, standing_keys(r, key))


@rule
def learned_clusters(r: Reader, key: Learned) -> tuple[Part, ...]:
    """The clusters of hosts that a workload is known to call."""
    return tuple(Part(outbound_cluster, at) for at in learned_keys(r, key))


@rule
def learned_endpoints(r: Reader, key: Learned) -> tuple[Part, ...]:
    """The endpoints of such clusters."""
    return _assignments(r, learned_keys(r, key))


@rule
def named_clusters(r: Reader, key: Outside) -> tuple[Part, ...]:
    """The clusters of all services that a gateway between networks chooses by SNI."""
    return tuple(Part(named_cluster, at) for at in _outbound(r, key))


@rule
def named_endpoints(r: Reader, key: Outside) -> tuple[Part, ...]:
    """The endpoints of such clusters."""
    found = (named_endpoints_key(r, at) for at in _outbound(r, key))
    return tuple(Part(assignment_of, at) for at in dict.fromkeys(found) if at is not None)


@rule
def own_peers(_: Reader, key: PeersKey) -> tuple[Part, ...]:
    """The endpoints of the proxy's own workload."""
    return (Part(peers_of, key),)


@rule
def called_listeners(r: Reader, calls: Calls) -> tuple[Part, ...]:
    """The listeners at which calls of other services arrive."""
    return tuple(Part(outbound_listener, at) for at in outbound_listeners(r, calls))


@rule
def own_listeners(r: Reader, view: View) -> tuple[Part, ...]:
    """A view's own listeners."""
    return tuple(dict.fromkeys(Part(made_by, key) for made_by, key in own_listener_keys(r, view)))


@rule
def gateway_routes(r: Reader, view: View) -> tuple[Part, ...]:
    """The route configurations to which a gateway's listeners refer."""
    return tuple(Part(gateway_route, GatewayRouteKey(view, name)) for name in gateway_route_names(r, view))


@rule
def sidecar_routes(r: Reader, key: Routed) -> tuple[Part, ...]:
    """The route configurations to which a sidecar's listeners refer."""
    names = list(outbound_routes(r, key.calls)) if key.calls is not None else []
    if key.proxied:
        names.append(HTTP_PROXY_ROUTE)
    return tuple(
        Part(sidecar_route, SidecarRouteKey(key.client, name, key.explicit and name == HTTP_PROXY_ROUTE))
        for name in dict.fromkeys(names)
    )


@rule
def own_secrets(r: Reader, view: View) -> tuple[Part, ...]:
    """The secrets to which a view's listeners refer."""
    return tuple(Part(secret, at) for at in secret_keys(r, view))


@rule
def fetched_extensions(r: Reader, key: WorkloadKey) -> tuple[Part, ...]:
    """The extensions of a workload whose modules its agent fetches."""
    return tuple(Part(extension, at) for at in extension_keys(r, key))


@rule
def known_names(r: Reader, client_namespace: str) -> tuple[Part, ...]:
    """The names that the agent resolves for applications of a namespace."""
    return tuple(Part(name_table, at) for at in name_table_keys(r, client_namespace))


TYPE_OF: Mapping[Rule[Any, Any], str] = {
    own_clusters: CLUSTER,
    outbound_clusters: CLUSTER,
    outbound_endpoints: ENDPOINT,
    standing_clusters: CLUSTER,
    standing_endpoints: ENDPOINT,
    learned_clusters: CLUSTER,
    learned_endpoints: ENDPOINT,
    named_clusters: CLUSTER,
    named_endpoints: ENDPOINT,
    own_peers: ENDPOINT,
    called_listeners: LISTENER,
    own_listeners: LISTENER,
    gateway_routes: ROUTE,
    sidecar_routes: ROUTE,
    own_secrets: SECRET,
    fetched_extensions: EXTENSION,
    known_names: NAME_TABLE,
    **{made_by: type_url for type_url, made_by in (*SAID.items(), *PATCHED.items(), *ADDED.items())},
}
"""The resource type that each list of parts is of."""


def _assignments(r: Reader, keys: tuple[ClusterKey, ...]) -> tuple[Part, ...]:
    found = (endpoints_key(r, at) for at in keys)
    return tuple(Part(assignment_of, at) for at in dict.fromkeys(found) if at is not None)


def _outbound(r: Reader, key: Outside) -> tuple[ClusterKey, ...]:
    return outbound_keys(r, (key.client.namespace, key.client.labels, key.by_name, key.near))
