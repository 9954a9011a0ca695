"""What a route does with a request: answers it, or changes it and sends it to a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, WeightedCluster

from fairlead.envoy import names
from fairlead.envoy.resource import CLUSTER
from fairlead.simulate.connection import Inside
from fairlead.simulate.exchange import Exchange
from fairlead.simulate.forwarding import Wanted
from fairlead.simulate.message import change_headers
from fairlead.simulate.origins import child
from fairlead.simulate.routing import REDIRECT_CODES, Share, hash_words, location, rewritten

_RETRIED = frozenset(("connect-failure", "reset", "5xx", "gateway-error"))
"""Conditions of a retry policy under which a connection that fails is tried again."""


class Sent(NamedTuple):
    """A request on its way to a cluster; `retried` is whether it is tried again where no connection can be made."""

    wanted: Wanted
    retried: bool


def route_request(exchange: Exchange, inside: Inside) -> Sent:
    """Serve the request by its route. Raises Ended where the route answers it, or there is none."""
    exchange.tell_route()
    route = exchange.selected.route
    assert route is not None
    kind = route.WhichOneof("action")
    if kind == "redirect":
        _redirect(exchange, route)
    if kind == "direct_response":
        status = route.direct_response.status
        origins, said = child(exchange.origins(), "directResponse"), "the route answers by itself"
        if route.name == names.BLOCK_ALL:
            origins = exchange.visit.mesh.origins.limiting(exchange.visit.proxy.view)
            said = f"{exchange.message.authority} is no host that the proxy sees, and others are not forwarded"
        exchange.visit.say("local reply", str(status), said, origins, passed=status < 400)
        raise exchange.visit.end(status, "", "direct_response")
    if kind != "route":
        exchange.visit.trail.doubt(f"a route action of kind {kind} is not modelled")
        raise exchange.visit.end(0, "", "unknown")
    chosen = _chosen(exchange, route)
    _tell_policies(exchange, route)
    _change(exchange, route, chosen)
    missing = 500 if route.route.cluster_not_found_response_code == RouteAction.INTERNAL_SERVER_ERROR else 503
    if route.route.cluster_not_found_response_code == RouteAction.NOT_FOUND:
        missing = 404
    origins = exchange.visit.mesh.origins.destination(route, chosen.at) or exchange.host_origins()
    wanted = Wanted(chosen.cluster, exchange.message.authority, inside, missing, origins=origins)
    return Sent(wanted, _is_retried(route.route))


def _redirect(exchange: Exchange, route: Route) -> None:
    status = REDIRECT_CODES[route.redirect.response_code]
    where = location(route.redirect, route.match, exchange.message)
    origins = child(exchange.origins(), "redirect")
    exchange.visit.say("local reply", str(status), f"redirects to {where}", origins)
    raise exchange.visit.end(status, "", "direct_response")


def _chosen(exchange: Exchange, route: Route) -> Share:
    """The cluster that gets most; the others are told."""
    found = exchange.shares()
    if not found:
        exchange.visit.say("cluster", route.name, "no cluster has any weight", exchange.origins(), passed=False)
        raise exchange.visit.end(503, "NC", "cluster_not_found")
    first, *others = found
    if others:
        parts = ", ".join(f"{100 * one.weight / one.total:g} % to {one.cluster}" for one in found)
        said = f"{parts}; the walk follows the first"
        exchange.visit.say("route", route.name, said, child(exchange.origins(), "route"), setting=exchange.setting())
    exchange.visit.name(cluster=first.cluster)
    return first


def _tell_policies(exchange: Exchange, route: Route) -> None:
    said = list(_policies(route.route))
    if said:
        fields = ("timeout", "retries", "mirrors", "mirror")
        origins = exchange.visit.mesh.origins.fields(exchange.origins(), *fields)
        exchange.visit.say("route", route.name, "; ".join(said), origins, setting=exchange.setting())
    _tell_mirrors(exchange, route)


def _tell_mirrors(exchange: Exchange, route: Route) -> None:
    """Say where a copy of the request goes nowhere; the request itself is not concerned."""
    visit = exchange.visit
    for one in route.route.request_mirror_policies:
        known = one.cluster in visit.catalog[CLUSTER]
        if not known and visit.proxy.view.on_demand:
            known = visit.mesh.on_demand(visit.proxy.view, one.cluster)[0] is not None
        if one.cluster and not known:
            said = f"mirrored to {one.cluster}, and the proxy has no such cluster: the copy is dropped"
            origins = visit.mesh.origins.fields(exchange.origins(), "mirrors", "mirror")
            visit.say("route", route.name, said, origins, setting=exchange.setting())


def _policies(action: RouteAction) -> Iterator[str]:
    timeout = action.timeout.ToTimedelta().total_seconds()
    if timeout:
        yield f"timeout {timeout:g} s"
    retry = action.retry_policy
    if action.HasField("retry_policy") and retry.num_retries.value:
        yield f"{retry.num_retries.value} retries on {retry.retry_on}"
    for one in action.request_mirror_policies:
        yield f"mirrored to {one.cluster}"
    if action.hash_policy:
        yield f"the endpoint is chosen by {hash_words(action)}"
    if action.HasField("metadata_match"):
        yield "only endpoints with the metadata that the route asks for"


def _is_retried(action: RouteAction) -> bool:
    if not action.HasField("retry_policy") or (
        action.retry_policy.HasField("num_retries") and not action.retry_policy.num_retries.value
    ):
        return False
    return bool(_RETRIED & set(action.retry_policy.retry_on.split(",")))


def _change(exchange: Exchange, route: Route, chosen: Share) -> None:
    """Headers, path and host as the next hop sees them: from the most specific configuration outwards."""
    message = exchange.message
    said = rewritten(route, message)
    holders: list[Any] = []
    if chosen.at >= 0:
        weighted: WeightedCluster.ClusterWeight = route.route.weighted_clusters.clusters[chosen.at]
        if weighted.host_rewrite_literal and weighted.host_rewrite_literal != message.authority:
            said.append(f"host {message.authority} becomes {weighted.host_rewrite_literal}")
            message.authority = weighted.host_rewrite_literal
        holders.append(weighted)
    found = exchange.selected
    holders += [route, found.host, found.routes.config if found.routes is not None else None]
    for one in holders:
        if one is not None:
            said += change_headers(message, one.request_headers_to_remove, one.request_headers_to_add)
    if said:
        origins = exchange.visit.mesh.origins.fields(exchange.origins(), "rewrite", "headers")
        exchange.visit.say("route", route.name, "; ".join(said), origins, setting=exchange.setting())
