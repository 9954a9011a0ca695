"""Whether a push would take too much away at once. Pure: it only counts.

A mesh does not lose half of its clusters or endpoints in one step unless somebody meant it, or something is broken: a
store that came up half full, a script gone wrong. So such a push is held until a person releases it, or until the
share recovers. Taking things away step by step, and taking away few, is never held.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from fairlead.compiler.publish import Changes
from fairlead.envoy.resource import CLUSTER, ENDPOINT, Resource

Served = Mapping[str, Mapping[str, Resource]]
_NOTHING: Mapping[str, Resource] = {}


class Limits(msgspec.Struct, frozen=True):
    """What may go at once: `share` (0 to 1) of what there was, and in any case `few` of them."""

    share: float = 0.5
    few: int = 10

    def exceeded(self, lost: int, of: int) -> bool:
        """Whether losing `lost` out of `of` is too much."""
        return lost > self.few and lost > of * self.share


def objection(limits: Limits, now: Served, changed: Changes) -> str:
    """What is wrong with a push that turns what was there into `now`; empty if nothing.

    `changed` has the changed names with what was there before. The cost is that of the change, unless it takes away
    more than a few.
    """
    before = changed.get(CLUSTER, {})
    clusters = now.get(CLUSTER, _NOTHING)
    lost = sum(1 for name, was in before.items() if was is not None and name not in clusters)
    if lost > limits.few:
        came = sum(1 for name, was in before.items() if was is None and name in clusters)
        said = _words(limits, lost, len(clusters) - came + lost, "clusters")
        if said:
            return said
    return _endpoints(limits, now.get(ENDPOINT, _NOTHING), changed.get(ENDPOINT, {}))


def _endpoints(limits: Limits, now: Mapping[str, Resource], before: Mapping[str, Resource | None]) -> str:
    had = sum(members(was) for was in before.values() if was is not None)
    have = sum(members(now[name]) for name in before if name in now)
    if had - have <= limits.few:
        return ""
    others = sum(members(one) for name, one in now.items() if name not in before)
    return _words(limits, had - have, had + others, "endpoints")


def basis(now: Served, changed: Changes) -> tuple[int, int, int]:
    """What the answer of `objection` depends on, within one pass: views that share it need be asked about once."""
    clusters = now.get(CLUSTER) if changed.get(CLUSTER) else None
    endpoints = now.get(ENDPOINT) if changed.get(ENDPOINT) else None
    return id(changed), id(clusters), id(endpoints)


def still(limits: Limits, served: Served, now: Served) -> str:
    """The same question for a push that is held: what proxies are served against what there is now."""
    had, have = served.get(CLUSTER, _NOTHING), now.get(CLUSTER, _NOTHING)
    said = _words(limits, sum(1 for name in had if name not in have), len(had), "clusters")
    if said:
        return said
    was = sum(members(one) for one in served.get(ENDPOINT, _NOTHING).values())
    left = sum(members(one) for one in now.get(ENDPOINT, _NOTHING).values())
    return _words(limits, was - left, was, "endpoints")


def _words(limits: Limits, lost: int, of: int, what: str) -> str:
    return f"{lost} of {of} {what} would go at once" if limits.exceeded(lost, of) else ""


def members(resource: Resource) -> int:
    """How many endpoints an EDS resource has."""
    if resource.members is None:
        found = ClusterLoadAssignment.FromString(resource.body)
        resource.members = sum(len(group.lb_endpoints) for group in found.endpoints)
    return resource.members
