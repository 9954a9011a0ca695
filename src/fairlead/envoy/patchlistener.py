"""Patches applied to a listener: itself, its listener filters, filter chains, their filters, and inlined routes."""

from __future__ import annotations

from collections.abc import Callable

from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)

from fairlead.envoy import names
from fairlead.envoy.pack import pack
from fairlead.envoy.patching import MERGES, Patches, edit, in_passes, is_named, merge_into, put, value_of
from fairlead.envoy.patchroutes import RouteSite, patch_routes
from fairlead.ir.patch import Context, Patch

_HTTP = "envoy.filters.network.http_connection_manager"
_ROUTER = "envoy.filters.http.router"
_AUTHN = ("envoy.filters.http.jwt_authn", "istio_authn")
_AUTHZ = (*_AUTHN, "envoy.filters.http.rbac", "envoy.filters.http.ext_authz")
_VIRTUAL = (names.VIRTUAL_INBOUND, names.VIRTUAL_OUTBOUND)
_STATS = ("envoy.filters.http.grpc_stats",)


def patched_listener(body: bytes, patches: Patches, role: str) -> bytes | None:
    """A serialised listener after the patches, or None if they remove it."""
    listener = Listener.FromString(body)
    context = listener_context(listener.name, role)
    for patch in patches.of("LISTENER", context):
        if patch.operation not in (*MERGES, "REMOVE") or not _is_listener(listener, patch):
            continue
        patches.took(patch)
        if patch.operation == "REMOVE":
            return None
        merge_into(listener, patch)
    _listener_filters(listener, patches, context)
    _chains(listener, patches, context)
    return listener.SerializeToString(deterministic=True)


def listener_context(name: str, role: str) -> Context:
    """For which direction of a proxy's traffic a listener is."""
    if role == "router":
        return "GATEWAY"
    return "SIDECAR_INBOUND" if name == names.VIRTUAL_INBOUND else "SIDECAR_OUTBOUND"


def _listener_filters(listener: Listener, patches: Patches, context: Context) -> None:
    for patch in in_passes(patches.of("LISTENER_FILTER", context)):
        wanted = patch.listener.listener_filter
        if not _is_listener(listener, patch) or _removes_all(patch, wanted):
            continue
        made, took = edit(
            listener.listener_filters,
            patch,
            lambda one, wanted=wanted: is_named(one.name, wanted),
            constrained=bool(wanted),
        )
        if took:
            patches.took(patch)
            put(listener.listener_filters, made)


def _chains(listener: Listener, patches: Patches, context: Context) -> None:
    kept: list[FilterChain] = []
    for chain in listener.filter_chains:
        if _patched_chain(listener, chain, patches, context):
            kept.append(chain)
    if listener.HasField("default_filter_chain"):
        chain = listener.default_filter_chain
        if not _patched_chain(listener, chain, patches, context):
            listener.ClearField("default_filter_chain")
    for patch in patches.of("FILTER_CHAIN", context):
        if patch.operation == "ADD" and _is_listener(listener, patch):
            patches.took(patch)
            kept.append(value_of(patch))
    put(listener.filter_chains, kept)


def _patched_chain(listener: Listener, chain: FilterChain, patches: Patches, context: Context) -> bool:
    """Apply what there is for a chain and its filters; False if the chain is removed."""

    def is_here(patch: Patch) -> bool:
        return _is_listener(listener, patch) and _is_chain(listener, chain, patch)

    for patch in patches.of("FILTER_CHAIN", context):
        if patch.operation in (*MERGES, "REMOVE") and is_here(patch):
            patches.took(patch)
            if patch.operation == "REMOVE":
                return False
            merge_into(chain, patch)
    for patch in in_passes(patches.of("NETWORK_FILTER", context)):
        if is_here(patch):
            _network_filter(chain, patch, patches)
    for one in chain.filters:
        if one.name == _HTTP:
            _manager(one, is_here, patches, context)
    return True


