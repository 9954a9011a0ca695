"""Where callers are, as far as it matters to them: locality, network and the labels by which endpoints are ordered.

Callers that differ in nothing of this share clusters and endpoints. Istio's rules: a DestinationRule's setting takes
the place of the mesh's altogether; failing over needs outlier detection, which finds out that endpoints fail.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fairlead.compiler.hosts import settings
from fairlead.compiler.networks import network_at, networks
from fairlead.inc import Reader, rule
from fairlead.ir.families import Families
from fairlead.ir.filters import Pairs
from fairlead.ir.host import HOSTS_NEAR, Host
from fairlead.ir.locality import NETWORK, REGION, SUBZONE, ZONE, LocalityLb, locality_covers
from fairlead.ir.traffic import TRAFFIC_POLICIES_NEAR, Policy, TrafficPolicy, policies_in
from fairlead.ir.view import Client, View
from fairlead.ir.visibility import most_specific


class Near(NamedTuple):
    """What of a caller decides which endpoints are close to it; what does not matter is left empty.

    `families` decides which addresses it can dial at all; `sees` are the only networks of which it is told (none: all).
    """

    locality: str = ""
    network: str = ""
    labels: Pairs = ()
    cluster: str = ""
    families: Families = "IPv4"
    sees: tuple[str, ...] = ()

    def told(self, network: str) -> bool:
        """Whether the caller is told of instances in a network."""
        return not self.sees or network in ("", *self.sees)

    @property
    def bare(self) -> Near:
        """The caller without what only orders endpoints."""
        return self._replace(locality="", labels=())


class Placing(msgspec.Struct, frozen=True):
    """How endpoints are placed for a caller: the caller, and the setting if one has an effect on it.

    `within` leaves out endpoints of other networks: the caller is the gateway that leads into its own. Where the caller
    names its cluster those of other clusters are left out.
    """

    near: Near
    setting: LocalityLb | None = None
    within: bool = False


class Matters(msgspec.Struct, frozen=True):
    """What of callers matters to anything in the mesh."""

    place: bool
    network: bool
    cluster: bool
    labels: frozenset[str]


@rule
def matters(r: Reader, _: str) -> Matters:
    """What of callers matters (key: "")."""
    mesh = settings(r)
    found: list[LocalityLb] = []
    policies = r.rows(TRAFFIC_POLICIES_NEAR, "")
    for _key, policy in policies:
        found.extend(_settings_of(policy))
    found.extend(one.locality for _key, one in r.rows(HOSTS_NEAR, "") if one.locality is not None)
    general = mesh.locality.distribute or mesh.locality.zone_aware or mesh.baseline.outlier
    place = bool(found or policies or general)
    if place:
        found.append(mesh.locality)
    labels = frozenset(label for one in found for label in one.labels)
    return Matters(place, bool(networks(r, "").known), bool(mesh.cluster_local), labels)


@rule
def near_of(r: Reader, whole: Client) -> Near | None:
    """What of a caller's place matters; None if nothing does."""
    wanted = matters(r, "")
    usual = whole.families == "IPv4" and not whole.sees
    if usual and not wanted.place and not wanted.network and not wanted.cluster:
        return None
    network = whole.network if wanted.network or NETWORK in wanted.labels else ""
    labels = dict(whole.labels)
    known = {**topology(whole.locality, network), **labels}
    return Near(
        whole.locality if wanted.place else "",
        network,
        tuple(sorted((name, known[name]) for name in wanted.labels if name in known)),
        whole.cluster if wanted.cluster else "",
        whole.families,
        whole.sees,
    )


def own_network(r: Reader, view: View) -> str:
    """The network of a proxy, by the rules for endpoints."""
    return network_at(r, view.network, view.addresses[0] if view.addresses else "", view.labels)


def placing(r: Reader, near: Near | None, found: Host, said: Policy) -> Placing | None:
    """How a policy has the endpoints of a host placed for a caller; None if as for everybody."""
    if near is None:
        return None
    if near.cluster and not is_cluster_local(r, found.key.hostname):
        near = near._replace(cluster="")
    setting = locality_setting(r, found, said)
    if setting is not None and not _has_effect(setting, near, said):
        setting = None
    if setting is None:
        known = bool(networks(r, "").known or near.cluster or near.sees) or near.families != "IPv4"
        return Placing(near.bare) if known else None
    return Placing(near, setting)


@rule
def is_cluster_local(r: Reader, hostname: str) -> bool:
    """Whether clients call only instances of a host that are in their own cluster (MeshConfig serviceSettings)."""
    patterns = dict(settings(r).cluster_local)
    chosen = most_specific(patterns, hostname)
    return chosen is not None and patterns[chosen]


def locality_setting(r: Reader, found: Host, said: Policy) -> LocalityLb | None:
    """The setting that holds for a host: its rule's, its own, or the mesh's; None where it is switched off."""
    setting = _said_of_localities(r, found, said)
    return setting if setting.enabled else None


def zones_setting(r: Reader, found: Host, said: Policy) -> LocalityLb | None:
    """How Envoy is to mind zones itself, switched off or on; None where nobody says anything of that."""
    setting = _said_of_localities(r, found, said)
    return setting if setting.zone_aware else None


def _said_of_localities(r: Reader, found: Host, said: Policy) -> LocalityLb:
    balancer = said.load_balancer
    own = balancer.locality if balancer is not None else None
    return own or found.locality or settings(r).locality


def topology(locality: str, network: str) -> dict[str, str]:
    """The labels that follow from where an instance is."""
    region, _, rest = locality.partition("/")
    zone, _, subzone = rest.partition("/")
    named = {REGION: region, ZONE: zone, SUBZONE: subzone, NETWORK: network}
    return {name: value for name, value in named.items() if value}


def _has_effect(setting: LocalityLb, near: Near, said: Policy) -> bool:
    if setting.distribute:
        return any(locality_covers(one.source, near.locality) for one in setting.distribute)
    if said.outlier is None and not setting.forced:
        return False
    return bool(near.locality or setting.priority)


def _settings_of(policy: TrafficPolicy) -> list[LocalityLb]:
    balancers = (one.load_balancer for one in policies_in(policy))
    return [one.locality for one in balancers if one is not None and one.locality is not None]
