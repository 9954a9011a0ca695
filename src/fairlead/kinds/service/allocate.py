"""Virtual addresses of services. Pure: whoever stores a Service says which addresses are taken."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, cast

from fairlead.kinds.service.spec import HEADLESS
from fairlead.model.diagnostic import Problem
from fairlead.model.path import SPEC, FieldPath

DEFAULT_RANGE = "10.96.0.0/16"
_MAX_PROBES = 1 << 20
_CLUSTER_IP = SPEC / "clusterIP"


def allocate(
    document: dict[str, Any], used: Collection[str], network: str = DEFAULT_RANGE
) -> tuple[dict[str, Any], list[Problem]]:
    """The document with `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` filled in.

    `used` holds the addresses of the *other* services (not this one's own). The first choice is a hash of namespace and
    name, then the next free address, so that a service that is deleted and made again gets the address it had. An
    address that the document asks for must lie in `network` and be free; headless and ExternalName services get none.
    Problems come with the document unchanged. Raises ValueError where `network` is not a network.
    """
    spec_or_none = document.get("spec")
    spec = cast("dict[str, Any]", spec_or_none) if isinstance(spec_or_none, dict) else {}
    if spec.get("type") == "ExternalName":
        return document, []
    listed = spec.get("clusterIPs")
    first = str(cast("list[object]", listed)[0]) if isinstance(listed, list) and listed else ""
    asked = str(spec.get("clusterIP") or first)
    if asked == HEADLESS:
        return {**document, "spec": {**spec, "clusterIP": HEADLESS, "clusterIPs": [HEADLESS]}}, []
    block = _block(network)
    if asked:
        problem = _refusal(asked, used, block)
        chosen = asked
    else:
        chosen = _choose(_identity(document), used, block)
        problem = None if chosen else _full(block)
    if problem is not None:
        return document, [problem]
    filled = {
        **spec,
        "clusterIP": chosen,
        "clusterIPs": [chosen],
        "ipFamilies": [f"IPv{block.version}"],
        "ipFamilyPolicy": "SingleStack",
    }
    return {**document, "spec": filled}, []


@lru_cache(8)
def _block(network: str) -> IPv4Network | IPv6Network:
    return ip_network(network)


def addresses(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The virtual addresses that a stored document holds."""
    spec_or_none = document.get("spec")
    if not isinstance(spec_or_none, Mapping):
        return ()
    held: object = cast("Mapping[str, Any]", spec_or_none).get("clusterIP")
    return (held,) if isinstance(held, str) and held not in ("", HEADLESS) else ()


def _identity(document: dict[str, Any]) -> str:
    meta_or_none = document.get("metadata")
    meta = cast("dict[str, Any]", meta_or_none) if isinstance(meta_or_none, dict) else {}
    return f"{meta.get('namespace') or 'default'}/{meta.get('name') or ''}"


def _refusal(asked: str, used: Collection[str], block: IPv4Network | IPv6Network) -> Problem | None:
    remedy = f"Leave clusterIP out to be given a free address of {block}."
    try:
        inside = ip_address(asked) in block
    except ValueError:
        return Problem(_CLUSTER_IP, f"{asked!r} is not an IP address", remedy=remedy)
    if not inside:
        return Problem(_CLUSTER_IP, f"{asked} is not in the range of service addresses, {block}", remedy=remedy)
    if asked in used:
        said = f"{asked} belongs to another service"
        return Problem(_CLUSTER_IP, said, remedy=remedy, reason="FieldValueDuplicate")
    return None


def _choose(identity: str, used: Collection[str], block: IPv4Network | IPv6Network) -> str:
    """Neither the first nor the last address of the block, which are the network's and broadcast's."""
    size = block.num_addresses - 2
    if size < 1:
        return str(block[0]) if str(block[0]) not in used else ""
    start = int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()) % size
    for step in range(min(size, _MAX_PROBES)):
        candidate = str(block[1 + (start + step) % size])
        if candidate not in used:
            return candidate
    return ""


def _full(block: IPv4Network | IPv6Network) -> Problem:
    path: FieldPath = _CLUSTER_IP
    said = f"no address of {block} is free"
    return Problem(path, said, remedy="Delete services, or start the control plane with a larger range.", code="FL0102")
