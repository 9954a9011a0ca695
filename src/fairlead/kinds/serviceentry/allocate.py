"""Addresses for hosts that have none. Pure: whoever stores a ServiceEntry says which addresses are taken.

Istio's rules (`networking.istio.io/enable-autoallocate-ip`): a host without wildcard that is looked up or listed, and
for which no address is given, gets one of IPv4 and one of IPv6, of ranges that nobody routes. They stand in the
status, so that they stay. The second follows from the first: at the same place of its range.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b
from ipaddress import ip_address
from typing import Any, cast

from fairlead.ir.host import ALLOCATED
from fairlead.model.diagnostic import Problem
from fairlead.model.path import SPEC

RANGE, RANGE_V6 = ALLOCATED
LABEL = "networking.istio.io/enable-autoallocate-ip"

Json = dict[str, Any]


def allocate(document: Json, used: Collection[str], _network: str = "") -> tuple[Json, list[Problem]]:
    """The document with `status.addresses` for its hosts.

    `used` holds what `addresses` says of the other objects. The first choice is a hash of namespace and host, then the
    next free address; entries for one host in one namespace share theirs.
    """
    held = dict(_held(document))
    wanted = _hosts(document)
    given: dict[str, str] = {}
    for host in wanted:
        claim = f"{_namespace(document)}/{host}"
        shared = next((one.rpartition("=")[2] for one in used if one.startswith(f"{claim}=")), "")
        kept = held.get(host, "")
        given[host] = shared or (kept if kept not in used else "") or _choose(claim, used, given.values())
    full = [host for host, address in given.items() if not address]
    if full:
        said = f"no address of {RANGE} is free for {full[0]}"
        return document, [Problem(SPEC / "hosts", said, remedy="Give the entry addresses.", code="FL2004")]
    if not given and not held:
        return document, []
    status = {key: value for key, value in _part(document, "status").items() if key != "addresses"}
    if given:
        status["addresses"] = [
            {"value": one, "host": host} for host, address in given.items() for one in (address, _twin(address))
        ]
    return {**{key: value for key, value in document.items() if key != "status"}, "status": status}, []


def addresses(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What a stored document holds: its addresses, and for each the claim `NAMESPACE/HOST=ADDRESS`."""
    return tuple(
        one for host, address in _held(document) for one in (address, f"{_namespace(document)}/{host}={address}")
    )


def _hosts(document: Json) -> list[str]:
    """The hosts that get an address."""
    spec = _part(document, "spec")
    labels = _part(_part(document, "metadata"), "labels")
    if (
        spec.get("addresses")
        or spec.get("resolution", "NONE") in ("NONE", "DYNAMIC_DNS")
        or str(labels.get(LABEL)).lower() == "false"
    ):
        return []
    hosts = spec.get("hosts")
    listed = cast("list[object]", hosts) if isinstance(hosts, list) else []
    return list(dict.fromkeys(one.lower() for one in listed if isinstance(one, str) and "*" not in one))


def _held(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    listed = _part(document, "status").get("addresses")
    for one in cast("list[object]", listed) if isinstance(listed, list) else ():
        if isinstance(one, Mapping):
            entry = cast("Mapping[str, object]", one)
            value = str(entry.get("value", ""))
            if ":" not in value:
                yield str(entry.get("host", "")).lower(), value


def _twin(address: str) -> str:
    """The address of IPv6 that goes with one of IPv4."""
    return str(RANGE_V6.network_address + (int(ip_address(address)) - int(RANGE.network_address)))


def _choose(claim: str, used: Collection[str], given: Collection[str]) -> str:
    size = RANGE.num_addresses - 2
    start = int.from_bytes(blake2b(claim.encode(), digest_size=8).digest()) % size
    for step in range(size):
        candidate = str(RANGE[1 + (start + step) % size])
        if candidate not in used and candidate not in given:
            return candidate
    return ""


def _namespace(document: Mapping[str, Any]) -> str:
    return str(_part(document, "metadata").get("namespace") or "default")


def _part(document: Mapping[str, Any], field: str) -> Json:
    found = document.get(field)
    return cast("Json", found) if isinstance(found, dict) else {}
