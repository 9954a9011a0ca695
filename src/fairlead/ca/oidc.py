"""Joining with a token of another issuer (OpenID Connect): a cloud's instance identity, a CI system, Kubernetes.

An issuer is trusted for an audience, and rules say whose tokens stand for which service account. Keys are held by the
caller (`keys`), so that nothing is fetched while a request waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, cast

import jwt
import msgspec

from fairlead.ca.tokens import MAX_TOKEN_BYTES, TokenRefused, span
from fairlead.model.identity import Identity

_ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA")
_LEEWAY = 60
_REFERENCE = re.compile(r"\{([A-Za-z0-9_.:/-]+)\}")


class IdentityRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Whose tokens stand for whom. `claims` must all match (`*` stands for any text; a list needs one that matches).

    A claim inside another is written `outer.inner`. `namespace` and `service_account` may hold `{claim}`.
    """

    service_account: str
    namespace: str
    claims: dict[str, str] = {}


class JoinIssuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A trusted issuer of tokens. Keys come from `jwks_uri`, or `jwks` holds them (JSON)."""

    issuer: str
    audience: str
    rules: tuple[IdentityRule, ...]
    jwks_uri: str = ""
    jwks: str = ""


class IssuersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of `fairlead serve --join-issuers`."""

    issuers: tuple[JoinIssuer, ...]


def read_issuers(document: object) -> tuple[JoinIssuer, ...]:
    """The issuers of a decoded file. Raises ValueError that names the field and the remedy."""
    try:
        found = msgspec.convert(document, IssuersFile).issuers
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    for at, one in enumerate(found):
        where = f"issuers[{at}]"
        if bool(one.jwks_uri) == bool(one.jwks):
            raise ValueError(f"{where}: give either jwksUri or jwks")
        if not one.rules:
            raise ValueError(f"{where}.rules: without a rule no token stands for anybody")
        if not one.audience or not one.issuer:
            raise ValueError(f"{where}: issuer and audience must not be empty")
        for number, rule in enumerate(one.rules):
            # A rule for everybody with fixed names would give one identity to all who can log in at the issuer.
            if not rule.claims and not (_REFERENCE.search(rule.service_account) or _REFERENCE.search(rule.namespace)):
                raise ValueError(f"{where}.rules[{number}].claims: say which tokens stand for this service account")
    return found


