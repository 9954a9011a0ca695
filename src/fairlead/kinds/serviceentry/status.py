"""The part of a ServiceEntry's status that means something to proxies."""

from __future__ import annotations

import msgspec


class AllocatedAddress(msgspec.Struct, frozen=True, rename="camel"):
    """The address that a host was given."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Addresses that hosts were given, because the entry has none."""

    addresses: tuple[AllocatedAddress, ...] = ()
