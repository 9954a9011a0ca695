"""Rate limit filters for the HTTP chains of a workload."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.envoy.ratelimit import global_filter, local_filter
from fairlead.inc import Reader
from fairlead.ir.attachment import attached
from fairlead.ir.filters import Filter, FilterScope
from fairlead.ir.host import HOSTS_BY_NAME
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.ratelimit import RATE_POLICIES_AT, LimitService, RatePolicy
from fairlead.ir.visibility import is_visible
from fairlead.model.diagnostic import Diagnostic, Severity

UNUSABLE_CODE = "FL2410"
"""The server of global limits cannot be asked, so they do not hold."""


def http_filters(r: Reader, scope: FilterScope) -> Iterator[Filter]:
    """Filters of an HTTP connection manager: the limits of the root namespace, then those of the workload's own."""
    if scope.direction == "outbound" or scope.tcp:
        return
    mesh = r.get(MESHES, MESH_KEY) or Mesh()
    for policy in attached(r, RATE_POLICIES_AT, (mesh.root_namespace, scope.namespace), scope.namespace, scope.labels):
        yield from _filters(r, policy, scope.namespace)


def _filters(r: Reader, policy: RatePolicy, namespace: str) -> Iterator[Filter]:
    if policy.limits:
        yield local_filter(policy)
    if policy.service is None:
        return
    wrong = _unreachable(r, policy.service, namespace)
    if wrong:
        said = f"the server of global limits cannot be asked, so they do not hold: {wrong}"
        remedy = "Name a host and port of the mesh, known as gRPC."
        r.report(Diagnostic(UNUSABLE_CODE, Severity.WARNING, said, policy.origin, remedy))
        return
    yield global_filter(policy, policy.service)


def _unreachable(r: Reader, service: LimitService, namespace: str) -> str:
    """Why proxies of a namespace cannot ask a server, "" if they can."""
    mesh = r.get(MESHES, MESH_KEY) or Mesh()
    known = r.rows(HOSTS_BY_NAME, service.host)
    if not known:
        return f"there is no host {service.host!r}"
    usual = mesh.default_service_export_to
    seen = [host for at, host in known if is_visible(host.export_to or usual, at.namespace, namespace)]
    if not seen:
        return f"host {service.host!r} is not exported to namespace {namespace}"
    port = seen[0].port(service.port)
    if port is None:
        return f"host {service.host!r} has no port {service.port}"
    if not port.protocol.is_http2:
        return f"port {service.port} of {service.host!r} is not known as gRPC (name it grpc, or set its appProtocol)"
    return ""
