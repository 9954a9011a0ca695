"""WorkloadEntry to workloads."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.kind import Emission
from fairlead.ir.view import pairs
from fairlead.ir.workload import WORKLOADS, Workload, WorkloadKey
from fairlead.kinds.workloadentry.spec import HEALTHY, EntryStatus, WorkloadEntry
from fairlead.model.diagnostic import Origin
from fairlead.model.entry import accepts_mesh_mtls, locality_said
from fairlead.model.object import Object

HEALTH_CHECKS = "proxy.istio.io/health-checks-enabled"
"""The annotation by which an entry says that its agent probes it."""
WORKLOAD_NAME = "service.istio.io/workload-name"
"""The label that names the workload of which the entry is one instance; without it the entry's own name does."""


def lower(_: Reader, obj: Object[WorkloadEntry]) -> Iterator[Emission]:
    """One workload. Its labels are those of `spec` and of the metadata, which win (as in Istio)."""
    spec = obj.spec
    labels = {**spec.labels, **obj.meta.labels}
    key = WorkloadKey(obj.ref.kind, obj.ref.namespace, obj.ref.name)
    yield (
        WORKLOADS,
        key,
        Workload(
            key=key,
            origin=Origin(obj.ref),
            address=spec.address,
            labels=pairs(labels),
            service_account=spec.service_account,
            ports=tuple(sorted(spec.ports.items())),
            network=spec.network,
            locality=spec.locality or locality_said(labels),
            weight=spec.weight,
            healthy=_healthy(obj),
            workload_name=labels.get(WORKLOAD_NAME) or obj.ref.name,
            mesh=accepts_mesh_mtls(labels, spec.service_account),
        ),
    )


def _healthy(obj: Object[WorkloadEntry]) -> bool:
    """An entry whose agent probes it is healthy once that was reported; any other until the contrary is."""
    status = obj.status if isinstance(obj.status, EntryStatus) else EntryStatus()
    reported = [one.status for one in status.conditions if one.type == HEALTHY]
    if reported:
        return "False" not in reported
    return obj.meta.annotations.get(HEALTH_CHECKS) != "true"
