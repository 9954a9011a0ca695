"""Further roots that peers may come from (MeshConfig caCertificates), and SPIFFE bundles that hold such roots.

Semantics of a bundle: SPIFFE Trust Domain and Bundle, section 4: a JWK set whose keys of use `x509-svid` have a
certificate in `x5c`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

_REFRESH = (10.0, 24 * 3600.0)
_LINE = 64


class TrustAnchor(msgspec.Struct, frozen=True):
    """Roots as PEM, or a URL at which a SPIFFE bundle has them; `domains` are those whose peers they vouch for.

    Without domains they vouch for everybody.
    """

    pem: str = ""
    url: str = ""
    domains: tuple[str, ...] = ()


class Bundle(msgspec.Struct, frozen=True):
    """What a SPIFFE bundle says: roots as PEM, and after how many seconds to look again (0: it does not say)."""

    pem: str
    refresh: float = 0


def read_bundle(text: str) -> Bundle:
    """A SPIFFE bundle's roots. Raises ValueError with what is wrong; keys of other uses do not matter."""
    try:
        document: Any = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("the answer is not JSON") from None
    keys: Any = cast("Mapping[str, Any]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError('the answer is no SPIFFE bundle: there is no list under "keys"')
    found = [_certificate(one) for one in cast("list[object]", keys)]
    pem = "".join(dict.fromkeys(one for one in found if one))
    if not pem:
        raise ValueError("the bundle has no key of use x509-svid with one certificate")
    hint: object = cast("Mapping[str, Any]", document).get("spiffe_refresh_hint")
    given = isinstance(hint, int | float) and not isinstance(hint, bool) and hint > 0
    return Bundle(pem, min(max(float(cast("float", hint)), _REFRESH[0]), _REFRESH[1]) if given else 0)


def _certificate(key: object) -> str:
    if not isinstance(key, dict):
        return ""
    said = cast("Mapping[str, Any]", key)
    chain: object = said.get("x5c")
    if said.get("use") != "x509-svid" or not isinstance(chain, list) or len(cast("list[object]", chain)) != 1:
        return ""
    text = cast("list[object]", chain)[0]
    try:
        der = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError):
        return ""
    encoded = base64.b64encode(der).decode()
    lines = "\n".join(encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n" if der else ""


def bundles(anchors: Iterable[TrustAnchor], fetched: Mapping[str, str], own: Iterable[str]) -> dict[str, str]:
    """The further roots (PEM) by trust domain; those that vouch for everybody stand under "" only.

    `fetched` are roots by URL, `own` the trust domains of the mesh, whose peers the mesh's own roots vouch for, too.
    Where no anchor is for certain domains there is nothing but "": then peers of every domain are judged alike. A
    domain whose bundle is not known yet is left out: its peers are refused.
    """
    known = tuple(anchors)
    found: dict[str, list[str]] = {}
    if any(one.domains for one in known):
        found = {domain: [] for domain in own}
    for one in known:
        pem = one.pem or fetched.get(one.url, "")
        for domain in (one.domains or ("",)) if pem else ():
            found.setdefault(domain, []).append(pem if pem.endswith("\n") else f"{pem}\n")
    return {domain: "".join(dict.fromkeys(parts)) for domain, parts in sorted(found.items())}
