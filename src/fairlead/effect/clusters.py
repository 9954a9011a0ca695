"""Differences of clusters and of their endpoints, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.effect.change import ENDPOINTS_LOST, MTLS_WEAKENED, Change
from fairlead.effect.naming import destination, field, some, turned
from fairlead.envoy.difference import Difference
from fairlead.envoy.settings import address, written

SHARE = 0.5
"""Of a cluster's endpoints; losing more at once is dangerous."""
_TLS = ("transportSocket", "transportSocketMatches")
_QUIET = ("metadata", "altStatName")
_FEW = 6


def cluster(name: str, old: Any, new: Any, found: Sequence[Difference]) -> Iterator[Change]:
    """What differs between two clusters."""
    fields = tuple(field(one) for one in found)
    what = destination(name)
    if old is None:
        yield Change("cluster", f"{what} can be called ({_security(new)})", fields=fields)
        return
    if new is None:
        yield Change("cluster", f"{what} vanishes", fields=fields)
        return
    inside = [one for one in found if one.path[0].startswith("loadAssignment")]
    if inside:
        yield from endpoints(name, old.load_assignment, new.load_assignment, inside)
    rest = [one for one in found if one not in inside]
    told = [one for one in rest if one.path[0] not in _QUIET and one.path[0].partition("[")[0] not in _TLS]
    was, now = _security(old), _security(new)
    said = [f"calls use {now} (was: {was})"] if was != now else []
    said += [turned(one) for one in told[:_FEW]]
    quiet = [one for one in rest if one.path[0].partition("[")[0] in _TLS] if was == now else []
    untold = tuple(written(one.path) for one in (*told[_FEW:], *quiet))
    if rest:
        weaker = _strength(now) < _strength(was)
        text = "; ".join(said) or ("TLS settings change" if quiet else "only names and metadata change")
        danger = MTLS_WEAKENED if weaker else ""
        yield Change("cluster", f"{what}: {text}", danger, (), tuple(field(one) for one in rest), untold)


def _security(of: Any) -> str:
    """What is done on connections of a cluster."""
    if any(one.name.startswith("tlsMode-istio") for one in of.transport_socket_matches):
        return "mutual TLS of the mesh where the server has it"
    if not of.HasField("transport_socket") or "raw_buffer" in of.transport_socket.name:
        return "plaintext"
    config = of.transport_socket.typed_config.value
    if b"ROOTCA" in config and b"default" in config:
        return "mutual TLS of the mesh"
    return "TLS"


def _strength(said: str) -> int:
    return 0 if said == "plaintext" else 1 if said == "TLS" else 2


def endpoints(name: str, old: Any, new: Any, found: Sequence[Difference]) -> Iterator[Change]:
    """What differs between the endpoints of a cluster."""
    before, after = _members(old), _members(new)
    if new is None:
        said_all = f"{destination(name)}: its endpoints ({len(before)}) go with it"
        yield Change("endpoint", said_all, fields=tuple(field(one) for one in found))
        return
    if old is None:
        said_new = f"{destination(name)}: its endpoints are new ({some(list(after)) or 'none yet'})"
        yield Change("endpoint", said_new, fields=tuple(field(one) for one in found))
        return
    gone = [one for one in before if one not in after]
    came = [one for one in after if one not in before]
    other = [one for one in before if one in after and before[one] != after[one]]
    said: list[str] = []
    if gone:
        said.append(f"{'endpoint' if len(gone) == 1 else 'endpoints'} {some(gone)} removed")
    if came:
        said.append(f"{'endpoint' if len(came) == 1 else 'endpoints'} {some(came)} added")
    if other:
        said.append(f"{some([f'{one} ({_turned(before[one], after[one])})' for one in other])}")
    untold: tuple[str, ...] = ()
    if not said:
        said = [turned(one) for one in found[:_FEW]]
        untold = tuple(written(one.path) for one in found[_FEW:])
    danger = ""
    had, have = _able(before), _able(after)
    if had and have < had * (1 - SHARE):
        danger = ENDPOINTS_LOST
        said.append(f"{have} of {had} are left" if have else "none is left")
    yield Change(
        "endpoint", f"{destination(name)}: {'; '.join(said)}", danger, (), tuple(field(one) for one in found), untold
    )


Member = tuple[str, int, str, bytes]
"""Health, weight, locality with priority, and everything."""


def _members(of: Any) -> dict[str, Member]:
    out: dict[str, Member] = {}
    for group in of.endpoints if of is not None else ():
        where = group.locality
        place = "/".join(one for one in (where.region, where.zone, where.sub_zone) if one)
        at = f"{place or 'anywhere'} (priority {group.priority})"
        for one in group.lb_endpoints:
            health = one.DESCRIPTOR.fields_by_name["health_status"].enum_type.values_by_number[one.health_status].name
            whole = one.SerializeToString(deterministic=True)
            out[address(one.endpoint.address)] = (health, one.load_balancing_weight.value, at, whole)
    return out


def _able(members: dict[str, Member]) -> int:
    """How many may get requests."""
    return sum(1 for health, *_ in members.values() if health in ("UNKNOWN", "HEALTHY", "DEGRADED"))


def _turned(before: Member, after: Member) -> str:
    names = ("health", "weight", "locality")
    pairs = zip(names, before[:3], after[:3], strict=True)
    said = [f"{what} {was} -> {now}" for what, was, now in pairs if was != now]
    return ", ".join(said) or "metadata changes"
