"""Service: a name and a virtual address for workloads."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.service.allocate import addresses, allocate
from fairlead.kinds.service.default import default
from fairlead.kinds.service.lower import lower
from fairlead.kinds.service.spec import Service
from fairlead.kinds.service.status import ServiceStatus
from fairlead.kinds.service.validate import validate

_NONE = "<none>"


def _spec(document: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = document.get("spec")
    return cast("Mapping[str, Any]", spec) if isinstance(spec, Mapping) else {}


def _external(document: Mapping[str, Any]) -> str:
    spec = _spec(document)
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName") or _NONE)
    listed = spec.get("externalIPs")
    found = [str(one) for one in cast("list[object]", listed)] if isinstance(listed, list) else []
    with contextlib.suppress(msgspec.ValidationError):  # another program's mistake must not spoil a listing
        found = [*msgspec.convert(document.get("status") or {}, ServiceStatus).addresses, *found]
    return ",".join(dict.fromkeys(found)) or _NONE


def _ports(document: Mapping[str, Any]) -> str:
    listed = _spec(document).get("ports")
    out: list[str] = []
    for one in cast("list[object]", listed) if isinstance(listed, list) else []:
        if isinstance(one, Mapping):
            port = cast("Mapping[str, Any]", one)
            node = f":{port['nodePort']}" if port.get("nodePort") else ""
            out.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(out) or _NONE


def _selector(document: Mapping[str, Any]) -> str:
    selector = _spec(document).get("selector")
    if not isinstance(selector, Mapping) or not selector:
        return _NONE
    return ",".join(f"{key}={value}" for key, value in sorted(cast("Mapping[str, Any]", selector).items()))


KIND: Kind[Service] = Kind(
    group="",
    versions=("v1",),
    kind="Service",
    plural="services",
    spec=Service,
    status=ServiceStatus,
    doc="A name, and usually a virtual address, for the workloads that a selector chooses.",
    short_names=("svc",),
    categories=("all",),
    columns=(
        Column("Type", lambda document: _spec(document).get("type", "ClusterIP"), description="How it is exposed."),
        Column("Cluster-IP", lambda document: _spec(document).get("clusterIP") or _NONE, description="Its address."),
        Column("External-IP", _external, description="Its address outside, or the name it stands for."),
        Column("Port(s)", _ports, description="Ports that clients call."),
        Column("Selector", _selector, description="Labels of the workloads that serve.", priority=1),
    ),
    validate=validate,
    default=default,
    allocate=allocate,
    addresses=addresses,
    lower=lower,
)