def _network_filter(chain: FilterChain, patch: Patch, patches: Patches) -> None:
    wanted = patch.listener.chain.filter
    if _removes_all(patch, wanted):
        return
    made, took = edit(
        chain.filters, patch, lambda one: is_named(one.name, wanted), constrained=bool(wanted), place=_before_terminal
    )
    if took:
        patches.took(patch)
        put(chain.filters, made)


def _before_terminal(items: list[Filter]) -> int:
    """Where a network filter is added: Envoy takes nothing behind the filter that ends the chain."""
    last = items[-1].name if items else ""
    return len(items) - (last in (_HTTP, "envoy.filters.network.tcp_proxy"))


def _manager(holder: Filter, is_here: Callable[[Patch], bool], patches: Patches, context: Context) -> None:
    manager = HttpConnectionManager.FromString(holder.typed_config.value)
    before = holder.typed_config.value
    for patch in in_passes(patches.of("HTTP_FILTER", context)):
        if not is_here(patch) or not is_named(holder.name, patch.listener.chain.filter):
            continue
        wanted = patch.listener.chain.sub_filter
        if _removes_all(patch, wanted) or (patch.operation in MERGES and not wanted):
            continue
        made, took = edit(
            manager.http_filters,
            patch,
            lambda one, wanted=wanted: is_named(one.name, wanted),
            constrained=bool(wanted),
            place=lambda items, patch=patch: _place(items, patch),
        )
        if took:
            patches.took(patch)
            put(manager.http_filters, made)
    if manager.HasField("route_config"):
        name = manager.route_config.name
        port = name.split("|")[1] if name.startswith("inbound|") else ""
        site = RouteSite(name=name, port=int(port) if port.isdecimal() else 0)
        patch_routes(manager.route_config, site, patches, context)
    packed = pack(manager)
    if packed.value != before:
        holder.typed_config.CopyFrom(packed)


def _place(items: list[HttpFilter], patch: Patch) -> int:
    """Where an HTTP filter is added: by its class, and always before the router, behind which Envoy takes nothing."""
    end = len(items) - (bool(items) and items[-1].name == _ROUTER)
    if patch.filter_class == "STATS":
        return next((at for at, one in enumerate(items) if one.name in _STATS), end)
    behind = _AUTHN if patch.filter_class == "AUTHN" else _AUTHZ if patch.filter_class == "AUTHZ" else ()
    found = [at + 1 for at, one in enumerate(items) if one.name in behind]
    if behind:
        return max(found, default=0)
    return end


def _is_listener(listener: Listener, patch: Patch) -> bool:
    wanted = patch.listener
    if wanted.name and wanted.name != listener.name:
        return False
    # What stands in the virtual listeners is told apart by the ports of their filter chains.
    if not wanted.port or (patch.apply_to != "LISTENER" and listener.name in _VIRTUAL):
        return True
    return listener.address.socket_address.port_value == wanted.port


def _removes_all(patch: Patch, wanted: str) -> bool:
    """Whether a patch would remove filters without naming any: as in Istio it removes none."""
    return patch.operation == "REMOVE" and not wanted


def _is_chain(listener: Listener, chain: FilterChain, patch: Patch) -> bool:
    wanted, match = patch.listener.chain, chain.filter_chain_match
    port = match.destination_port.value
    if listener.name in _VIRTUAL and patch.listener.port and patch.listener.port != port:
        return False
    return (
        (not wanted.name or wanted.name == chain.name)
        and (not wanted.sni or wanted.sni in match.server_names)
        and (not wanted.transport_protocol or wanted.transport_protocol == match.transport_protocol)
        and set(wanted.application_protocols) <= set(match.application_protocols)
        and (not wanted.destination_port or wanted.destination_port == port)
        and (not wanted.transport_socket or wanted.transport_socket == chain.transport_socket.name)
    )
