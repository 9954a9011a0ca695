"""Mutual TLS, tokens and authorization: settings that contradict each other, and policies without effect."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import (
    AUTHORIZATION,
    DESTINATION_RULE,
    DOCUMENTS,
    ENVOY_FILTER,
    PEER_AUTHENTICATION,
    REQUEST_AUTHENTICATION,
    SERVICE,
    WASM_PLUGIN,
    WORKLOADS,
    Document,
    selector_text,
    workload_labels,
)
from fairlead.analyze.finding import Said
from fairlead.analyze.probes import to_service
from fairlead.analyze.speaking import protocols
from fairlead.inc import Reader
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.ref import Ref

_PLAIN = ("DISABLE", "SIMPLE", "MUTUAL")
_HTTP_FIELDS = ("methods", "notMethods", "paths", "notPaths", "hosts", "notHosts")
_TOKEN_FIELDS = ("requestPrincipals", "notRequestPrincipals")


def tls_modes(r: Reader, one: Document) -> Iterator[Said]:
    """Clients and servers that disagree about mutual TLS."""
    mode = shape.text(one.spec, "trafficPolicy", "tls", "mode")
    host = shape.text(one.spec, "host")
    owner = queries.defined_by(r, host, one.ref.namespace) if host and mode else None
    if owner is None or owner.sort != SERVICE:
        return
    path = SPEC.child("trafficPolicy", "tls", "mode")
    modes = {_mode(r, ref) for ref in _behind(r, owner)}
    probe = to_service(one.ref.namespace, host)
    if mode in _PLAIN and modes == {"STRICT"}:
        said = f"clients call {host} with TLS mode {mode}, and its workloads demand mutual TLS (STRICT)"
        yield Said("FL3709", said, path, "Remove the tls settings.", probe=probe)
    elif mode == "ISTIO_MUTUAL" and modes and modes <= {"DISABLE", ""}:
        why = "have no proxy" if modes == {""} else "have mutual TLS switched off"
        said = f"clients call {host} with mutual TLS, and its workloads {why}"
        yield Said("FL3710", said, path, "Remove the tls settings.", probe=probe)


def _behind(r: Reader, owner: Document) -> list[Ref]:
    selector = shape.pairs(owner.spec, "selector")
    return queries.matching(r, selector, owner.ref.namespace) if selector else []


def _mode(r: Reader, ref: Ref) -> str:
    """The mTLS mode of a workload, "" if it has no proxy: its own policy's, the namespace's, the mesh's."""
    workload = r.get(DOCUMENTS, ref)
    if workload is None or not queries.injected(r, workload):
        return ""
    labels = workload_labels(workload) or {}
    root = queries.root_namespace(r)
    mine = list(queries.every(r, PEER_AUTHENTICATION, ref.namespace)) if ref.namespace != root else []
    levels = (
        [one for one in mine if _selector(one) and queries.includes(labels, _selector(one))],
        [one for one in mine if not _selector(one)],
        [one for one in queries.every(r, PEER_AUTHENTICATION, root) if not _selector(one)],
    )
    for level in levels:
        for one in level:
            said = shape.text(one.spec, "mtls", "mode")
            if said not in ("", "UNSET"):
                return said
    return "PERMISSIVE"


def _selector(one: Document) -> dict[str, str]:
    if one.sort == ENVOY_FILTER:
        return shape.pairs(one.spec, "workloadSelector", "labels")
    return shape.pairs(one.spec, "selector", "matchLabels")


def _path(one: Document) -> FieldPath:
    return (
        SPEC.child("workloadSelector", "labels") if one.sort == ENVOY_FILTER else SPEC.child("selector", "matchLabels")
    )


def _home(r: Reader, one: Document) -> str:
    return "*" if one.ref.namespace == queries.root_namespace(r) else one.ref.namespace


