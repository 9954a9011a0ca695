"""The JWT filter for the chains of a workload."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.envoy.jwt import JWT_FILTER, JWT_TYPE, jwt_filter
from fairlead.inc import Reader
from fairlead.ir.attachment import attached
from fairlead.ir.authn import JWKS, REQUEST_POLICIES_AT, Jwks, JwtRule, RequestPolicy
from fairlead.ir.filters import Filter, FilterScope, Phase
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.model.diagnostic import Diagnostic, Severity

UNKNOWN_KEYS_CODE = "FL0401"
"""Nobody knows an issuer's keys, or not the newest ones."""


_LAST = 1 << 32


def http_filters(r: Reader, scope: FilterScope) -> Iterator[Filter]:
    """One filter for the rules of all policies that are for the workload; reports rules whose keys are not known.

    Routes depend on claims at gateways only, so only these choose the route again.
    """
    if scope.direction == "outbound":
        return
    chosen = policies(r, scope)
    rules = [rule for policy in chosen for rule in policy.rules]
    if not rules:
        return
    rules.sort(key=lambda rule: rule.issuer)
    config = jwt_filter([(rule, _keys(r, rule)) for rule in rules], clear_route_cache=scope.direction == "gateway")
    # Extensions of this phase stand before the authentication itself, as in Istio.
    yield Filter(JWT_FILTER, JWT_TYPE, config, Phase.AUTHN, _LAST, tuple(one.origin for one in chosen))


def policies(r: Reader, scope: FilterScope) -> tuple[RequestPolicy, ...]:
    """The policies for the scope's workload: of the root namespace and of its own; the oldest first."""
    mesh = r.get(MESHES, MESH_KEY) or Mesh()
    namespaces = (mesh.root_namespace, scope.namespace)
    found = attached(r, REQUEST_POLICIES_AT, namespaces, scope.namespace, scope.labels)
    return tuple(sorted(found, key=lambda one: (one.created, one.key)))


def _keys(r: Reader, rule: JwtRule) -> str:
    if rule.jwks:
        return rule.jwks
    found = r.get(JWKS, rule.keys_uri) if rule.keys_uri else None
    known = found or Jwks(problem="they have not been fetched" if rule.keys_uri else "nothing says where they are")
    if known.problem:
        issuer = rule.issuer or "any issuer"
        where = f" from {rule.keys_uri}" if rule.keys_uri else ""
        effect = "those known before stay in use" if known.keys else "every token is refused"
        said = f"the keys of {issuer}{where} are not known: {known.problem}; {effect}"
        remedy = "Check jwksUri, or write the keys under jwks."
        r.report(Diagnostic(UNKNOWN_KEYS_CODE, Severity.WARNING, said, rule.origin, remedy))
    return known.keys
