"""The mesh's settings as they hold for a workload that says something itself (its own ProxyConfig)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.compiler.hosts import settings
from fairlead.envoy.ownshared import Said, SharedHeaders, with_said
from fairlead.envoy.resource import Resource
from fairlead.inc import Reader, Rule, rule
from fairlead.ir.mesh import Mesh
from fairlead.ir.proxyown import OwnSettings
from fairlead.ir.view import View


def settings_of(r: Reader, own: OwnSettings | None) -> Mesh:
    """The settings for a proxy that says this itself."""
    return settings(r) if own is None else _with(r, own)


@rule
def _with(r: Reader, own: OwnSettings) -> Mesh:
    mesh = settings(r)
    if own.headers is not None:
        mesh = replace(mesh, headers=own.headers.over(mesh.headers))
    if own.topology is not None:
        said = own.topology
        mesh = replace(
            mesh,
            num_trusted_proxies=said.trusted,
            gateway_client_cert=said.client_cert,
            gateway_proxy_protocol=said.proxy_protocol,
        )
    if own.connections is not None:
        mesh = replace(mesh, connections=own.connections)
    if own.node is not None:
        mesh = replace(mesh, node=own.node)
        if own.node.http_proxy_port is not None:
            mesh = replace(mesh, http_proxy_port=own.node.http_proxy_port)
    if own.traces is not None:
        mesh = replace(mesh, observability=replace(mesh.observability, proxy=own.traces))
    return mesh


class Shared(NamedTuple):
    """A part that workloads share, as one has it that says something of it."""

    rule: Rule[Any, Any]
    key: Hashable
    said: Said


@rule
def shared(r: Reader, key: Shared) -> Resource | None:
    """The part's resource with what is said."""
    found: Resource | None = key.rule(r, key.key)
    return None if found is None else with_said(found, key.said)


def said_of_shared(r: Reader, view: View) -> Said | None:
    """What a workload wants of routes and clusters, which workloads share; None where that is what the mesh says.

    So only those that differ have resources of their own. Buffers of clusters are never in what is shared: gateways
    may have others than sidecars (the profile EDGE).
    """
    buffer = settings_of(r, view.own).connections.at(gateway=view.type == "router").cluster_buffer
    found = Said(_headers(r, view.own), buffer)
    return found if found != Said() else None


def _headers(r: Reader, own: OwnSettings | None) -> SharedHeaders | None:
    if own is None or own.headers is None:
        return None
    said = (settings_of(r, own).headers, settings(r).headers)
    wanted, usual = (SharedHeaders(one.attempt_count, one.forwarded_host, one.keep_case) for one in said)
    return wanted if wanted != usual else None
