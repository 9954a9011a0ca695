"""Key sets (JWKS, RFC 7517): reading them, and which keys Envoy can verify tokens with.

Envoy leaves out keys that it does not understand, but refuses a set, and with it the listener, in which it understands
none.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, cast

import msgspec

_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth"))
_TYPES = ("RSA", "EC", "OKP", "oct")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
"""The algorithm of signatures, by curve."""
_HMACS = ("HS256", "HS384", "HS512")
_RSA_BITS = range(1024, 8193)

Key = dict[str, Any]


def read_keys(text: str) -> tuple[list[Key], str]:
    """The keys of a key set, or of a text that is one key; else none and what is wrong."""
    try:
        document: Any = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        return [], f"not JSON: {error}"
    if not isinstance(document, dict):
        return [], "not a JSON object"
    found = cast("Key", document)
    keys: Any = [found] if "keys" not in found and "kty" in found else found.get("keys")
    if not isinstance(keys, list):
        return [], 'there is no list under "keys"'
    out: list[Key] = []
    for at, key in enumerate(cast("list[Any]", keys)):
        if not isinstance(key, dict):
            return [], f"keys[{at}] is not an object"
        one = cast("Key", key)
        if one.get("kty") not in _TYPES:
            return [], f"keys[{at}].kty is not one of {', '.join(_TYPES)}"
        out.append(one)
    return out, ""


def key_set(text: str) -> str:
    """A valid text as a key set: as it is written, or around the one key that it is."""
    keys, _ = read_keys(text)
    document: Any = msgspec.json.decode(text)
    return text if "keys" in document else msgspec.json.encode({"keys": keys}).decode()


def public_key_set(keys: list[Key]) -> str:
    """Keys as a key set without what only the issuer may know; equal keys give equal texts."""
    shown = [{name: key[name] for name in sorted(key) if name not in _PRIVATE} for key in keys]
    return msgspec.json.encode({"keys": shown}, order="sorted").decode()


def is_private(key: Key) -> bool:
    """Whether a key shows what only the issuer may know."""
    return key.get("kty") == "oct" or bool(_PRIVATE & key.keys())


def wrong_key(key: Key) -> str:
    """Why Envoy cannot verify tokens with a key, or "" if it surely can."""
    algorithm: Any = key.get("alg") or ""
    if not isinstance(algorithm, str) or not isinstance(key.get("kid") or "", str):
        return "alg and kid must be texts"
    match key.get("kty"):
        case "RSA":
            return _wrong_rsa(key, algorithm)
        case "EC":
            return _wrong_ec(key, algorithm)
        case "OKP":
            fine = key.get("crv") == "Ed25519" and len(_bytes(key, "x")) == 32 and algorithm in ("", "EdDSA")
            return "" if fine else "not an Ed25519 key"
        case "oct":
            return "" if _bytes(key, "k") and algorithm in ("", *_HMACS) else "not a key for HMAC with SHA-2"
        case _:
            return f"kty is not one of {', '.join(_TYPES)}"


def _wrong_rsa(key: Key, algorithm: str) -> str:
    modulus, exponent = _number(key, "n"), _number(key, "e")
    if modulus.bit_length() not in _RSA_BITS or not modulus % 2:
        return "n is not an RSA modulus of 1024 to 8192 bits"
    if exponent < 3 or not exponent % 2 or exponent.bit_length() > 32:
        return "e is not an RSA exponent"
    return "" if not algorithm or algorithm[:2] in ("RS", "PS") else f"alg {algorithm} is not for RSA signatures"


def _wrong_ec(key: Key, algorithm: str) -> str:
    name: Any = key.get("crv")
    if name not in _CURVES:
        return f"crv is not one of {', '.join(_CURVES)}"
    if algorithm not in ("", _CURVES[name]):
        return f"alg {algorithm} is not for {name}"
    return "" if _on_curve(name, _number(key, "x"), _number(key, "y")) else f"x and y are not a point on {name}"


def _on_curve(name: str, x: int, y: int) -> bool:
    # Every command that compiles imports this module, and hardly any meets such a key.
    from cryptography.hazmat.primitives.asymmetric import ec

    curves: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    try:
        ec.EllipticCurvePublicNumbers(x, y, curves[name]).public_key()
    except ValueError:
        return False
    return True


def _number(key: Key, field: str) -> int:
    return int.from_bytes(_bytes(key, field))


def _bytes(key: Key, field: str) -> bytes:
    """A field that is base64url without padding; b"" if it is not."""
    text: Any = key.get(field)
    if not isinstance(text, str) or not text.isascii() or "=" in text:
        return b""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return b""


def published_keys(text: str) -> tuple[str, str]:
    """What of a fetched key set is of use, as a key set; else "" and what is wrong.

    Keys of kinds that nobody here knows are left out (RFC 7517, section 5), and so are symmetric ones: they are secret.
    """
    try:
        document: Any = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return "", "the answer is not JSON"
    found: Any = cast("Key", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        return "", 'the answer is not a key set: there is no list under "keys"'
    objects = [cast("Key", one) for one in cast("list[Any]", found) if isinstance(one, dict)]
    usable = [one for one in objects if one.get("kty") != "oct" and not wrong_key(one)]
    return (public_key_set(usable), "") if usable else ("", "the key set has no key that tokens can be verified with")
