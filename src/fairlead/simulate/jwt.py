"""Envoy's JWT filter: which token a request shows, and whether the filter takes it (envoy jwt_authn v3).

Signatures are not looked at: a request says whether its token is valid, and if not what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any, NamedTuple, cast

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
NOT_A_TOKEN = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"  # noqa: S105


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


class _Shown(NamedTuple):
    """A token where a provider looks for it: its text, and the header that it is in ("": elsewhere)."""

    text: str
    header: str = ""


class _Verifier:
    """Goes through requirements as Envoy does, which takes a token away and adds headers as soon as it has taken it."""

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
                named = asked.provider_and_audiences
                return self._provider(named.provider_name, list(named.audiences))
            case "requires_any":
                return self._any(list(asked.requires_any.requirements))
            case "requires_all":
                return next((said for one in asked.requires_all.requirements if (said := self.requirement(one))), "")
            case _:
                return ""

    def _any(self, many: list[JwtRequirement]) -> str:
        """Of several problems the last one counts, but a token that is missing, or of another issuer, least."""
        lenient: set[str | None] = set()
        worst = MISSING
        for one in many:
            kind = one.WhichOneof("requires_type")
            if kind in ("allow_missing", "allow_missing_or_failed"):
                lenient.add(kind)
                continue
            problem = self.requirement(one)
            if not problem:
                return ""
            if worst == MISSING or problem not in (MISSING, UNKNOWN_ISSUER):
                worst = problem
        if "allow_missing_or_failed" in lenient or (lenient and worst == MISSING):
            return ""
        return worst

    def _provider(self, name: str, audiences: list[str] | None = None) -> str:
        """Verify what is shown where a provider looks, the last place first: all of it must be valid."""
        provider = self._config.providers[name]
        for header in (provider.forward_payload_header, *(each.header_name for each in provider.claim_to_headers)):
            self._message.remove(header)
        tokens = _shown(provider, self._message)
        for token in reversed(tokens):
            problem = self._token(token, name, provider, audiences or list(provider.audiences))
            if problem:
                return problem
        return "" if tokens else MISSING

    def _token(self, token: _Shown, name: str, provider: JwtProvider, audiences: list[str]) -> str:
        """The first problem in the order in which Envoy looks: form, issuer, time, audience, signature.

        A token whose audience is wrong is as good as any to a provider that asks for none.
        """
        claims, wrong = self._request.claims, self._request.token_problem
        if not self._message.token or token.text != self._message.token:
            if token.text.count(".") != 2:
                return NOT_A_TOKEN
            raise Undecided("a token that is not in the Authorization header decides; it is not looked at")
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
        self._take(name, provider, token, claims or {})
        return ""

    def _take(self, name: str, provider: JwtProvider, token: _Shown, claims: Mapping[str, Any]) -> None:
        message = self._message
        if name not in self._taken:
            self._taken.append(name)
        if provider.forward_payload_header:
            message.headers.append((provider.forward_payload_header.lower(), "(the token's payload)"))
        for one in provider.claim_to_headers:
            value = _claim(claims, one.claim_name)
            if value is not None:
                text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
                message.headers.append((one.header_name.lower(), text))
        if not provider.forward and token.header:
            message.remove(token.header)


def _shown(provider: JwtProvider, message: Message) -> list[_Shown]:
    """The tokens of a request at the places where a provider looks, in Envoy's order of places."""
    headers = [(one.name.lower(), one.value_prefix) for one in provider.from_headers]
    parameters = list(provider.from_params)
    if not (headers or parameters or provider.from_cookies):
        headers, parameters = [("authorization", "Bearer ")], ["access_token"]
    found: list[_Shown] = []
    for name, prefix in sorted(headers, key="".join):
        value = message.header(name)
        if value is not None and prefix in value:
            found.append(_Shown(value.partition(prefix)[2] if prefix else value, name))
    query, cookies = message.decoded_query, SimpleCookie(message.header("cookie") or "")
    found += [_Shown(query[name]) for name in sorted(parameters) if name in query]
    found += [_Shown(cookies[name].value) for name in sorted(provider.from_cookies) if name in cookies]
    return found


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """The value of a claim, `a.b` is b inside of a; None: there is none."""
    value: Any = claims
    for part in path.split("."):
        value = cast("Mapping[str, Any]", value).get(part) if isinstance(value, Mapping) else None
    return value


def _is_for(claims: Mapping[str, Any] | None, audiences: list[str]) -> bool:
    """Whether a token is for one of these; one of which no claims are given is."""
    if claims is None:
        return True
    said = claims.get("aud", [])
    given = [said] if isinstance(said, str) else cast("list[str]", said)
    return bool({_plain(one) for one in given} & {_plain(one) for one in audiences})


def accepted(config: JwtAuthentication, name: str, claims: Mapping[str, Any], message: Message) -> None:
    """Leave the payload of a token that was taken to the filters that come later."""
    provider = config.providers[name]
    if provider.payload_in_metadata:
        spaced = set(provider.normalize_payload_in_metadata.space_delimited_claims)
        payload = {
            key: value.split(" ") if key in spaced and isinstance(value, str) else value
            for key, value in claims.items()
        }
        message.metadata.setdefault("envoy.filters.http.jwt_authn", {})[provider.payload_in_metadata] = payload


def _plain(audience: str) -> str:
    """Envoy compares audiences without scheme and last slash."""
    return audience.removeprefix("https://").removeprefix("http://").removesuffix("/")
