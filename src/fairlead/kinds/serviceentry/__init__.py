"""ServiceEntry: a service that no Service describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.serviceentry.allocate import addresses, allocate
from fairlead.kinds.serviceentry.lower import lower
from fairlead.kinds.serviceentry.spec import ServiceEntry
from fairlead.kinds.serviceentry.status import ServiceEntryStatus
from fairlead.kinds.serviceentry.validate import validate


def _spec(document: Mapping[str, Any], field: str, default: object = "") -> object:
    spec = document.get("spec")
    return cast("Mapping[str, Any]", spec).get(field, default) if isinstance(spec, Mapping) else default


KIND: Kind[ServiceEntry] = Kind(
    group="networking.istio.io",
    versions=("v1", "v1beta1", "v1alpha3"),
    kind="ServiceEntry",
    plural="serviceentries",
    spec=ServiceEntry,
    doc="A service that no Service describes: outside of the mesh, or made of WorkloadEntries.",
    short_names=("se",),
    categories=("istio-io", "networking-istio-io"),
    columns=(
        Column("Hosts", lambda document: _spec(document, "hosts", []), description="Names that clients call."),
        Column(
            "Location",
            lambda document: _spec(document, "location", "MESH_EXTERNAL"),
            description="Whether the service belongs to the mesh.",
        ),
        Column(
            "Resolution",
            lambda document: _spec(document, "resolution", "NONE"),
            description="How an endpoint is found.",
        ),
    ),
    status=ServiceEntryStatus,
    validate=validate,
    allocate=allocate,
    addresses=addresses,
    lower=lower,
)
