"""Kinds that nobody reads, and what is in Secrets."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.certificates import expiry, fits, held
from fairlead.analyze.document import CLOCK, DESTINATION_RULE, SECRET, Document, Sort
from fairlead.analyze.finding import Said
from fairlead.compiler.registry import registry
from fairlead.inc import Reader
from fairlead.model.names import nearest
from fairlead.model.path import SPEC, FieldPath

_KIND = FieldPath(("kind",))
_SOON = 30 * 86400
_DAY = 86400
_REMOVED: dict[Sort, str] = {
    ("authentication.istio.io", "Policy"): "PeerAuthentication and RequestAuthentication",
    ("authentication.istio.io", "MeshPolicy"): "PeerAuthentication and RequestAuthentication in istio-system",
    ("rbac.istio.io", "ClusterRbacConfig"): "AuthorizationPolicy",
    ("rbac.istio.io", "RbacConfig"): "AuthorizationPolicy",
    ("rbac.istio.io", "ServiceRole"): "AuthorizationPolicy",
    ("rbac.istio.io", "ServiceRoleBinding"): "AuthorizationPolicy",
    ("networking.istio.io", "RouteRule"): "VirtualService",
    ("networking.istio.io", "DestinationPolicy"): "DestinationRule",
    ("networking.istio.io", "EgressRule"): "ServiceEntry",
    ("config.istio.io", "RouteRule"): "VirtualService",
    ("config.istio.io", "DestinationPolicy"): "DestinationRule",
    ("config.istio.io", "EgressRule"): "ServiceEntry",
    ("config.istio.io", "QuotaSpec"): "RateLimit",
    ("config.istio.io", "QuotaSpecBinding"): "RateLimit",
}
_REMOVED_GROUPS = {
    "config.istio.io": "Telemetry, RateLimit, AuthorizationPolicy or TrafficExtension, whichever does it",
    "authentication.istio.io": "PeerAuthentication and RequestAuthentication",
    "rbac.istio.io": "AuthorizationPolicy",
}
_ELSEWHERE = {
    ("networking.k8s.io", "NetworkPolicy"): "Use AuthorizationPolicy; this one is for the network of a cluster.",
    ("install.istio.io", "IstioOperator"): "Settings of the mesh stand in the ConfigMap istio-system/istio.",
    ("telemetry.istio.io", "Metrics"): "Use Telemetry.",
}
_GATEWAY_API = "gateway.networking.k8s.io"


def unserved(ref_sort: Sort) -> bool:
    """Whether a kind is about traffic, and nobody reads it."""
    group, kind = ref_sort
    if registry().kind(group, kind) is not None:
        return False
    return group.endswith((".istio.io", "fairlead.dev")) or group == _GATEWAY_API or ref_sort in _ELSEWHERE


def kinds(_: Reader, one: Document) -> Iterator[Said]:
    """Objects of kinds that are gone, or that Fairlead does not act on."""
    group, kind = one.sort
    instead = _REMOVED.get(one.sort) or _REMOVED_GROUPS.get(group)
    if instead:
        yield Said("FL3700", f"{kind} of {group} was removed from Istio: nothing reads it", _KIND, f"Use {instead}.")
    elif one.sort in _ELSEWHERE:
        yield Said("FL3701", f"Fairlead does not act on a {kind}", _KIND, _ELSEWHERE[one.sort])
    elif group == _GATEWAY_API:
        remedy = "Of the Gateway API only HTTPRoutes are served; use Gateway of networking.istio.io."
        yield Said("FL3701", f"Fairlead does not act on a {kind} of the Gateway API", _KIND, remedy)
    else:
        known = [served.kind for served in registry().kinds if served.group == group]
        near = nearest(kind, known or [served.kind for served in registry().kinds])
        remedy = f"Did you mean {near}?" if near else "`fairlead api-resources` lists the kinds."
        yield Said("FL0007", f"there is no kind {kind} in {group}", _KIND, remedy)


def certificates(r: Reader, one: Document) -> Iterator[Said]:
    """Certificates that have ended or end soon, and keys of others."""
    for name in ("tls.crt", "cert", "ca.crt", "cacert"):
        pem = held(one.data, name)
        span = expiry(pem) if pem else None
        now = r.get(CLOCK, "now")
        if span is None or now is None:
            continue
        where = "stringData" if shape.value(one.data, "stringData", name) is not None else "data"
        path, left = FieldPath((where, name)), span[1] - now
        if left <= 0:
            yield Said("FL3705", f"the certificate in {name} ended {_days(-left)} ago", path, "Renew it.")
        elif left < _SOON:
            yield Said("FL3706", f"the certificate in {name} ends in {_days(left)}", path, "Renew it.")
    if not fits(one.data):
        yield Said("FL3707", "the key is not that of the certificate: Envoy refuses the pair", FieldPath(("data",)))


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return "less than a day" if days == 0 else "a day" if days == 1 else f"{days} days"


def credentials(r: Reader, one: Document) -> Iterator[Said]:
    """Secrets for TLS to servers that are not there."""
    policy = shape.mapping(one.spec, "trafficPolicy")
    base = SPEC / "trafficPolicy"
    levels = [(base, policy)]
    levels += [(base.child("portLevelSettings", at), level) for at, level in shape.entries(policy, "portLevelSettings")]
    for at, subset in shape.entries(one.spec, "subsets"):
        levels.append((SPEC.child("subsets", at, "trafficPolicy"), shape.mapping(subset, "trafficPolicy")))
    for path, level in levels:
        name = shape.text(level, "tls", "credentialName").removeprefix("kubernetes://")
        if name and not queries.exists(r, SECRET, one.ref.namespace, name):
            said = f"there is no Secret {name} in namespace {one.ref.namespace}"
            yield Said("FL3708", said, path.child("tls", "credentialName"))


ANALYZERS = (
    Analyzer("fairlead.Kinds", ("FL0007", "FL3700", "FL3701"), (), kinds, applies=lambda one: unserved(one.sort)),
    Analyzer("fairlead.Certificates", ("FL3705", "FL3706", "FL3707"), (SECRET,), certificates),
    Analyzer("fairlead.Credentials", ("FL3708",), (DESTINATION_RULE,), credentials),
)
