"""ConfigMap: texts by key; the mesh's own settings stand in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.ir.discovery import Discovering
from fairlead.ir.kind import Column, Kind
from fairlead.ir.meshconfig import CONFIGMAP_NAME, CONFIGMAP_NAMESPACE
from fairlead.kinds.configmap.lower import looking, lower
from fairlead.kinds.configmap.spec import ConfigMapSpec
from fairlead.kinds.configmap.validate import validate, validate_update


def _many(document: Mapping[str, Any]) -> int:
    return len(document.get("data") or ()) + len(document.get("binaryData") or ())


KIND = Kind(
    group="",
    versions=("v1",),
    kind="ConfigMap",
    plural="configmaps",
    short_names=("cm",),
    inline=True,
    has_status=False,
    spec=ConfigMapSpec,
    doc="Texts and bytes by key.",
    columns=(Column("Data", _many, "integer", "How many keys it holds."),),
    validate=validate,
    validate_update=validate_update,
    lower=lower,
    discovering=Discovering(CONFIGMAP_NAMESPACE, CONFIGMAP_NAME, looking),
)
