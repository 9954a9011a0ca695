"""Requests as people write them: a caller, a URL, and what goes with it.

What cannot be understood raises ValueError with a message for people.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from fairlead.simulate.request import Caller, Request

_SCHEMES: dict[str, tuple[Literal["http", "http2", "http3", "grpc", "tcp"], bool, int]] = {
    "http": ("http", False, 80),
    "https": ("http", True, 443),
    "h2c": ("http2", False, 80),
    "h2": ("http2", True, 443),
    "h3": ("http3", True, 443),
    "grpc": ("grpc", False, 80),
    "grpcs": ("grpc", True, 443),
    "tcp": ("tcp", False, 0),
    "tls": ("tcp", True, 443),
}


def caller_of(text: str, gateway: str = "", user: str = "") -> Caller:
    """`NAME[.NAMESPACE]` (as `user`), `internet[:IP]` (through `gateway`, if one is named), `plaintext[:IP]`."""
    kind, _, address = text.partition(":")
    if kind in ("internet", "plaintext"):
        if address:
            _check_address(address)
        name, _, namespace = gateway.partition(".")
        if kind == "plaintext":
            return Caller("plaintext", address=address)
        return Caller("internet", namespace, name, address)
    if ":" in text or not text:
        raise ValueError(f"{text!r} is no caller: write NAME, NAME.NAMESPACE, internet or plaintext:IP")
    name, _, namespace = text.partition(".")
    return Caller("workload", namespace, name, user=user)


def _check_address(text: str) -> None:
    from ipaddress import ip_address

    try:
        ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def request_of(
    url: str,
    *,
    method: str = "GET",
    headers: Iterable[str] = (),
    sni: str = "",
    claims: dict[str, Any] | None = None,
    problem: str = "",
    certificate: Literal["", "valid", "invalid"] = "",
) -> Request:
    """A request to a URL; headers are `NAME: VALUE` or `NAME=VALUE`."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None
    known = _SCHEMES.get(parts.scheme)
    if known is None:
        raise ValueError(f"{url!r} has no scheme that is known: {', '.join(_SCHEMES)}")
    protocol, tls, usual = known
    try:
        port = parts.port or usual
    except ValueError:
        raise ValueError(f"{url!r} has no valid port") from None
    if not parts.hostname or not port:
        raise ValueError(f"{url!r} names no {'port' if parts.hostname else 'host'}")
    pairs = [_header(one) for one in headers]
    authority = next((value for name, value in pairs if name in ("host", ":authority")), "")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Request(
        parts.hostname,
        port,
        path,
        method.upper(),
        tuple(one for one in pairs if one[0] not in ("host", ":authority")),
        protocol,
        authority,
        tls=tls,
        sni=sni,
        claims=claims,
        token_problem=problem,
        certificate=certificate,
    )


def _header(text: str) -> tuple[str, str]:
    start = 1 if text.startswith(":") else 0
    at = min((one for one in (text.find(":", start), text.find("=", start)) if one > 0), default=-1)
    if at < 0:
        raise ValueError(f"header {text!r}: write 'NAME: VALUE'")
    return text[:at].strip().lower(), text[at + 1 :].strip()


def claims_of(text: str) -> dict[str, Any]:
    """Claims from a JSON object."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError(f"the claims are not a JSON object: {error}") from None


def token_claims(token: str) -> dict[str, Any]:
    """The claims of a token (JWT). Its signature is not looked at."""
    parts = token.strip().removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        raise ValueError("the token is no JWT: it has not three parts")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"the token is no JWT: {error}") from None
