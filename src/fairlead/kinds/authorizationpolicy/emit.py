"""RBAC and ext_authz filters for the chains of a workload."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.envoy.rbac import rbac_filters
from fairlead.inc import Reader
from fairlead.ir.attachment import attached
from fairlead.ir.filters import Filter, FilterScope, Phase
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.security import ACCESS_POLICIES_AT, AccessPolicy
from fairlead.kinds.authorizationpolicy.custom import asking_filters


def http_filters(r: Reader, scope: FilterScope) -> Iterator[Filter]:
    """Filters of an HTTP connection manager."""
    yield from _filters(r, scope, tcp=False)


def network_filters(r: Reader, scope: FilterScope) -> Iterator[Filter]:
    """Filters of a TCP chain; in front of an HTTP connection manager there are none, it has its own."""
    if scope.tcp:
        yield from _filters(r, scope, tcp=True)


def policies(r: Reader, scope: FilterScope, root_namespace: str) -> tuple[AccessPolicy, ...]:
    """The policies for the scope's workload: of the root namespace and of its own, if they are for it."""
    namespaces = (root_namespace, scope.namespace)
    return tuple(attached(r, ACCESS_POLICIES_AT, namespaces, scope.namespace, scope.labels))


def _filters(r: Reader, scope: FilterScope, *, tcp: bool) -> Iterator[Filter]:
    if scope.direction == "outbound":
        return
    mesh = r.get(MESHES, MESH_KEY) or Mesh()
    chosen = policies(r, scope, mesh.root_namespace)
    if not chosen:
        return
    trust_domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
    custom = [one for one in chosen if one.action == "CUSTOM"]
    yield from asking_filters(r, custom, mesh, tcp=tcp, trust_domains=trust_domains)
    for one in rbac_filters(chosen, tcp=tcp, trust_domains=trust_domains):
        yield Filter(one.name, one.type_url, one.config, Phase.AUTHZ, one.position, one.origins)
