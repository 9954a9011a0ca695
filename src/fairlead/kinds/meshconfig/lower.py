"""MeshConfig to the mesh's fact."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from fairlead.inc import Reader
from fairlead.ir.kind import Emission
from fairlead.ir.mesh import MESH_KEY, MESHES
from fairlead.ir.meshconfig import mesh_of
from fairlead.ir.meshspec import MeshConfig
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import SPEC


def lower(_: Reader, obj: Object[MeshConfig]) -> Iterator[Emission]:
    """The one fact. Where the ConfigMap says it too, the ConfigMap wins (it sorts first) and the conflict is told."""
    yield MESHES, MESH_KEY, replace(mesh_of(obj.spec), origin=Origin(obj.ref, SPEC))
