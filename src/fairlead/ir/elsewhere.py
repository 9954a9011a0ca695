"""Istio's labels and annotations that mean something only in ambient mode or on Kubernetes: each is named, and why."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.findings import NO_EFFECT
from fairlead.model.object import Metadata
from fairlead.model.path import FieldPath

_AMBIENT = "There is no ambient mode: workloads have sidecars."
_NODES = "There are no nodes of Kubernetes: give the Service externalIPs or a load balancer."
_CLUSTERS = "One control plane serves the mesh: name the cluster of a workload by topology.istio.io/cluster."
_LABELS = {
    "istio.io/dataplane-mode": _AMBIENT,
    "istio.io/global": _AMBIENT,
    "istio.io/ingress-use-waypoint": _AMBIENT,
    "istio.io/use-waypoint": _AMBIENT,
    "istio.io/use-waypoint-namespace": _AMBIENT,
    "istio.io/waypoint-for": _AMBIENT,
    "networking.istio.io/tunnel": _AMBIENT,
}
_ANNOTATIONS = {
    "ambient.istio.io/bypass-inbound-capture": _AMBIENT,
    "ambient.istio.io/redirection": _AMBIENT,
    "ambient.istio.io/waypoint-inbound-binding": _AMBIENT,
    "istio.io/use-waypoint-canary-weight": _AMBIENT,
    "topology.istio.io/controlPlaneClusters": _CLUSTERS,
    "traffic.istio.io/nodeSelector": _NODES,
}
_NOTHING = ("", "none", "disabled", "false")
"""Values that ask for what is so anyway."""


def platform_problems(meta: Metadata, base: FieldPath) -> Iterator[Problem]:
    """A warning for each of them; `base` is the path of the metadata."""
    for field, said, known in (("labels", meta.labels, _LABELS), ("annotations", meta.annotations, _ANNOTATIONS)):
        for name in sorted(said.keys() & known.keys()):
            if said[name] not in _NOTHING:
                path = base.child(field, name)
                yield Problem(path, f"{name} has no effect", Severity.WARNING, known[name], NO_EFFECT)
