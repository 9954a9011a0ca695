"""Checks of load balancing between localities and zones, for DestinationRules and the mesh alike (as in Istio)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from fairlead.model.diagnostic import Problem
from fairlead.model.findings import doubtful, forbidden, invalid
from fairlead.model.path import FieldPath

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


class Shares(Protocol):
    """Shares of traffic from one locality."""

    @property
    def from_(self) -> str: ...
    @property
    def to(self) -> Mapping[str, int]: ...


class Failover(Protocol):
    """A region and the one that takes over."""

    @property
    def from_(self) -> str: ...
    @property
    def to(self) -> str: ...


class Takeover(Protocol):
    """What an object says of who takes over."""

    @property
    def failover(self) -> Sequence[Failover]: ...
    @property
    def failover_priority(self) -> Sequence[str]: ...


class Setting(Takeover, Protocol):
    """What an object says of localities."""

    @property
    def distribute(self) -> Sequence[Shares]: ...


def check_locality(path: FieldPath, setting: Setting, *, outlier: bool) -> Iterator[Problem]:
    """One setting; `outlier` says whether outlier detection stands beside it, without which nothing fails over."""
    if setting.distribute and setting.failover:
        yield forbidden(path, "distribute and failover cannot be set together", "Leave one.")
    for at, label in enumerate(setting.failover_priority if setting.failover else ()):
        if label in _TOPOLOGY:
            message = f"failover cannot be set together with topology label {label!r}"
            yield forbidden(path.child("failoverPriority", at), message, "Leave one.")
    for at, one in enumerate(setting.distribute):
        where = path.child("distribute", at, "to")
        for locality, weight in one.to.items():
            if not 1 <= weight <= 100:
                yield invalid(where / locality, f"locality weight {weight} is not in range 1..100")
        if sum(one.to.values()) != 100:
            yield invalid(where, f"the sum of the weights is {sum(one.to.values())}, not 100")
        yield from _localities((where / locality, locality) for locality in one.to)
    yield from _localities(
        (path.child("distribute", at, "from"), one.from_) for at, one in enumerate(setting.distribute)
    )
    yield from _takeover(path, setting, outlier=outlier)


def check_zones(path: FieldPath, setting: Takeover, *, outlier: bool) -> Iterator[Problem]:
    """One `zoneAwareLbSetting`. Envoy picks the zone by itself, so that no label of a place below the region may."""
    for at, label in enumerate(setting.failover_priority):
        if label in _TOPOLOGY[1:]:
            said = f"the zone is looked at before {label!r} could be"
            yield forbidden(path.child("failoverPriority", at), said, "Remove it.")
        elif label == _TOPOLOGY[0] and setting.failover:
            said = f"failover cannot be set together with topology label {label!r}"
            yield forbidden(path.child("failoverPriority", at), said, "Leave one.")
    yield from _takeover(path, setting, outlier=outlier)


def _takeover(path: FieldPath, setting: Takeover, *, outlier: bool) -> Iterator[Problem]:
    """Who takes over, which outlier detection decides."""
    if (setting.failover or setting.failover_priority) and not outlier:
        yield doubtful(path, "outlier detection policy must be provided for failover", "Add outlierDetection.")
    yield from _failover(path / "failover", setting.failover)


def _failover(path: FieldPath, failover: Iterable[Failover]) -> Iterator[Problem]:
    """Regions that take over."""
    for at, one in enumerate(failover):
        where = path / at
        if one.from_ == one.to:
            yield invalid(where, "locality failover settings must specify different regions")
        for name, region in (("from", one.from_), ("to", one.to)):
            if "/" in region:
                yield invalid(where / name, "locality failover only specifies regions", "Leave zones out.")
            if "*" in region:
                yield invalid(where / name, "a region of locality failover has no wildcard")


def _localities(named: Iterable[tuple[FieldPath, str]]) -> Iterator[Problem]:
    seen: list[tuple[str, ...]] = []
    for path, locality in named:
        parts = tuple(locality.split("/", 2))
        if "" in parts:
            yield invalid(path, f"locality {locality!r} has an empty region, zone or subzone")
            continue
        if "*" in locality and (locality.count("*") > 1 or not locality.endswith("*")):
            yield invalid(path, f"locality {locality!r} may have one '*', at its end")
            continue
        bare = parts[:-1] if parts[-1] == "*" else parts
        if any(bare[: len(other)] == other or other[: len(bare)] == bare for other in seen):
            yield invalid(path, f"locality {locality!r} overlaps with a previous one")
        seen.append(bare)
