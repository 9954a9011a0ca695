"""Endpoints in the order in which a caller prefers them: localities, priorities and weights (pure functions).

The semantics are those of Istio's `pilot/pkg/networking/core/loadbalancer`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from msgspec.structs import replace

from fairlead.compiler.near import Near, Placing, topology
from fairlead.envoy.endpoint import Group, LbEndpoint, by_locality, sum_of
from fairlead.ir.locality import TOPOLOGY, Distribution, LocalityLb, locality_covers

_ELSEWHERE = 3
"""The rank of another region: 0 is the same subzone, 1 the same zone, 2 the same region."""
_LAST = 4
"""The rank of a region that is not named to take over, where another one is."""
_RANKS = 5


def placed(endpoints: Iterable[LbEndpoint], placing: Placing | None) -> tuple[Group, ...]:
    """The endpoints as a caller prefers them, in a fixed order."""
    setting = placing.setting if placing is not None else None
    if placing is None or setting is None:
        return by_locality(endpoints)
    if setting.distribute:
        return _distributed(by_locality(endpoints), setting.distribute, placing.near.locality)
    return _failing_over(endpoints, setting, placing.near)


def _distributed(groups: tuple[Group, ...], distribute: tuple[Distribution, ...], locality: str) -> tuple[Group, ...]:
    """The shares that hold for the caller; localities to which nobody is sent have no endpoints."""
    shares = next((one.shares for one in distribute if locality_covers(one.source, locality)), None)
    if shares is None:
        return groups
    weights: dict[str, int] = {}
    left = {one.locality: one.weight for one in groups}
    # The more special pattern takes its localities first: `*` is for what no other covers.
    for pattern, share in sorted(shares, key=lambda pair: (-len(pair[0].rstrip("*")), pair[0])):
        chosen = [one for one in left if locality_covers(pattern, one)]
        total = sum(left[one] for one in chosen)
        for one in chosen:
            weights[one] = ceil(share * left.pop(one) / total)
    kept = (one for one in groups if one.locality in weights)
    return tuple(replace(one, weight=weights[one.locality]) for one in kept)


def _failing_over(endpoints: Iterable[LbEndpoint], setting: LocalityLb, near: Near) -> tuple[Group, ...]:
    ranked: dict[tuple[int, str], list[LbEndpoint]] = {}
    for one in sorted(endpoints):
        rank = _by_labels(one, setting, near) if setting.priority else 0
        if not setting.priority or setting.failover or setting.zone_aware:
            rank = rank * _RANKS + _by_place(one.locality, setting, near.locality)
        ranked.setdefault((rank, one.locality), []).append(one)
    # Envoy takes priorities without gaps only.
    numbers = {rank: at for at, rank in enumerate(sorted({rank for rank, _ in ranked}))}
    return tuple(
        Group(numbers[rank], locality, sum_of(members), tuple(members))
        for (rank, locality), members in sorted(ranked.items())
    )


def _by_labels(one: LbEndpoint, setting: LocalityLb, near: Near) -> int:
    """How many of the labels, from the least important on, do not count since a more important one differs."""
    own, theirs = dict(near.labels), dict(one.labels)
    for at, said in enumerate(setting.priority):
        name, given, value = said.partition("=")
        if (value if given else own.get(name, "")) != theirs.get(name, ""):
            return len(setting.priority) - at
    return 0


def _by_place(locality: str, setting: LocalityLb, near: str) -> int:
    own, theirs = _parts(near), _parts(locality)
    if own[0] != theirs[0]:
        named = next((to for source, to in setting.failover if source == own[0]), None)
        return _LAST if named is not None and named != theirs[0] else _ELSEWHERE
    if setting.zone_aware:
        return 0  # zones of one region are Envoy's to balance
    if own[1] != theirs[1]:
        return 2
    return 0 if own[2] == theirs[2] else 1


def _parts(locality: str) -> tuple[str, str, str]:
    region, _, rest = locality.partition("/")
    zone, _, subzone = rest.partition("/")
    return region, zone, subzone


def seen_labels(
    wanted: tuple[str, ...], labels: tuple[tuple[str, str], ...], locality: str, network: str
) -> tuple[tuple[str, str], ...]:
    """Those of an endpoint's labels by which a caller orders, topology included."""
    known = {**topology(locality, network), **dict(labels)} if set(wanted) & set(TOPOLOGY) else dict(labels)
    return tuple(sorted((name, known[name]) for name in set(wanted) if name in known))
