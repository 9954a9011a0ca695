"""Istio's validation of RequestAuthentication, by its webhook and by its CRD."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from fairlead.ir.authn import DISCOVERY
from fairlead.ir.jwks import is_private, read_keys, wrong_key
from fairlead.kinds.requestauthentication.spec import JWTRule, RequestAuthentication
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.syntax import wrong_duration
from fairlead.model.target import selector_problems, target_problems, unserved_targets

_HEADER = re.compile(r"[-_A-Za-z0-9]+\Z")


def validate(obj: Object[RequestAuthentication]) -> Iterator[Problem]:
    """What it is for, then each rule."""
    spec = obj.spec
    yield from target_problems(spec.selector, spec.target_ref, spec.target_refs)
    yield from selector_problems(spec.selector)
    yield from unserved_targets(spec.target_ref, spec.target_refs)
    for at, rule in enumerate(spec.jwt_rules):
        yield from _rule(rule, SPEC.child("jwtRules", at))


def _rule(rule: JWTRule, path: FieldPath) -> Iterator[Problem]:
    uris = [(name, uri) for name, uri in (("jwksUri", rule.jwks_uri), ("jwks_uri", rule.jwks_uri_alias)) if uri]
    if len(uris) + (rule.jwks is not None) > 1:
        said = "only one of jwks or jwksUri can be set"
        yield Problem(path, said, remedy="Remove the others.", reason="FieldValueForbidden")
    if not rule.issuer and not uris:
        said = "issuer or jwksUri must be set"
        yield Problem(path / "issuer", said, remedy="Name the issuer.", reason="FieldValueRequired")
    elif not uris and not rule.jwks and wrong_uri(f"{rule.issuer}{DISCOVERY}"):
        said = f"nobody can find the keys of {rule.issuer}: it is no URL, and neither jwks nor jwksUri is given"
        yield Problem(path / "issuer", said, Severity.WARNING, "Give jwksUri or jwks.", "FL0101")
    for name, uri in uris:
        if wrong := wrong_uri(uri):
            yield Problem(path / name, wrong, remedy="Use a URL that begins with https:// or http://.")
    if rule.jwks:
        yield from _keys(rule.jwks, path / "jwks")
    for at, one in enumerate(rule.output_claim_to_headers):
        if one.header and not _HEADER.match(one.header):
            where = path.child("outputClaimToHeaders", at, "header")
            yield Problem(where, f"{one.header!r} is not a header name", remedy="Use letters, digits, '-' and '_'.")
    if rule.timeout is not None and (wrong := wrong_duration(rule.timeout)):
        yield Problem(path / "timeout", f"must be a valid duration greater than 1ms: {wrong}")


def wrong_uri(text: str) -> str:
    """Why nothing can be fetched from a URI, or ""."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{text!r} is not a URL: {error}"
    if parts.scheme not in ("http", "https"):
        return f"{text!r}: url must have scheme http:// or https://"
    return "" if host else f"{text!r} names no host"


def _keys(text: str, path: FieldPath) -> Iterator[Problem]:
    keys, wrong = read_keys(text)
    if wrong:
        yield Problem(path, f"jwks parse error: {wrong}", remedy='Give {"keys": [...]} with the public keys.')
        return
    if not keys:
        said = "there is no key: every token is refused"
        yield Problem(path, said, Severity.WARNING, "Add the issuer's public keys.", "FL0101")
    for at, key in enumerate(keys):
        if wrong := wrong_key(key):
            said = f"keys[{at}] cannot verify any token: {wrong}"
            yield Problem(path, said, Severity.WARNING, "Mend or remove the key.", "FL0101")
    if any(map(is_private, keys)):
        said = "a private or symmetric key stands here: who can read this object can issue tokens"
        yield Problem(path, said, Severity.WARNING, "Leave only the public parts.", "FL0101")