def select_nothing(r: Reader, one: Document) -> Iterator[Said]:
    """Policies whose selector means no workload."""
    selector = _selector(one)
    home = _home(r, one)
    if selector and home == "*" and one.sort == PEER_AUTHENTICATION:
        # As in Istio (`ComposePeerAuthentication`), for workloads of the root namespace, too.
        said = "in the root namespace only a PeerAuthentication without a selector counts"
        yield Said("FL3712", said, _path(one), "It has no effect: put it into the namespace of its workloads.")
        return
    if selector and not queries.any_matching(r, selector, home):
        where = "anywhere" if home == "*" else f"in namespace {home}"
        said = f"no workload {where} has the labels {selector_text(selector)}"
        yield Said("FL3712", said, _path(one), f"This {one.ref.kind} has no effect.")


def strict(r: Reader, one: Document) -> Iterator[Said]:
    """STRICT for a namespace in which workloads run that cannot speak mutual TLS."""
    if shape.text(one.spec, "mtls", "mode") != "STRICT" or _selector(one) or _home(r, one) == "*":
        return
    plain = [
        str(ref)
        for ref in r.find(WORKLOADS, one.ref.namespace)
        if (workload := r.get(DOCUMENTS, ref)) is not None and not queries.injected(r, workload)
    ]
    if plain:
        listed = ", ".join(plain[:5]) + (" ..." if len(plain) > 5 else "")
        yield Said("FL3711", f"these have no proxy and cannot call the others: {listed}", SPEC.child("mtls", "mode"))


def tokens(r: Reader, one: Document) -> Iterator[Said]:
    """Conditions on tokens that nothing validates, or of issuers that nobody accepts."""
    asked = list(_token_conditions(one))
    if not asked:
        return
    rules = [rule for policy in _authentications(r, one) for rule in shape.items(policy.spec, "jwtRules")]
    if not rules:
        said = "tokens are asked for here, and no RequestAuthentication validates any for these workloads"
        yield Said("FL3714", said, asked[0][0])
        return
    issuers = {shape.text(rule, "issuer") for rule in rules}
    for path, field, text in asked:
        issuer = text.rpartition("/")[0]
        if field in _TOKEN_FIELDS and issuer and "*" not in issuer and issuer not in issuers:
            said = f"no RequestAuthentication accepts the issuer {issuer}"
            yield Said("FL3715", said, path, f"Accepted are: {', '.join(sorted(issuers))}.")


def _token_conditions(one: Document) -> Iterator[tuple[FieldPath, str, str]]:
    for at, rule in shape.entries(one.spec, "rules"):
        base = SPEC.child("rules", at)
        for number, part in shape.entries(rule, "from"):
            for field in _TOKEN_FIELDS:
                for index, text in enumerate(shape.words(part, "source", field)):
                    yield base.child("from", number, "source", field, index), field, text
        for number, condition in shape.entries(rule, "when"):
            key = shape.text(condition, "key")
            if key.startswith("request.auth."):
                yield base.child("when", number, "key"), "when", key


def _authentications(r: Reader, one: Document) -> Iterator[Document]:
    """The RequestAuthentications that may hold for the workloads of a policy."""
    selector = _selector(one)
    homes = dict.fromkeys((queries.root_namespace(r), one.ref.namespace))
    if _home(r, one) == "*":
        yield from queries.every(r, REQUEST_AUTHENTICATION)
        return
    for home in homes:
        for policy in queries.every(r, REQUEST_AUTHENTICATION, home):
            theirs = _selector(policy)
            # Of two selectors with no label in common it cannot be said that they mean different workloads.
            if all(selector.get(key, value) == value for key, value in theirs.items()):
                yield policy


def optional_tokens(r: Reader, one: Document) -> Iterator[Said]:
    """Validation of tokens that nobody has to have."""
    home = one.ref.namespace
    if _home(r, one) == "*":
        return
    for policy in queries.every(r, AUTHORIZATION, home):
        if any(True for _ in _token_conditions(policy)):
            return
    if shape.items(one.spec, "jwtRules"):
        yield Said(
            "FL3726", "requests without a token pass: no AuthorizationPolicy here asks for one", SPEC / "jwtRules"
        )


