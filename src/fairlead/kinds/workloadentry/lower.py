"""WorkloadEntry to workloads."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.kind import Emission
from fairlead.ir.view import pairs
from fairlead.ir.workload import WORKLOADS, Workload, WorkloadKey
from fairlead.kinds.workloadentry.spec import HEALTHY, EntryStatus, WorkloadEntry
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object

TLS_MODE = "security.istio.io/tlsMode"
"""The label by which a workload says that it accepts mesh mTLS (value `istio`)."""
HEALTH_CHECKS = "proxy.istio.io/health-checks-enabled"
"""The annotation by which an entry says that its agent probes it."""
WORKLOAD_NAME = "service.istio.io/workload-name"
"""The label that names the workload of which the entry is one instance; without it the entry's own name does."""


def lower(_: Reader, obj: Object[WorkloadEntry]) -> Iterator[Emission]:
    """One workload. An entry without an address (reached through its network's gateways) makes none."""
    spec = obj.spec
    if not spec.address:
        return
    key = WorkloadKey(obj.ref.kind, obj.ref.namespace, obj.ref.name)
    yield (
        WORKLOADS,
        key,
        Workload(
            key=key,
            origin=Origin(obj.ref),
            address=spec.address,
            labels=pairs(spec.labels),
            service_account=spec.service_account,
            ports=tuple(sorted(spec.ports.items())),
            network=spec.network,
            locality=spec.locality,
            weight=spec.weight,
            healthy=_healthy(obj),
            workload_name=spec.labels.get(WORKLOAD_NAME) or obj.meta.labels.get(WORKLOAD_NAME) or obj.ref.name,
            mesh=_speaks_mtls(spec),
        ),
    )


def _speaks_mtls(spec: WorkloadEntry) -> bool:
    """As Istio tells it: by the label if there is one, else an entry with an identity has a sidecar."""
    mode = spec.labels.get(TLS_MODE)
    return mode == "istio" if mode is not None else bool(spec.service_account)


def _healthy(obj: Object[WorkloadEntry]) -> bool:
    """An entry whose agent probes it is healthy once that was reported; any other until the contrary is."""
    status = obj.status if isinstance(obj.status, EntryStatus) else EntryStatus()
    reported = [one.status for one in status.conditions if one.type == HEALTHY]
    if reported:
        return "False" not in reported
    return obj.meta.annotations.get(HEALTH_CHECKS) != "true"
