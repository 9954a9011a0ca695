"""Addresses of workloads out of the node's loopback block (see docs/architecture.md, Capture)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

import msgspec

DEFAULT_BLOCK = "127.66.0.0/16"


class AddressError(Exception):
    """No address can be given; the text says what to do."""


class Addresses(msgspec.Struct, frozen=True):
    """A workload's addresses: where peers reach it, where it binds, where it calls out. Equal low bits."""

    workload: str
    application: str
    outbound: str


class Block:
    """A loopback block, split in quarters: workload, application, outbound addresses; the last is kept free."""

    def __init__(self, cidr: str = DEFAULT_BLOCK) -> None:
        try:
            self.network = ipaddress.IPv4Network(cidr)
        except ValueError as error:
            raise AddressError(f"loopback block {cidr!r}: {error}; give one such as {DEFAULT_BLOCK}") from None
        if not self.network.is_loopback or not 10 <= self.network.prefixlen <= 26:
            raise AddressError(f"loopback block {cidr!r} is not a /10 to /26 inside 127.0.0.0/8")
        self.size = self.network.num_addresses // 4
        """Addresses in a quarter; number 0 is never given out."""

    def addresses(self, number: int) -> Addresses:
        """The addresses of a number from 1 to size - 1."""
        if not 0 < number < self.size:
            raise AddressError(f"{number} is outside the loopback block {self.network}")
        base = int(self.network.network_address) + number
        workload, application, outbound = (str(ipaddress.IPv4Address(base + at * self.size)) for at in range(3))
        return Addresses(workload, application, outbound)

    def allocate(self, given: dict[str, int], owner: str, live: Collection[str]) -> dict[str, int]:
        """`given` (owner to number, oldest first) with a number for `owner`.

        An owner keeps its number for good, so that a replica has the same address after every restart; only when the
        block is used up is a number taken from the oldest owner that is not `live`. Raises AddressError if all are.
        """
        if 0 < given.get(owner, 0) < self.size:
            return given
        used = set(given.values())
        number = next((one for one in range(1, self.size) if one not in used), 0)
        out = dict(given)
        if not number:
            idle = next((name for name in given if name not in live and given[name] < self.size), None)
            if idle is None:
                raise AddressError(f"the loopback block {self.network} is used up; give the node a larger --loopback")
            number = out.pop(idle)
        out[owner] = number
        return out
