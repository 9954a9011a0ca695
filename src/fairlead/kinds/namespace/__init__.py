"""Namespace: a scope of names and policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.namespace.lower import lower
from fairlead.kinds.namespace.spec import NamespaceSpec
from fairlead.kinds.namespace.validate import default, validate


def _phase(document: Mapping[str, Any]) -> str:
    status = document.get("status")
    return str(cast("dict[str, Any]", status).get("phase", "")) if isinstance(status, dict) else ""


KIND = Kind(
    group="",
    versions=("v1",),
    kind="Namespace",
    plural="namespaces",
    short_names=("ns",),
    namespaced=False,
    spec=NamespaceSpec,
    doc="A scope for the names of objects, and for the policies that apply to a namespace.",
    columns=(Column("Status", _phase, description="Whether the namespace takes new objects."),),
    validate=validate,
    default=default,
    lower=lower,
)
