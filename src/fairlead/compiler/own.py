"""The mesh's settings as they hold for a workload that says something itself (its own ProxyConfig)."""

from __future__ import annotations

from msgspec.structs import replace

from fairlead.compiler.hosts import settings
from fairlead.inc import Reader, rule
from fairlead.ir.mesh import Mesh
from fairlead.ir.proxyown import OwnSettings


def settings_of(r: Reader, own: OwnSettings | None) -> Mesh:
    """The settings for a proxy that says this itself."""
    return settings(r) if own is None else _with(r, own)


@rule
def _with(r: Reader, own: OwnSettings) -> Mesh:
    mesh = settings(r)
    if own.headers is not None:
        mesh = replace(mesh, headers=own.headers)
    if own.topology is not None:
        said = own.topology
        mesh = replace(
            mesh,
            num_trusted_proxies=said.trusted,
            gateway_client_cert=said.client_cert,
            gateway_proxy_protocol=said.proxy_protocol,
        )
    if own.traces is not None:
        mesh = replace(mesh, observability=replace(mesh.observability, proxy=own.traces))
    return mesh
