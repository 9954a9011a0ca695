"""Kind `EndpointSlice` (Kubernetes): instances of a Service, by their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.endpointslice.lower import lower
from fairlead.kinds.endpointslice.spec import EndpointSliceSpec
from fairlead.kinds.endpointslice.validate import validate, validate_update


def _listed(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = document.get(name)
    listed = cast("list[object]", found) if isinstance(found, list) else []
    return [cast("Mapping[str, Any]", one) for one in listed if isinstance(one, Mapping)]


def _ports(document: Mapping[str, Any]) -> str:
    return ",".join(str(one.get("port", "*")) for one in _listed(document, "ports")) or "<unset>"


def _endpoints(document: Mapping[str, Any]) -> str:
    found = [str(address) for one in _listed(document, "endpoints") for address in one.get("addresses") or ()]
    return ",".join(found) or "<unset>"


def _created(document: Mapping[str, Any]) -> object:
    return cast("Mapping[str, Any]", document.get("metadata") or {}).get("creationTimestamp")


KIND: Kind[EndpointSliceSpec] = Kind(
    group="discovery.k8s.io",
    versions=("v1",),
    kind="EndpointSlice",
    plural="endpointslices",
    inline=True,
    has_status=False,
    spec=EndpointSliceSpec,
    doc="Instances of a Service, by their addresses.",
    columns=(
        Column("AddressType", lambda document: document.get("addressType"), description="What the addresses are."),
        Column("Ports", _ports, description="The ports of the instances."),
        Column("Endpoints", _endpoints, description="Where the instances are."),
        Column("Age", _created, type="date", description="When this object was created."),
    ),
    validate=validate,
    validate_update=validate_update,
    lower=lower,
)
