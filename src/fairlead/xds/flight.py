"""What is said about one type of resources: what is due, the response in flight, parts of one that was refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

import msgspec

from fairlead.envoy.resource import Resource
from fairlead.xds.ledger import Nack
from fairlead.xds.messages import NO_BASES

PATCHED_FROM = 1024
"""Bytes; smaller resources are always sent whole."""


class Due(msgspec.Struct, frozen=True):
    """What a client lacks: resources to add or replace, names to remove, names to answer as not existing."""

    adds: tuple[Resource, ...] = ()
    removes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.adds or self.removes or self.absent)


class Trial(msgspec.Struct, frozen=True):
    """Part of a refused response (names and versions), to be sent by itself.

    If exactly this is accepted, those in `blame` were the bad ones.
    """

    names: Mapping[str, str]
    blame: tuple[tuple[str, Nack], ...] = ()


class Flight(msgspec.Struct, frozen=True):
    """The response that waits for its answer."""

    nonce: str
    version: str
    sent: Mapping[str, Resource]
    removed: tuple[str, ...]
    absent: tuple[str, ...]
    introduces: bool
    blame: tuple[tuple[str, Nack], ...] = ()


def set_version(resources: Iterable[Resource]) -> str:
    """The version of a set of resources, in any order: equal sets have equal versions, on any control plane."""
    digest = blake2b(digest_size=8)
    for line in sorted(f"{resource.name}\0{resource.version}\n" for resource in resources):
        digest.update(line.encode())
    return digest.hexdigest()


def named_in(message: str, names: Iterable[str]) -> set[str]:
    """Those of `names` that Envoy's message puts at the head of a complaint.

    Envoy answers a CDS or LDS update with `Error adding/updating cluster(s) NAME: REASON, NAME: REASON`.
    """
    heads = {match.group(1) for match in re.finditer(r"(?:^|\s)(\S+):(?=\s|$)", message)}
    return {name for name in names if name in heads or (" " in name and f"{name}: " in message)}


def bases_of(adds: Iterable[Resource], held: Callable[[str], Resource | None]) -> Mapping[str, Resource]:
    """What a client has of the large ones among these, by name: only the difference need be sent."""
    found: dict[str, Resource] = {}
    for resource in adds:
        if resource.size >= PATCHED_FROM:
            has = held(resource.name)
            if has is not None and has.size >= PATCHED_FROM:
                found[resource.name] = has
    return found or NO_BASES
