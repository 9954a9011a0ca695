"""Request policies to Envoy's JWT filter, as Istio writes it (`pilot/pkg/security/authn`).

A token that is presented must be valid; a request without one passes, but has no principal. A valid token's payload
goes into the dynamic metadata under `payload`, where the RBAC filter and routes by claims look for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.route.v3.route_components_pb2 import RouteMatch
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwtAuthentication,
    JwtClaimToHeader,
    JwtHeader,
    JwtProvider,
    JwtRequirement,
    JwtRequirementAndList,
    JwtRequirementOrList,
    RequirementRule,
)
from google.protobuf.empty_pb2 import Empty

from fairlead.ir.authn import JwtRule
from fairlead.ir.jwks import Key, read_keys, wrong_key

JWT_FILTER = "envoy.filters.http.jwt_authn"
JWT_TYPE = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
PAYLOAD = "payload"
FAILURE = "istio_jwt_verification_failure"
"""Where in the filter's metadata stands what is wrong with a token."""

UNKNOWN_KEYS = (
    '{"keys":[{"alg":"ES256","crv":"P-256","kid":"unknown","kty":"EC","use":"sig",'
    '"x":"BvzLBV0W7aiYJNiqEPIAs7HqXETcOPq2OnooSxTfCho","y":"d8QRHMTLGKgZzhokOyUVQNptHR8XK9EI5mbId_4zXxw"}]}'
)
"""Stands where keys are not known: every token is refused.

The point is the first on P-256 whose x is a SHA-256 of `fairlead: the keys are not known N` (N = 0, 1 ...; of the two y
the smaller), so nobody knows its private key: unlike a made-up RSA modulus it cannot be taken apart either.
"""

_NOBODY: Key = msgspec.json.decode(UNKNOWN_KEYS)["keys"][0]
_ALWAYS_LISTS = ("permission", "scope")


def jwt_filter(rules: Sequence[tuple[JwtRule, str]], *, clear_route_cache: bool = False) -> bytes:
    """The filter's configuration for rules, each with its keys (JSON; "": not known, its tokens are refused).

    `clear_route_cache` has routes chosen again once claims are known.
    """
    names = [f"origins-{at}" for at in range(len(rules))]
    made = JwtAuthentication(
        rules=[
            RequirementRule(
                match=RouteMatch(prefix="/"),
                requires=_requirement([(name, rule) for name, (rule, _) in zip(names, rules, strict=True)]),
            )
        ],
        bypass_cors_preflight=True,
    )
    for name, (rule, keys) in zip(names, rules, strict=True):
        made.providers[name].CopyFrom(_provider(rule, keys, clear_route_cache=clear_route_cache))
    return made.SerializeToString(deterministic=True)


def _provider(rule: JwtRule, keys: str, *, clear_route_cache: bool) -> JwtProvider:
    made = JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        local_jwks=DataSource(inline_string=_inline(keys)),
        forward=rule.forward,
        from_headers=[JwtHeader(name=name, value_prefix=prefix) for name, prefix in rule.headers],
        from_params=rule.params,
        from_cookies=rule.cookies,
        forward_payload_header=rule.payload_header,
        payload_in_metadata=PAYLOAD,
        normalize_payload_in_metadata=JwtProvider.NormalizePayload(
            space_delimited_claims=sorted({*_ALWAYS_LISTS, *rule.space_delimited})
        ),
        claim_to_headers=[
            JwtClaimToHeader(header_name=header, claim_name=claim) for header, claim in rule.claim_headers
        ],
        clear_route_cache=clear_route_cache,
        failed_status_in_metadata=FAILURE if rule.tells_failure else "",
    )
    if rule.clock_skew is not None:
        made.clock_skew_seconds = rule.clock_skew
    return made


def _inline(keys: str) -> str:
    """The keys as they are; a set in which Envoy may understand none gets one that it does, and nobody has."""
    found = read_keys(keys)[0] if keys else []
    if any(not wrong_key(key) for key in found):
        return keys
    return msgspec.json.encode({"keys": [*found, _NOBODY]}).decode() if found else UNKNOWN_KEYS


def _requirement(providers: list[tuple[str, JwtRule]]) -> JwtRequirement:
    """What must hold, for providers and their rules.

    Each token that is there must be valid, but those of rules that are ignored. Where none is required, one valid token
    is also enough: issuers that look for their tokens at the same place cannot all be satisfied.
    """
    each = [_one(name, rule) for name, rule in providers]
    if len(each) == 1:
        return each[0]
    every = JwtRequirement(requires_all=JwtRequirementAndList(requirements=each))
    if any(rule.required for _, rule in providers):
        return every
    return _any_of(*(_named(name) for name, _ in providers), every)


def _one(name: str, rule: JwtRule) -> JwtRequirement:
    if rule.required:
        return _named(name)
    return _any_of(_named(name), _WHATEVER if rule.ignored else _MISSING)


_MISSING = JwtRequirement(allow_missing=Empty())
_WHATEVER = JwtRequirement(allow_missing_or_failed=Empty())


def _named(provider: str) -> JwtRequirement:
    return JwtRequirement(provider_name=provider)


def _any_of(*requirements: JwtRequirement) -> JwtRequirement:
    return JwtRequirement(requires_any=JwtRequirementOrList(requirements=requirements))
