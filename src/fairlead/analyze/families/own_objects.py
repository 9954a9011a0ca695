"""Kinds that nobody reads, and what is in Secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.certificates import credential_problem, expiry, fits, held
from fairlead.analyze.document import CLOCK, CONFIG_MAP, DESTINATION_RULE, GATEWAY, SECRET, Document, Sort
from fairlead.analyze.finding import Said
from fairlead.compiler.registry import registry
from fairlead.envoy.names import CA_SUFFIX
from fairlead.inc import Reader
from fairlead.ir.credential import CredentialName, read_name
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
        yield Said("FL3701", f"Fairlead does not act on objects of kind {kind}", _KIND, _ELSEWHERE[one.sort])
    elif group == _GATEWAY_API:
        remedy = "Of the Gateway API only HTTPRoutes are served; use Gateway of networking.istio.io."
        yield Said("FL3701", f"Fairlead does not act on objects of kind {kind} of the Gateway API", _KIND, remedy)
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
    """Secrets for TLS to servers that are not where the proxies run that use them, or lack what the mode needs."""
    homes = _homes(r, one)
    for path, tls in _tls(one):
        name = shape.text(tls, "credentialName")
        mode = shape.text(tls, "mode")
        if not name or mode not in ("SIMPLE", "MUTUAL"):
            continue
        found = [_credential(r, read_name(name), home, mutual=mode == "MUTUAL") for home in homes]
        if all(found):
            code, said = found[0] or ("", "")
            remedy = f"Put it into namespace {homes[0]}." if code == "IST0101" else "Correct the Secret."
            yield Said(code, said, path / "credentialName", remedy)


def _homes(r: Reader, one: Document) -> list[str]:
    """Where proxies run that are given the rule's credentials: the workloads that it selects, else all gateways."""
    if shape.mapping(one.spec, "workloadSelector"):
        return [one.ref.namespace]
    selectors = (shape.pairs(gateway.spec, "selector") for gateway in queries.every(r, GATEWAY))
    found = {ref.namespace for selector in selectors if selector for ref in queries.matching(r, selector)}
    return sorted(found) or [one.ref.namespace]


def _tls(one: Document) -> Iterator[tuple[FieldPath, dict[str, Any]]]:
    """TLS settings of the rule, of its ports, of its subsets and of their ports."""
    policies = [(SPEC / "trafficPolicy", shape.mapping(one.spec, "trafficPolicy"))]
    for at, subset in shape.entries(one.spec, "subsets"):
        policies.append((SPEC.child("subsets", at, "trafficPolicy"), shape.mapping(subset, "trafficPolicy")))
    for base, policy in policies:
        yield base / "tls", shape.mapping(policy, "tls")
        for at, level in shape.entries(policy, "portLevelSettings"):
            yield base.child("portLevelSettings", at, "tls"), shape.mapping(level, "tls")


def _credential(r: Reader, name: CredentialName, home: str, *, mutual: bool) -> tuple[str, str] | None:
    """Why proxies of a namespace have no use of a credential: a code and words; None if they have."""
    if name.source == "configmap":
        there = name.namespace == home and queries.exists(r, CONFIG_MAP, home, name.name)
        wrong = f"there is no ConfigMap {name.name} in namespace {home}, where the proxies run that use it"
        return None if there else ("IST0101", wrong)
    if name.source != "secret" or name.served:
        return None
    secret = queries.document(r, SECRET, home, name.name) if name.namespace in ("", home) else None
    beside = queries.document(r, SECRET, home, name.name + CA_SUFFIX) if secret is None or not mutual else None
    if secret is None and (mutual or beside is None):
        return "IST0101", f"there is no Secret {name.name} in namespace {home}, where the proxies run that use it"
    if mutual and secret is not None:
        wrong = credential_problem(secret.data, r.get(CLOCK, "now"))
        return ("IST0161", f"Secret {home}/{name.name}: {wrong}") if wrong else None
    if any(held(each.data, "ca.crt", "cacert") for each in (secret, beside) if each is not None):
        return None
    return "IST0161", f"Secret {home}/{name.name}: it has no ca.crt, so that no server is trusted"


ANALYZERS = (
    Analyzer("fairlead.Kinds", ("FL0007", "FL3700", "FL3701"), (), kinds, applies=lambda one: unserved(one.sort)),
    Analyzer("fairlead.Certificates", ("FL3705", "FL3706", "FL3707"), (SECRET,), certificates),
    Analyzer("fairlead.Credentials", ("IST0101", "IST0161"), (DESTINATION_RULE,), credentials),
)
