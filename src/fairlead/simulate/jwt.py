"""Envoy's JWT filter: which token a request shows, and whether the filter takes it (envoy jwt_authn v3).

Signatures are not looked at: a request says whether its token is valid, and if not what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from typing import Any, cast

import msgspec
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwtAuthentication,
    JwtProvider,
    JwtRequirement,
    PerRouteConfig,
)

from fairlead.envoy.jwt import UNKNOWN_KEYS
from fairlead.simulate.matching import Undecided
from fairlead.simulate.message import Message
from fairlead.simulate.request import Request
from fairlead.simulate.routing import refusal

MISSING = "Jwt is missing"
NOT_FOR_US = "Audiences in Jwt are not allowed"
UNKNOWN_ISSUER = "Jwt issuer is not configured"
EXPIRED = "Jwt is expired"
NOT_SIGNED = "Jwt verification fails"
_WEAK = (MISSING, UNKNOWN_ISSUER)
"""Of several problems these give way to others."""


class Answer(msgspec.Struct, frozen=True):
    """What the filter says: "" if the request may pass, else the problem. `providers` are those whose token it took."""

    problem: str = ""
    providers: tuple[str, ...] = ()
    asked: bool = True


def verify(config: JwtAuthentication, request: Request, message: Message, per_route: PerRouteConfig | None) -> Answer:
    """Judge a request by the first rule that is for it."""
    wanted = _wanted(config, message, per_route)
    if wanted is None:
        return Answer(asked=False)
    taken: list[str] = []
    problem = _Verifier(config, request, message, taken).requirement(wanted)
    return Answer(problem, tuple(taken) if not problem else ())


def _wanted(config: JwtAuthentication, message: Message, per_route: PerRouteConfig | None) -> JwtRequirement | None:
    if per_route is not None:
        if per_route.disabled:
            return None
        if per_route.requirement_name:
            return config.requirement_map[per_route.requirement_name]
    for rule in config.rules:
        if not refusal(rule.match, message, message.metadata):
            if rule.requirement_name:
                return config.requirement_map[rule.requirement_name]
            return rule.requires if rule.HasField("requires") else None
    return None


class _Verifier:
    def __init__(self, config: JwtAuthentication, request: Request, message: Message, taken: list[str]) -> None:
        self._config = config
        self._request = request
        self._message = message
        self._taken = taken

    def requirement(self, asked: JwtRequirement) -> str:
        """The problem of a requirement, "" if it is met."""
        match asked.WhichOneof("requires_type"):
            case "provider_name":
                return self._provider(asked.provider_name)
            case "provider_and_audiences":
                return self._provider(
                    asked.provider_and_audiences.provider_name, list(asked.provider_and_audiences.audiences)
                )
            case "requires_any":
                return self._any(list(asked.requires_any.requirements))
            case "requires_all":
                return next((said for one in asked.requires_all.requirements if (said := self.requirement(one))), "")
            case _:
                return ""

    def _any(self, many: list[JwtRequirement]) -> str:
        worst = ""
        lenient = ""
        for one in many:
            kind = one.WhichOneof("requires_type")
            if kind in ("allow_missing", "allow_missing_or_failed"):
                lenient = str(kind)
                continue
            said = self.requirement(one)
            if not said:
                return ""
            if not worst or said not in _WEAK:
                worst = said
        if lenient == "allow_missing_or_failed" or (lenient and worst in ("", MISSING)):
            return ""
        return worst

    def _provider(self, name: str, audiences: list[str] | None = None) -> str:
        provider = self._config.providers[name]
        if not shows_token(provider, self._request, self._message):
            return MISSING
        problem = self._token(provider, audiences or list(provider.audiences))
        if not problem:
            self._taken.append(name)
        return problem

    def _token(self, provider: JwtProvider, audiences: list[str]) -> str:
        """The first problem in the order in which Envoy looks: issuer, time, audience, signature.

        A token whose audience is wrong is as good as any to a provider that asks for none.
        """
        request, claims = self._request, self._request.claims
        wrong = request.token_problem
        if claims is None and not wrong:
            raise Undecided("the claims of the token decide, and are not given")
        if wrong == "issuer" or (claims is not None and provider.issuer not in ("", claims.get("iss", ""))):
            return UNKNOWN_ISSUER
        if wrong == "expired":
            return EXPIRED
        if audiences and (wrong == "audience" or not _is_for(claims, audiences)):
            return NOT_FOR_US
        if wrong == "signature":
            return NOT_SIGNED
        if provider.local_jwks.inline_string == UNKNOWN_KEYS:
            raise Undecided(f"the keys of {provider.issuer or 'the issuer'} are not known here")
        return ""


def _is_for(claims: Mapping[str, Any] | None, audiences: list[str]) -> bool:
    """Whether a token is for one of these; one of which no claims are given is."""
    if claims is None:
        return True
    said = claims.get("aud", [])
    given = [said] if isinstance(said, str) else cast("list[str]", said)
    return bool({_plain(one) for one in given} & {_plain(one) for one in audiences})


def shows_token(provider: JwtProvider, request: Request, message: Message) -> bool:
    """Whether the request has a token where a provider looks for it."""
    if request.token_problem == "missing":  # noqa: S105 - the name of a problem
        return False
    standard = not (provider.from_headers or provider.from_params or provider.from_cookies)
    bearer = (message.header("authorization") or "").startswith("Bearer ")
    presents = request.claims is not None or bool(request.token_problem)
    places: list[Callable[[], bool]] = []
    if standard:
        places.append(lambda: "access_token" in message.query)
    for one in provider.from_headers:
        places.append(_present(message, one.name.lower(), one.value_prefix))
    places += [lambda one=one: one in message.query for one in provider.from_params]
    cookies = SimpleCookie(message.header("cookie") or "")
    places += [lambda one=one: one in cookies for one in provider.from_cookies]
    if any(found() for found in places):
        return True
    authorised = standard or any(
        one.name.lower() == "authorization" and one.value_prefix.strip() in ("", "Bearer")
        for one in provider.from_headers
    )
    return authorised and (presents or bearer)


def _present(message: Message, name: str, prefix: str) -> Callable[[], bool]:
    def found() -> bool:
        value = message.header(name)
        return value is not None and value.startswith(prefix)

    return found


def accepted(config: JwtAuthentication, name: str, claims: Mapping[str, Any], message: Message) -> None:
    """What the filter does with a token that it takes: metadata, headers for the application, the token removed."""
    provider = config.providers[name]
    if provider.payload_in_metadata:
        spaced = set(provider.normalize_payload_in_metadata.space_delimited_claims)
        payload = {
            key: value.split(" ") if key in spaced and isinstance(value, str) else value
            for key, value in claims.items()
        }
        message.metadata.setdefault("envoy.filters.http.jwt_authn", {})[provider.payload_in_metadata] = payload
    if provider.forward_payload_header:
        message.set(provider.forward_payload_header, "(the token's payload)")
    for one in provider.claim_to_headers:
        value: Any = claims
        for part in one.claim_name.split("."):
            value = cast("Mapping[str, Any]", value).get(part) if isinstance(value, Mapping) else None
        if value is not None:
            message.set(one.header_name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
    if not provider.forward and not provider.from_headers:
        message.remove("authorization")


def _plain(audience: str) -> str:
    """Envoy compares audiences without scheme and last slash."""
    return audience.removeprefix("https://").removeprefix("http://").removesuffix("/")
