"""What a Service says of close endpoints: its trafficDistribution, by field or annotation."""

from __future__ import annotations

from fairlead.ir.locality import NETWORK, REGION, SUBZONE, ZONE, LocalityLb
from fairlead.kinds.service.spec import Service
from fairlead.model.object import Object

ANNOTATION = "networking.istio.io/traffic-distribution"
"""The annotation that stands before the field."""
_ZONES = (NETWORK, REGION, ZONE, SUBZONE)
CLOSENESS = {
    "PreferClose": _ZONES,
    "PreferSameZone": _ZONES,
    "PreferSameNode": (*_ZONES, "kubernetes.io/hostname"),
}
"""The labels in which an endpoint should equal the client, by what the service says (Istio's order)."""


def closeness(obj: Object[Service]) -> LocalityLb | None:
    """How close endpoints are preferred, None if they are not. Istio needs no outlier detection for this."""
    said = obj.meta.annotations.get(ANNOTATION) or obj.spec.traffic_distribution or ""
    labels = CLOSENESS.get(said)
    return LocalityLb(priority=labels, forced=True) if labels else None
