"""The ledger: what one proxy was sent, what it acknowledged and what it refused, by type and resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from fairlead.envoy.resource import Resource
from fairlead.xds.held import Held

_NOTHING: Mapping[str, Resource] = {}


class SyncState(StrEnum):
    """How a type stands, in the words of `proxy-status`."""

    SYNCED = "SYNCED"
    STALE = "STALE"
    NACKED = "NACKED"
    NOT_SENT = "NOT SENT"


class Nack(msgspec.Struct, frozen=True):
    """A refused version and what the proxy said about it."""

    version: str
    message: str


_NONE: dict[str, Nack] = {}
"""Of all types of which nothing was ever refused: nothing is put into it."""


class Entry(msgspec.Struct, frozen=True):
    """One resource: versions are empty where there is none. `sent` is the latest that went out."""

    name: str
    sent: str
    acked: str
    nacked: Nack | None = None


class TypeStatus(msgspec.Struct, frozen=True):
    """A type's standing. Counters count responses of this stream; `acked_resources` is what the proxy holds.

    `entries` are the resources that are not in sync.
    """

    type_url: str
    state: SyncState
    sent: int
    acked: int
    nacked: int
    last_sent: str
    last_acked: str
    acked_resources: int
    entries: tuple[Entry, ...] = ()


class TypeLedger:
    """One type in one session. The session machine writes it; others read it through `status` and `entry`."""

    __slots__ = (
        "acked",
        "acked_count",
        "flight",
        "flight_removed",
        "last_acked",
        "last_sent",
        "nacked",
        "nacked_count",
        "sent_count",
    )

    def __init__(self) -> None:
        self.acked = Held()
        """What the proxy holds. A resource known by its version only (from a reconnect) has no bytes."""
        self.flight: Mapping[str, Resource] = _NOTHING
        self.flight_removed: tuple[str, ...] = ()
        self.nacked = _NONE
        self.sent_count = 0
        self.acked_count = 0
        self.nacked_count = 0
        self.last_sent = ""
        self.last_acked = ""

    def sent(self, version: str, resources: Mapping[str, Resource], removed: tuple[str, ...]) -> None:
        """A response went out."""
        self.sent_count += 1
        self.last_sent = version
        self.flight = resources
        self.flight_removed = removed

    def landed(self, version: str | None) -> None:
        """The response in flight was answered; `version` is None if it was refused."""
        self.flight = _NOTHING
        self.flight_removed = ()
        if version is None:
            self.nacked_count += 1
        else:
            self.acked_count += 1
            self.last_acked = version

    def refused(self, name: str, nack: Nack) -> None:
        """A resource was refused, and is as long as nothing else is known."""
        if self.nacked is _NONE:
            self.nacked = {}
        self.nacked[name] = nack

    def forgiven(self, name: str) -> None:
        """A resource is refused no longer."""
        self.nacked.pop(name, None)

    def entry(self, name: str) -> Entry:
        """How one resource stands."""
        acked = self.acked.get(name)
        nack = self.nacked.get(name)
        flight = self.flight.get(name)
        have = acked.version if acked else ""
        sent = flight.version if flight else nack.version if nack else have
        return Entry(name, sent, have, nack)

    def state(self, *, open_: bool) -> SyncState:
        """The type's standing in a word; `open_` tells whether anything is yet to be sent or answered."""
        if self.nacked:
            return SyncState.NACKED
        if not self.sent_count and not self.acked:
            return SyncState.NOT_SENT
        if open_ or self.acked_count + self.nacked_count < self.sent_count:
            return SyncState.STALE
        return SyncState.SYNCED

    def status(self, type_url: str, waiting: Iterable[str]) -> TypeStatus:
        """The type's standing; `waiting` are resources that differ and are yet to be sent."""
        open_names = sorted({*waiting, *self.flight, *self.flight_removed, *self.nacked})
        return TypeStatus(
            type_url,
            self.state(open_=bool(open_names)),
            self.sent_count,
            self.acked_count,
            self.nacked_count,
            self.last_sent,
            self.last_acked,
            len(self.acked),
            tuple(self.entry(name) for name in open_names),
        )
