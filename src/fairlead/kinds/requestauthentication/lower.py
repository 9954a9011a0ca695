"""RequestAuthentication to request policies, and to what must be fetched for them."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.attachment import targets_of
from fairlead.ir.authn import DISCOVERY, JWKS_WANTED, REQUEST_POLICIES, JwtRule, RequestPolicy, Wanted, WantedKey
from fairlead.ir.jwks import key_set
from fairlead.ir.kind import Emission
from fairlead.ir.view import pairs
from fairlead.kinds.requestauthentication.spec import JWTRule, RequestAuthentication
from fairlead.kinds.requestauthentication.validate import wrong_uri
from fairlead.model.diagnostic import Origin
from fairlead.model.duration import parse_duration
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[RequestAuthentication]) -> Iterator[Emission]:
    """One policy, and a wish for each rule whose keys stand elsewhere."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    rules = tuple(_rule(one, Origin(obj.ref, SPEC.child("jwtRules", at))) for at, one in enumerate(spec.jwt_rules))
    yield (
        REQUEST_POLICIES,
        key,
        RequestPolicy(
            key=key,
            origin=Origin(obj.ref),
            selector=pairs(spec.selector.match_labels) if spec.selector is not None else (),
            rules=rules,
            targets=targets_of(spec.target_ref, spec.target_refs),
            created=obj.meta.creation_timestamp or "",
        ),
    )
    for at, rule in enumerate(rules):
        if rule.keys_uri:
            yield JWKS_WANTED, WantedKey(rule.keys_uri, key, at), Wanted(rule.timeout, rule.origin)


def _rule(rule: JWTRule, origin: Origin) -> JwtRule:
    jwks = key_set(rule.jwks) if rule.jwks else ""
    return JwtRule(
        origin=origin,
        issuer=rule.issuer or "",
        audiences=rule.audiences,
        jwks=jwks,
        keys_uri="" if jwks else _keys_uri(rule),
        headers=tuple((one.name, one.prefix) for one in rule.from_headers),
        params=rule.from_params,
        cookies=rule.from_cookies,
        forward=rule.forward_original_token,
        payload_header=rule.output_payload_to_header,
        claim_headers=tuple((one.header, one.claim) for one in rule.output_claim_to_headers),
        space_delimited=rule.space_delimited_claims,
        required=rule.presence == "REQUIRED",
        ignored=rule.presence == "IGNORED",
        tells_failure=rule.failed_status_in_metadata,
        clock_skew=rule.clock_skew_seconds,
        timeout=parse_duration(rule.timeout) if rule.timeout else 5.0,
    )


def _keys_uri(rule: JWTRule) -> str:
    """Where the keys are: where the rule says, else where the issuer's own description says (OpenID Connect)."""
    given = rule.jwks_uri or rule.jwks_uri_alias
    if given:
        return given
    described = f"{(rule.issuer or '').rstrip('/')}{DISCOVERY}"
    return "" if wrong_uri(described) else described
