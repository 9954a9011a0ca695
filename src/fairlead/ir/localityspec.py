"""Fields of load balancing between localities, which DestinationRule and MeshConfig have in common."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from fairlead.ir.locality import Distribution, LocalityLb
from fairlead.ir.poolspec import Uint32
from fairlead.model.object import Spec


class Distribute(Spec, frozen=True):
    """Shares of traffic from one locality to others."""

    from_: Annotated[str, Meta(description="region/zone/subzone of the client, * at the end.")] = field(
        default="", name="from"
    )
    to: Annotated[dict[str, Uint32], Meta(description="Localities and their percentages; 100 in sum.")] = {}


class Failover(Spec, frozen=True):
    """The region that takes over."""

    from_: Annotated[str, Meta(description="Region of the client.")] = field(default="", name="from")
    to: Annotated[str, Meta(description="Region that takes over.")] = ""


class LocalityLoadBalancerSetting(Spec, frozen=True):
    """Load balancing between localities."""

    distribute: Annotated[tuple[Distribute, ...], Meta(description="Explicit shares.")] = ()
    failover: Annotated[tuple[Failover, ...], Meta(description="Which region takes over.")] = ()
    failover_priority: Annotated[
        tuple[str, ...], Meta(description="Labels (or label=value) that order endpoints by closeness.")
    ] = ()
    enabled: Annotated[bool | None, Meta(description="Default: true. A DestinationRule's overrides the mesh's.")] = None


class ZoneAwareLoadBalancerSetting(Spec, frozen=True):
    """Stay in the client's zone as far as its capacity goes."""

    enabled: Annotated[bool | None, Meta(description="Default: true. A DestinationRule's overrides the mesh's.")] = None
    failover: Annotated[tuple[Failover, ...], Meta(description="Which region takes over.")] = ()
    failover_priority: Annotated[tuple[str, ...], Meta(description="Labels that order endpoints.")] = ()
    min_cluster_size: Annotated[Uint32 | None, Meta(description="With fewer endpoints the zone does not matter.")] = (
        None
    )


def by_locality(setting: LocalityLoadBalancerSetting | None) -> LocalityLb | None:
    """What `localityLbSetting` says; None if it says nothing."""
    if setting is None:
        return None
    return LocalityLb(
        enabled=setting.enabled is not False,
        distribute=tuple(Distribution(one.from_, tuple(sorted(one.to.items()))) for one in setting.distribute),
        failover=tuple((one.from_, one.to) for one in setting.failover),
        priority=setting.failover_priority,
    )


def by_zone(setting: ZoneAwareLoadBalancerSetting | None) -> LocalityLb | None:
    """What `zoneAwareLbSetting` says; None if it says nothing."""
    if setting is None:
        return None
    return LocalityLb(
        enabled=setting.enabled is not False,
        failover=tuple((one.from_, one.to) for one in setting.failover),
        priority=setting.failover_priority,
        forced=True,
        zone_aware=True,
        minimum=setting.min_cluster_size,
    )
