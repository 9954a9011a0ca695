"""Kind `IngressClass` (Kubernetes): who serves the Ingresses of a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.ingressclass.lower import lower
from fairlead.kinds.ingressclass.spec import IngressClassSpec
from fairlead.kinds.ingressclass.validate import validate, validate_update


def _spec(document: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = document.get("spec")
    return cast("Mapping[str, Any]", spec) if isinstance(spec, Mapping) else {}


def _parameters(document: Mapping[str, Any]) -> str:
    said = _spec(document).get("parameters")
    if not isinstance(said, Mapping):
        return "<none>"
    to = cast("Mapping[str, Any]", said)
    group = f".{to['apiGroup']}" if to.get("apiGroup") else ""
    return f"{to.get('kind')}{group}/{to.get('name')}"


def _created(document: Mapping[str, Any]) -> object:
    return cast("Mapping[str, Any]", document.get("metadata") or {}).get("creationTimestamp")


KIND: Kind[IngressClassSpec] = Kind(
    group="networking.k8s.io",
    versions=("v1",),
    kind="IngressClass",
    plural="ingressclasses",
    spec=IngressClassSpec,
    doc="Who serves the Ingresses of a class.",
    namespaced=False,
    has_status=False,
    columns=(
        Column("Controller", lambda document: _spec(document).get("controller"), description="Who serves the class."),
        Column("Parameters", _parameters, description="Settings of the controller."),
        Column("Age", _created, type="date", description="When this object was created."),
    ),
    validate=validate,
    validate_update=validate_update,
    lower=lower,
)
