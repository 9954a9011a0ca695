"""Which resources a view gets: the list of parts, each a rule and its key, by resource type.

A part is built once and shared by every view that has it. The lists change when something comes or goes; the parts
change when their content does, and then the lists stand.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.compiler.clients import client
from fairlead.compiler.clusters import (
    endpoints_key,
    fixed_cluster,
    fixed_keys,
    inbound_cluster,
    inbound_keys,
    outbound_cluster,
    outbound_keys,
    tunnel_cluster,
    tunnel_keys,
)
from fairlead.compiler.credentials import secret, secret_keys
from fairlead.compiler.endpoints import assignment_of
from fairlead.compiler.listeners import ListenerKey, listener, listener_names, route_names
from fairlead.compiler.nametable import name_table
from fairlead.compiler.routes import GatewayRouteKey, SidecarRouteKey, gateway_route, sidecar_route
from fairlead.compiler.serving import telling_addresses
from fairlead.envoy.names import HTTP_PROXY_ROUTE
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET
from fairlead.inc import Reader, Rule, rule
from fairlead.ir.view import View


class Part(NamedTuple):
    """One resource of a view: the rule that makes it (a `Resource` or None), and the key."""

    rule: Rule[Any, Any]
    key: Hashable


class PartsKey(NamedTuple):
    """The parts of one resource type for a view."""

    type_url: str
    view: View


@rule
def parts(r: Reader, key: PartsKey) -> tuple[Part, ...]:
    """The parts of one type that a view gets, in a fixed order."""
    view = key.view
    match key.type_url:
        case t if t == CLUSTER:
            return _clusters(r, view)
        case t if t == ENDPOINT:
            return _endpoints(r, view)
        case t if t == LISTENER:
            return tuple(Part(listener, ListenerKey(view, name)) for name in listener_names(r, view))
        case t if t == ROUTE:
            return _routes(r, view)
        case t if t == SECRET:
            return tuple(Part(secret, at) for at in secret_keys(r, view))
        case t if t == NAME_TABLE and view.capture.mode in ("netns", "redirect"):
            return (Part(name_table, view.namespace),)
        case _:
            return ()


def _outbound(r: Reader, view: View) -> tuple[Any, ...]:
    who = client(r, view.client)
    return outbound_keys(r, (who.namespace, who.labels, view.capture.mode in ("explicit", "none")))


def _clusters(r: Reader, view: View) -> tuple[Part, ...]:
    return (
        *(Part(fixed_cluster, at) for at in fixed_keys(r, view)),
        *(Part(tunnel_cluster, at) for at in tunnel_keys(r, view)),
        *(Part(inbound_cluster, at) for at in inbound_keys(r, view)),
        *(Part(outbound_cluster, at) for at in _outbound(r, view)),
    )


def _endpoints(r: Reader, view: View) -> tuple[Part, ...]:
    found = (endpoints_key(r, at) for at in _outbound(r, view))
    return tuple(Part(assignment_of, at) for at in dict.fromkeys(found) if at is not None)


def _routes(r: Reader, view: View) -> tuple[Part, ...]:
    names = route_names(r, view)
    if view.type == "router":
        # A gateway's routes hardly ever depend on its addresses: gateways of one deployment share them.
        shared = replace(view, addresses=telling_addresses(r, view.addresses), workload_name="")
        return tuple(Part(gateway_route, GatewayRouteKey(shared, name)) for name in names)
    who = client(r, view.client)
    explicit = view.capture.mode == "explicit"
    return tuple(
        Part(sidecar_route, SidecarRouteKey(who, name, explicit and name == HTTP_PROXY_ROUTE)) for name in names
    )