class ForeignTokens:
    """Verifies tokens of trusted issuers. `keys` gives an issuer's key set (JSON), None where there is none yet.

    `missing` is told of an issuer whose keys do not hold the one that a token names.
    """

    def __init__(
        self,
        issuers: Sequence[JoinIssuer],
        keys: Callable[[JoinIssuer], str | None],
        missing: Callable[[JoinIssuer], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._issuers = {one.issuer: one for one in issuers}
        self._keys = keys
        self._missing = missing
        self._clock = clock

    def issued(self, token: str) -> JoinIssuer | None:
        """The issuer that a token names, if it is one of these. Nothing is verified."""
        return self._issuers.get(named_issuer(token))

    @property
    def trusted(self) -> tuple[str, ...]:
        """The issuers, in order."""
        return tuple(sorted(self._issuers))

    def identity(self, issuer: JoinIssuer, token: str, trust_domain: str) -> Identity:
        """Whom the token stands for. Raises TokenRefused."""
        claims = self._verified(issuer, token)
        for rule in issuer.rules:
            if all(_matches(claims, path, pattern) for path, pattern in rule.claims.items()):
                try:
                    namespace, account = _filled(rule.namespace, claims), _filled(rule.service_account, claims)
                    return Identity(trust_domain, namespace, account).checked()
                except ValueError as error:
                    raise TokenRefused(f"the token of {issuer.issuer} gives no identity: {error}") from None
        subject = str(claims.get("sub", "?"))[:200]
        raise TokenRefused(
            f"no rule for {issuer.issuer} says whom a token of {subject!r} stands for: add one to the file of issuers"
        )

    def _verified(self, issuer: JoinIssuer, token: str) -> dict[str, Any]:
        key = self._key(issuer, token)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=issuer.issuer,
                audience=issuer.audience,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError:
            raise TokenRefused(_wrong_audience(issuer, token)) from None
        except jwt.InvalidSignatureError:
            where = issuer.jwks_uri or "the keys in the file of issuers"
            raise TokenRefused(
                f"the token of {issuer.issuer} is not signed by a key of {where}: get a new one, or correct jwksUri"
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenRefused(f"the token of {issuer.issuer} is refused: {error}: get a new one there") from None
        self._check_times(issuer, claims)
        return claims

    def _check_times(self, issuer: JoinIssuer, claims: Mapping[str, Any]) -> None:
        now = self._clock().timestamp()
        times: dict[str, float] = {}
        for claim in ("exp", "nbf"):
            at = claims.get(claim, now if claim == "nbf" else None)
            if isinstance(at, bool) or not isinstance(at, int | float):
                raise TokenRefused(f"the claim {claim} of the token of {issuer.issuer} is not a time")
            times[claim] = at
        if now >= times["exp"] + _LEEWAY:
            raise TokenRefused(
                f"the token of {issuer.issuer} has expired, {span(now - times['exp'])} ago by the control plane's "
                "clock: get a new one there, and see that whoever writes the token file renews it"
            )
        if now + _LEEWAY < times["nbf"]:
            raise TokenRefused(
                f"the token of {issuer.issuer} is not valid yet, it begins in {span(times['nbf'] - now)} by the "
                "control plane's clock: check the clocks of the issuer and of the control plane"
            )

    def _key(self, issuer: JoinIssuer, token: str) -> jwt.PyJWK:
        content = self._keys(issuer)
        if content is None:
            self._missing(issuer)
            raise TokenRefused(f"the keys of {issuer.issuer} are not here yet: try again in some seconds")
        try:
            keys = jwt.PyJWKSet.from_json(content).keys
            wanted: object = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise TokenRefused(f"the keys of {issuer.issuer}, or the token's header, cannot be read: {error}") from None
        found = [one for one in keys if wanted is None or one.key_id == wanted]
        if len(found) != 1:
            self._missing(issuer)
            raise TokenRefused(
                f"{issuer.issuer} has no key {wanted!r}: they are fetched anew, try again in some seconds"
            )
        return found[0]


def named_issuer(token: str) -> str:
    """The issuer that a token names, "" if it names none. Nothing is verified."""
    named = _unverified(token).get("iss")
    return named if isinstance(named, str) else ""


def _unverified(token: str) -> dict[str, Any]:
    if len(token) > MAX_TOKEN_BYTES:
        return {}
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return {}


def _wrong_audience(issuer: JoinIssuer, token: str) -> str:
    said: object = _unverified(token).get("aud")
    listed = cast("list[object]", said) if isinstance(said, list) else [said]
    found = ", ".join(str(one)[:100] for one in listed[:5]) or "nobody"
    return (
        f"the token of {issuer.issuer} is meant for {found}, not for {issuer.audience}: ask the issuer for one with "
        f"the audience {issuer.audience}, or set the audience in the file of issuers"
    )


def _value(claims: Mapping[str, Any], path: str) -> object:
    if path in claims:
        return claims[path]
    # The outer claim's own name may have dots, as in `kubernetes.io`.
    for name, inner in claims.items():
        if path.startswith(f"{name}.") and isinstance(inner, dict):
            found = _value(cast("dict[str, Any]", inner), path[len(name) + 1 :])
            if found is not None:
                return found
    return None


def _matches(claims: Mapping[str, Any], path: str, pattern: str) -> bool:
    found = _value(claims, path)
    values: list[object] = cast("list[object]", found) if isinstance(found, list) else [found]
    # Patterns know `*` only: brackets and question marks occur in subjects.
    exact = re.sub(r"([\[?])", r"[\1]", pattern)
    return any(isinstance(one, str | int) and fnmatchcase(str(one), exact) for one in values)


def _filled(template: str, claims: Mapping[str, Any]) -> str:
    def fill(reference: re.Match[str]) -> str:
        found = _value(claims, reference[1])
        if not isinstance(found, str):
            raise ValueError(f"it has no text in claim {reference[1]!r}")
        return found

    return _REFERENCE.sub(fill, template)