def principals(r: Reader, one: Document) -> Iterator[Said]:
    """Identities that no workload has."""
    for at, rule in shape.entries(one.spec, "rules"):
        for number, part in shape.entries(rule, "from"):
            for field in ("principals", "notPrincipals"):
                for index, text in enumerate(shape.words(part, "source", field)):
                    parts = text.split("/")
                    if "*" in text or len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
                        continue
                    accounts = _accounts(r, parts[2])
                    if accounts and parts[4] not in accounts:
                        path = SPEC.child("rules", at, "from", number, "source", field, index)
                        said = f"no workload of namespace {parts[2]} runs as {parts[4]}"
                        yield Said("FL3716", said, path, f"They run as: {', '.join(sorted(accounts))}.")


def _accounts(r: Reader, namespace: str) -> set[str]:
    """The service accounts of the workloads of a namespace."""
    found: set[str] = set()
    for ref in r.find(WORKLOADS, namespace):
        one = r.get(DOCUMENTS, ref)
        if one is None:
            continue
        template = shape.mapping(one.spec, "template", "spec") or shape.mapping(one.spec, "template")
        for spec in (one.spec, template):
            name = shape.text(spec, "serviceAccountName") or shape.text(spec, "serviceAccount")
            if name:
                found.add(name)
                break
        else:
            found.add("default")
    return found


def http_conditions(r: Reader, one: Document) -> Iterator[Said]:
    """Conditions on HTTP for workloads that serve none."""
    path = _first_http_condition(one)
    selector = _selector(one)
    if path is None or not selector or _home(r, one) == "*":
        return
    spoken = [
        protocol
        for ref in queries.matching(r, selector, one.ref.namespace)
        for service in queries.selected_by(r, queries.labels_of(r, ref), ref.namespace)
        for _, protocol in protocols(service)
    ]
    if spoken and all(protocol.is_tcp for protocol in spoken):
        said = f"conditions on HTTP, and its workloads serve {', '.join(sorted({one.value for one in spoken}))} only"
        yield Said("FL3717", said, path)


def _first_http_condition(one: Document) -> FieldPath | None:
    for at, rule in shape.entries(one.spec, "rules"):
        for number, part in shape.entries(rule, "to"):
            for field in _HTTP_FIELDS:
                if shape.words(part, "operation", field):
                    return SPEC.child("rules", at, "to", number, "operation", field)
    return next((path for path, _, _ in _token_conditions(one)), None)


_AUTHZ = (AUTHORIZATION,)
_SELECTING = (
    PEER_AUTHENTICATION,
    REQUEST_AUTHENTICATION,
    ENVOY_FILTER,
    WASM_PLUGIN,
    ("extensions.istio.io", "TrafficExtension"),
    ("networking.istio.io", "ProxyConfig"),
    ("fairlead.dev", "RateLimit"),
)
ANALYZERS = (
    Analyzer("fairlead.TLSModes", ("FL3709", "FL3710"), (DESTINATION_RULE,), tls_modes),
    Analyzer("fairlead.Strict", ("FL3711",), (PEER_AUTHENTICATION,), strict),
    Analyzer("fairlead.Selectors", ("FL3712",), _SELECTING, select_nothing),
    Analyzer("fairlead.Tokens", ("FL3714", "FL3715"), _AUTHZ, tokens),
    Analyzer("fairlead.Principals", ("FL3716",), _AUTHZ, principals),
    Analyzer("fairlead.HTTPConditions", ("FL3717",), _AUTHZ, http_conditions),
    Analyzer("fairlead.OptionalTokens", ("FL3726",), (REQUEST_AUTHENTICATION,), optional_tokens),
)
