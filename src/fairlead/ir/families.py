"""Families of addresses: with which of IPv4 and IPv6 a proxy can work, and where it then stands.

A proxy's own addresses say it, as in Istio (`DiscoverIPMode`). Istio asks for a switch as well (`ISTIO_DUAL_STACK`)
before it treats a proxy with addresses of both families as one that has both; here the addresses are enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from fairlead.model.syntax import UNIX_PREFIX

Families = Literal["IPv4", "IPv6", "dual"]

ANYWHERE = "0.0.0.0"  # noqa: S104 - the name of Istio's listeners that match any destination address
ANYWHERE_V6 = "::"

_V4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_WILDCARDS = {"IPv4": (ANYWHERE,), "IPv6": (ANYWHERE_V6,), "dual": (ANYWHERE, ANYWHERE_V6)}
_LOOPBACKS = {"IPv4": ("127.0.0.1",), "IPv6": ("::1",), "dual": ("127.0.0.1", "::1")}
_SOURCES = {"IPv4": ("127.0.0.6",), "IPv6": ("::6",), "dual": ("127.0.0.6", "::6")}


def families_of(addresses: Iterable[str]) -> Families:
    """The families of a proxy with these addresses; IPv4 where nothing is known. Link-local ones say nothing."""
    found = {version for one in addresses if (version := version_of(one)) and not one.lower().startswith("fe80:")}
    if not found or found == {4}:
        return "IPv4"
    return "IPv6" if found == {6} else "dual"


def version_of(address: str) -> int:
    """4 or 6, or 0 for what is no address (a name, a path). Asked of every endpoint, so it takes a look only."""
    if ":" in address:
        return 0 if address.startswith(UNIX_PREFIX) else 6
    return 4 if _V4.fullmatch(address) else 0


def wildcards(families: Families) -> tuple[str, ...]:
    """The addresses that stand for any; the first one gives listeners their names."""
    return _WILDCARDS[families]


def loopbacks(families: Families) -> tuple[str, ...]:
    """The host's own addresses of loopback."""
    return _LOOPBACKS[families]


def application_sources(families: Families) -> tuple[str, ...]:
    """The addresses from which Envoy dials the application: capture rules leave calls from them alone."""
    return _SOURCES[families]


def of_family(addresses: Iterable[str], families: Families) -> tuple[str, ...]:
    """Those addresses that a proxy can work with; all of them where it can with none. Names count as either."""
    found = tuple(addresses)
    other = {"IPv4": 6, "IPv6": 4}.get(families, 0)
    return tuple(one for one in found if not other or version_of(one) != other) or found
