"""MeshConfig as an object; usually its settings stand in the ConfigMap `istio` (see `fairlead.ir.meshconfig`)."""

from __future__ import annotations

from fairlead.ir.discovery import Discovering
from fairlead.ir.kind import Kind
from fairlead.ir.meshconfig import CONFIGMAP_NAME, mesh_of
from fairlead.ir.meshspec import MeshConfig
from fairlead.kinds.meshconfig.lower import lower
from fairlead.kinds.meshconfig.validate import validate

KIND: Kind[MeshConfig] = Kind(
    group="mesh.istio.io",
    versions=("v1alpha1",),
    kind="MeshConfig",
    plural="meshconfigs",
    spec=MeshConfig,
    doc="Settings for the whole mesh. The ConfigMap istio-system/istio, key mesh, holds the same.",
    namespaced=False,
    validate=validate,
    lower=lower,
    discovering=Discovering("", CONFIGMAP_NAME, lambda obj: mesh_of(obj.spec).looking),
)
