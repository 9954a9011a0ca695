"""Which connections the filter chains of a listener already take.

Envoy refuses a listener two of whose chains could take one connection on equal terms: the same server name and network,
even if each chain has others beside them. So a chain gets what is left of its match.
"""

from __future__ import annotations

from itertools import product
from typing import Generic, TypeVar

from msgspec.structs import replace

from fairlead.envoy.listener import Match

T = TypeVar("T")


class Taken(Generic[T]):
    """Matches and whose they are, the first come first served."""

    def __init__(self) -> None:
        self._owners: dict[Match, T] = {}

    def free(self, wanted: Match, owner: T) -> tuple[tuple[Match, ...], T | None]:
        """What is left of a match, which is taken now, and an owner of what was taken before (None: all was left).

        What is left is one match, or several where networks have different server names left.
        """
        names, nets = wanted.sni or ("",), wanted.subnets or ("",)
        left: dict[tuple[str, ...], list[str]] = {}
        before: T | None = None
        for net in nets:
            free: list[str] = []
            for name in names:
                single = replace(wanted, sni=(name,), subnets=(net,))
                held = self._held(single)
                if held is None:
                    free.append(name)
                elif before is None:
                    before = held
            if free:
                left.setdefault(tuple(free), []).append(net)
        if before is None:
            self._take(wanted, owner)
            return (wanted,), None
        parts = tuple(
            replace(wanted, sni=free if wanted.sni else (), subnets=tuple(some) if wanted.subnets else ())
            for free, some in left.items()
        )
        for one in parts:
            self._take(one, owner)
        return parts, before

    def _held(self, single: Match) -> T | None:
        for alpn in single.alpn or ("",):
            found = self._owners.get(replace(single, alpn=(alpn,)))
            if found is not None:
                return found
        return None

    def _take(self, wanted: Match, owner: T) -> None:
        for net, name, alpn in product(wanted.subnets or ("",), wanted.sni or ("",), wanted.alpn or ("",)):
            self._owners.setdefault(replace(wanted, sni=(name,), subnets=(net,), alpn=(alpn,)), owner)
