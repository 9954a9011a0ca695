"""Load balancing between localities: which endpoints are close to a caller, and who takes over where those fail."""

from __future__ import annotations

import msgspec

from fairlead.ir.filters import Pairs

REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
SUBZONE = "topology.istio.io/subzone"
NETWORK = "topology.istio.io/network"
CLUSTER = "topology.istio.io/cluster"
TOPOLOGY = (REGION, ZONE, SUBZONE, NETWORK)
"""Labels whose values follow from where an instance is, unless it has labels of these names itself."""


class Distribution(msgspec.Struct, frozen=True):
    """Shares (percent) of the traffic from one locality, by patterns of localities."""

    source: str
    shares: tuple[tuple[str, int], ...]


class LocalityLb(msgspec.Struct, frozen=True):
    """Istio LocalityLoadBalancerSetting. `failover` are pairs of regions: whose traffic goes where.

    `priority` are labels (`label` or `label=value`), the most important first. `forced` says that failing over needs
    no outlier detection (a Service's trafficDistribution).

    `zone_aware` is Istio's ZoneAwareLoadBalancerSetting: regions fail over, and within one Envoy keeps calls in the
    zone as far as its share of the instances goes, if there are at least `minimum` (None: Envoy's 6).
    """

    enabled: bool = True
    distribute: tuple[Distribution, ...] = ()
    failover: Pairs = ()
    priority: tuple[str, ...] = ()
    forced: bool = False
    zone_aware: bool = False
    minimum: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels in `priority`."""
        return tuple(one.partition("=")[0] for one in self.priority)


TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution"
"""The annotation of Services and ServiceEntries by which close endpoints are preferred."""
_ZONES = (NETWORK, REGION, ZONE, SUBZONE)
CLOSENESS = {
    "PreferClose": _ZONES,
    "PreferSameZone": _ZONES,
    "PreferSameNode": (*_ZONES, "kubernetes.io/hostname"),
}
"""The labels in which an endpoint should equal the client, by what a service says (Istio's order)."""


def closeness(said: str) -> LocalityLb | None:
    """How close endpoints are preferred, None if they are not. Istio needs no outlier detection for this."""
    labels = CLOSENESS.get(said)
    return LocalityLb(priority=labels, forced=True) if labels else None


def locality_covers(pattern: str, locality: str) -> bool:
    """Whether a pattern (`region/zone/*`, `region`, `*`) covers a locality; what it leaves out at its end is any."""
    wanted, found = pattern.split("/"), locality.split("/")
    for at, one in enumerate(wanted):
        if one == "*":
            return True
        if at >= len(found) or one != found[at]:
            return False
    return True
