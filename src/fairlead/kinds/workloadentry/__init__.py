"""WorkloadEntry: an instance of an application that is not a pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.workloadentry.lower import lower
from fairlead.kinds.workloadentry.spec import HEALTHY, EntryStatus, WorkloadEntry
from fairlead.kinds.workloadentry.validate import validate


def _spec(document: Mapping[str, Any], field: str) -> object:
    spec = document.get("spec")
    return cast("Mapping[str, Any]", spec).get(field, "") if isinstance(spec, Mapping) else ""


def _health(document: Mapping[str, Any]) -> str:
    status = document.get("status")
    conditions = cast("Mapping[str, Any]", status).get("conditions") if isinstance(status, Mapping) else None
    for one in cast("list[object]", conditions) if isinstance(conditions, list) else []:
        if isinstance(one, Mapping):
            condition = cast("Mapping[str, Any]", one)
            if condition.get("type") == HEALTHY:
                return str(condition.get("status", ""))
    return ""


KIND: Kind[WorkloadEntry] = Kind(
    group="networking.istio.io",
    versions=("v1", "v1beta1", "v1alpha3"),
    kind="WorkloadEntry",
    plural="workloadentries",
    spec=WorkloadEntry,
    doc="An instance of an application that is not a pod: a process or a virtual machine, by its address and labels.",
    short_names=("we",),
    categories=("istio-io", "networking-istio-io"),
    status=EntryStatus,
    columns=(
        Column("Address", lambda document: _spec(document, "address"), description="Where it is reached."),
        Column("Healthy", _health, description="Whether it passes its readiness probe."),
        Column(
            "Service Account",
            lambda document: _spec(document, "serviceAccount"),
            description="Its identity.",
            priority=1,
        ),
    ),
    validate=validate,
    lower=lower,
)
