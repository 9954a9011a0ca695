"""Cipher suites that Envoy's TLS library knows, by OpenSSL's names (Istio `pkg/config/security`)."""

from __future__ import annotations

from collections.abc import Iterable

_PRF = ("ECDHE-ECDSA-", "ECDHE-RSA-", "")
_SUITES = frozenset(
    {
        *(f"{prefix}{cipher}" for prefix in _PRF for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")),
        *(f"{prefix}{cipher}" for prefix in _PRF for cipher in ("AES128-SHA", "AES256-SHA")),
        *(f"{prefix}CHACHA20-POLY1305" for prefix in _PRF[:2]),
        *(f"{prefix}{cipher}" for prefix in _PRF[:2] for cipher in ("AES128-SHA256", "AES256-SHA384")),
        "AES128-SHA256",
        "AES256-SHA256",
        "DES-CBC3-SHA",
    }
)


def is_cipher_suite(text: str) -> bool:
    """A suite, an OpenSSL operation on one (`+X`, `-X`, `!X`), equally preferred suites, or a keyword."""
    if not text:
        return False
    if text in ("ALL", "@STRENGTH"):
        return True
    if text.startswith("[") and text.endswith("]"):
        return all(one in _SUITES for one in text[1:-1].split("|"))
    return text[1:] in _SUITES if text[0] in "+-!" else text in _SUITES


def usable(suites: Iterable[str]) -> tuple[str, ...]:
    """The known suites, each once, in order: what Istio passes on."""
    return tuple(dict.fromkeys(one for one in suites if is_cipher_suite(one)))


_CURVES = frozenset({"P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"})


def is_curve(name: str) -> bool:
    """Whether Envoy's TLS library knows the curve."""
    return name in _CURVES


def usable_curves(names: Iterable[str]) -> tuple[str, ...]:
    """The curves that are known, each once, in their order."""
    return tuple(dict.fromkeys(name for name in names if is_curve(name)))
