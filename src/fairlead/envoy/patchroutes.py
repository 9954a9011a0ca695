"""Patches applied to a route configuration, its virtual hosts and their routes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from fairlead.envoy.patching import MERGES, Patches, edit, merge_into, put, value_of
from fairlead.ir.patch import Context, Patch

_CHANGING = (*MERGES, "REMOVE")
_ACTIONS = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}


class RouteSite(msgspec.Struct, frozen=True):
    """Where a route configuration stands: its name and port; of a gateway also the servers that it is for.

    A server is the Gateway as `namespace/name` with the name and number of its port.
    """

    name: str
    port: int = 0
    servers: tuple[tuple[str, str, int], ...] = ()


def patched_routes(body: bytes, site: RouteSite, patches: Patches, context: Context) -> bytes:
    """A serialised route configuration after the patches. It costs nothing where none is for it."""
    if not any(_is_site(site, one) for one in _all(patches, context)):
        return body
    routes = RouteConfiguration.FromString(body)
    patch_routes(routes, site, patches, context)
    return routes.SerializeToString(deterministic=True)


def patch_routes(routes: RouteConfiguration, site: RouteSite, patches: Patches, context: Context) -> None:
    """Apply the patches to a route configuration: itself, then its virtual hosts, then their routes."""
    for patch in patches.of("ROUTE_CONFIGURATION", context):
        if patch.operation in MERGES and _is_site(site, patch):
            patches.took(patch)
            merge_into(routes, patch)
    hosts = [one for one in patches.of("VIRTUAL_HOST", context) if _is_site(site, one)]
    each = [one for one in patches.of("HTTP_ROUTE", context) if _is_site(site, one)]
    kept: list[VirtualHost] = []
    for host in routes.virtual_hosts if hosts or each else ():
        if _patched_host(host, hosts, patches):
            _host_routes(host, each, patches)
            kept.append(host)
    for patch in hosts:
        if patch.operation == "ADD":
            patches.took(patch)
            kept.append(value_of(patch))
    if hosts or each:
        put(routes.virtual_hosts, kept)


def _all(patches: Patches, context: Context) -> Iterable[Patch]:
    yield from patches.of("ROUTE_CONFIGURATION", context)
    yield from patches.of("VIRTUAL_HOST", context)
    yield from patches.of("HTTP_ROUTE", context)


def _is_site(site: RouteSite, patch: Patch) -> bool:
    wanted = patch.routes
    if wanted.name and wanted.name != site.name:
        return False
    if not site.servers:
        return not wanted.gateway and not wanted.port_name and (not wanted.port or wanted.port == site.port)
    return any(
        (not wanted.gateway or wanted.gateway == gateway)
        and (not wanted.port_name or wanted.port_name == name)
        and (not wanted.port or wanted.port in (number, site.port))
        for gateway, name, number in site.servers
    )


def _is_host(host: VirtualHost, patch: Patch) -> bool:
    wanted = patch.routes
    return (not wanted.host or wanted.host == host.name) and (not wanted.domain or wanted.domain in host.domains)


def _patched_host(host: VirtualHost, wanted: list[Patch], patches: Patches) -> bool:
    for patch in wanted:
        if patch.operation in (*MERGES, "REMOVE", "REPLACE") and _is_host(host, patch):
            patches.took(patch)
            if patch.operation == "REMOVE":
                return False
            if patch.operation == "REPLACE":
                host.CopyFrom(value_of(patch))
            else:
                merge_into(host, patch)
    return True


def _host_routes(host: VirtualHost, wanted: list[Patch], patches: Patches) -> None:
    # Routes that are added are no concern of what changes or removes some, as in Istio.
    changing = [one for one in wanted if one.operation in _CHANGING]
    for patch in (*changing, *(one for one in wanted if one.operation not in _CHANGING)):
        if not _is_host(host, patch):
            continue
        match = patch.routes
        constrained = bool(match.route) or match.action != "ANY"
        if patch.operation == "INSERT_FIRST" and not any(_is_route(one, patch) for one in host.routes) and constrained:
            continue
        made, took = edit(host.routes, patch, lambda one, patch=patch: _is_route(one, patch), constrained=constrained)
        if took:
            patches.took(patch)
            put(host.routes, made)


def _is_route(route: Route, patch: Patch) -> bool:
    wanted = patch.routes
    if wanted.route and wanted.route != route.name:
        return False
    return wanted.action == "ANY" or route.WhichOneof("action") == _ACTIONS[wanted.action]
