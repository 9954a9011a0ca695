"""WorkloadGroup: what the WorkloadEntries of workloads that join by themselves are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.workloadgroup.spec import WorkloadGroup
from fairlead.kinds.workloadgroup.validate import validate


def _account(document: Mapping[str, Any]) -> object:
    spec = document.get("spec")
    template = cast("Mapping[str, Any]", spec).get("template") if isinstance(spec, Mapping) else None
    said = cast("Mapping[str, Any]", template).get("serviceAccount") if isinstance(template, Mapping) else ""
    return said or "default"


KIND: Kind[WorkloadGroup] = Kind(
    group="networking.istio.io",
    versions=("v1", "v1beta1", "v1alpha3"),
    kind="WorkloadGroup",
    plural="workloadgroups",
    spec=WorkloadGroup,
    doc="Workloads that join by themselves: each gets a WorkloadEntry made of the group's template.",
    short_names=("wg",),
    categories=("istio-io", "networking-istio-io"),
    columns=(Column("Service Account", _account, description="The identity of the members."),),
    validate=validate,
)
