"""Keys, tokens and certificates. All keys are derived from fixed numbers, and protect nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm

ISSUERS = ("https://issuer.one", "https://issuer.two")
AUDIENCE = "shop"
_GOOD, _BAD, _SERVER = (ec.derive_private_key(number, ec.SECP256R1()) for number in (7001, 7002, 7003))
_FAR, _PAST = 4102444800, 1000000000


def jwks() -> str:
    """The keys with which good tokens are signed."""
    key: dict[str, Any] = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(_GOOD.public_key(), as_dict=True)
    return json.dumps({"keys": [{**key, "kid": "one", "alg": "ES256", "use": "sig"}]})


@cache
def token(claims: str, problem: str) -> str:
    """A token with these claims (JSON), or one that has a problem: expired, signature, issuer, audience."""
    body: dict[str, Any] = {"exp": _FAR, **json.loads(claims)}
    if problem == "expired":
        body["exp"] = _PAST
    elif problem == "issuer":
        body["iss"] = "https://nobody.example"
    elif problem == "audience":
        body["aud"] = "somebody else"
    key = _BAD if problem == "signature" else _GOOD
    return jwt.encode(body, key, algorithm="ES256", headers={"kid": "one"})


_NAMES = ("*.example", "*.one.svc.cluster.local", "*.two.svc.cluster.local")


@cache
def server_certificate() -> tuple[str, str]:
    """A certificate for gateways and its key, PEM; it is its own authority."""
    return _certificate(_SERVER)


@cache
def other_certificate() -> tuple[str, str]:
    """A certificate of the same name, which nobody trusts, and its key."""
    return _certificate(ec.generate_private_key(ec.SECP256R1()))


def _certificate(own: ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "differential")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in _NAMES]), critical=False)
        .sign(own, hashes.SHA256())
    )
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode(), key.decode()
