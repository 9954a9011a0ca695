"""EnvoyFilter to the mesh's words."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.envoy.messages import parse
from fairlead.envoy.patchvalue import VALUES
from fairlead.inc import Reader
from fairlead.ir import patch as ir
from fairlead.ir.attachment import targets_of
from fairlead.ir.kind import Emission
from fairlead.ir.view import pairs
from fairlead.kinds.envoyfilter.spec import (
    INSERTS,
    UNORDERED,
    ClusterMatch,
    ConfigPatch,
    EnvoyFilter,
    FilterChainMatch,
    FilterMatch,
    ListenerMatch,
    ObjectMatch,
    ProxyMatch,
    RouteConfigurationMatch,
    RouteMatch,
    SubFilterMatch,
    VirtualHostMatch,
)
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[EnvoyFilter]) -> Iterator[Emission]:
    """One set of patches."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    made = (_patch(one, Origin(obj.ref, SPEC.child("configPatches", at))) for at, one in enumerate(spec.config_patches))
    patches = tuple(one for one in made if one is not None)
    yield (
        ir.PATCHES,
        key,
        ir.PatchSet(
            key=key,
            selector=pairs(spec.workload_selector.labels) if spec.workload_selector is not None else (),
            targets=targets_of(None, spec.target_refs),
            priority=spec.priority,
            created=obj.meta.creation_timestamp or "",
            patches=patches,
        ),
    )


def _patch(said: ConfigPatch, origin: Origin) -> ir.Patch | None:
    """One patch, or None where it is for a proxy that there is not."""
    match, change = said.match or ObjectMatch(), said.patch
    if change is None or change.operation == "INVALID" or said.apply_to == "INVALID" or match.context == "WAYPOINT":
        return None
    if match.waypoint is not None:
        return None
    proxy = match.proxy or ProxyMatch()
    has_value = change.value is not None and change.operation != "REMOVE"
    return ir.Patch(
        apply_to=said.apply_to,
        operation=_operation(said.apply_to, change.operation),
        origin=origin,
        value=parse(VALUES[said.apply_to], change.value) if has_value and change.value is not None else b"",
        context=match.context,
        version=proxy.proxy_version,
        metadata=pairs(proxy.metadata),
        listener=_listener(match.listener or ListenerMatch()),
        routes=_routes(match.route_configuration or RouteConfigurationMatch()),
        cluster=_cluster(match.cluster or ClusterMatch()),
        filter_class="" if change.filter_class == "UNSPECIFIED" else change.filter_class,
    )


def _operation(apply_to: ir.ApplyTo, said: ir.Operation) -> ir.Operation:
    """What has no order is added, wherever it is to be inserted."""
    return "ADD" if said in INSERTS and apply_to in UNORDERED else said


def _listener(said: ListenerMatch) -> ir.ListenerMatch:
    chain = said.filter_chain or FilterChainMatch()
    filter_ = chain.filter or FilterMatch()
    return ir.ListenerMatch(
        name=said.name,
        port=said.port_number,
        listener_filter=said.listener_filter,
        chain=ir.ChainMatch(
            name=chain.name,
            sni=chain.sni,
            transport_protocol=chain.transport_protocol,
            application_protocols=tuple(one.strip() for one in chain.application_protocols.split(",") if one.strip()),
            destination_port=chain.destination_port,
            transport_socket=chain.transport_socket,
            filter=filter_.name,
            sub_filter=(filter_.sub_filter or SubFilterMatch()).name,
        ),
    )


def _routes(said: RouteConfigurationMatch) -> ir.RouteMatch:
    host = said.vhost or VirtualHostMatch()
    route = host.route or RouteMatch()
    return ir.RouteMatch(
        name=said.name,
        port=said.port_number,
        port_name=said.port_name,
        gateway=said.gateway,
        host=host.name,
        domain=host.domain_name,
        route=route.name,
        action=route.action,
    )


def _cluster(said: ClusterMatch) -> ir.ClusterMatch:
    return ir.ClusterMatch(name=said.name, port=said.port_number, service=said.service, subset=said.subset)
