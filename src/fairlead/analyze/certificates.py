"""Certificates and keys in Secrets: whether they are what they should be, and until when.

The library that reads them is imported where one is met: it would take a tenth of the time of a small analysis.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from typing import TYPE_CHECKING, Any

from fairlead.analyze import shape

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_HOUR = 3600


def held(secret: dict[str, Any], *names: str) -> bytes | None:
    """The bytes of the first of these keys that a Secret has, decoded; None if it has none or it cannot be decoded."""
    for name in names:
        plain = shape.value(secret, "stringData", name)
        if isinstance(plain, str):
            return plain.encode()
        coded = shape.value(secret, "data", name)
        if isinstance(coded, str):
            try:
                return base64.b64decode(coded, validate=True)
            except (binascii.Error, ValueError):
                return b""
    return None


def certificate_of(pem: bytes) -> x509.Certificate | None:
    """The first certificate of a PEM text, None if there is none that can be read."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    with warnings.catch_warnings():
        # The library warns of odd serial numbers, which Envoy and its clients take.
        warnings.simplefilter("ignore")
        try:
            return x509.load_pem_x509_certificate(pem)
        except (ValueError, UnsupportedAlgorithm):
            return None


def _private_key(pem: bytes) -> PrivateKeyTypes | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def expiry(pem: bytes) -> tuple[float, float] | None:
    """From when until when the first certificate of a PEM text holds, in seconds since 1970; None if there is none."""
    found = certificate_of(pem)
    return None if found is None else _span(found)


def _span(found: x509.Certificate) -> tuple[float, float]:
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def credential_problem(secret: dict[str, Any], now: int | None) -> str:
    """Why a Secret is no credential of a gateway's server; "" if it is one. Without a time nothing is expired."""
    certificate, key = held(secret, "tls.crt", "cert"), held(secret, "tls.key", "key")
    if certificate is None or key is None:
        missing = "tls.crt" if certificate is None else "tls.key"
        return f"it has no {missing}"
    leaf = certificate_of(certificate)
    if leaf is None:
        return "tls.crt is not a PEM certificate"
    if _private_key(key) is None:
        return "tls.key is not a PEM private key"
    if now is not None and leaf.not_valid_after_utc.timestamp() <= now:
        return f"its certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
    if now is not None and leaf.not_valid_before_utc.timestamp() > now + _HOUR:  # the clock goes by the hour
        return f"its certificate does not hold before {leaf.not_valid_before_utc:%Y-%m-%d}"
    return ""


def names_of(secret: dict[str, Any]) -> list[str]:
    """The host names that a Secret's certificate is for; none where it cannot be read or names no host."""
    certificate = held(secret, "tls.crt", "cert")
    leaf = certificate_of(certificate) if certificate else None
    if leaf is None:
        return []
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [one.lower() for one in found.value.get_values_for_type(x509.DNSName)]


def covers(names: list[str], host: str) -> bool:
    """Whether a client that asks for a host takes a certificate of these names (RFC 6125: `*` is one label)."""
    host = host.lower()
    return host in names or f"*.{host.partition('.')[2]}" in names


def fits(secret: dict[str, Any]) -> bool:
    """Whether a Secret's key is that of its certificate; True where one of them cannot be read."""
    certificate, key = held(secret, "tls.crt", "cert"), held(secret, "tls.key", "key")
    leaf = certificate_of(certificate) if certificate else None
    if leaf is None or not key:
        return True
    private = _private_key(key)
    if private is None:
        return True
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private.public_key().public_bytes(*form) == leaf.public_key().public_bytes(*form)
