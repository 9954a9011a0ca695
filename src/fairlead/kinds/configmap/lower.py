"""ConfigMap to facts: the mesh's own settings, and trust bundles, mean something."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from fairlead.inc import Reader
from fairlead.ir.credential import CA_MAPS, Credential
from fairlead.ir.discovery import Looking
from fairlead.ir.kind import Emission
from fairlead.ir.mesh import MESH_KEY, MESHES
from fairlead.ir.meshconfig import MESH_DATA, mesh_of_configmap
from fairlead.kinds.configmap.spec import ConfigMapSpec
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[ConfigMapSpec]) -> Iterator[Emission]:
    """The mesh's settings, if this is the ConfigMap that holds them; a trust bundle, if there is one in it."""
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    if obj.spec.data.get("ca.crt"):
        found = {name: obj.spec.data.get(name, "").encode() for name in ("ca.crt", "ca.crl")}
        yield CA_MAPS, key, Credential(key, Origin(obj.ref), ca_certificates=found["ca.crt"], ca_crl=found["ca.crl"])
    mesh = mesh_of_configmap(obj.ref.namespace, obj.ref.name, obj.spec.data)
    if mesh is not None:
        yield MESHES, MESH_KEY, replace(mesh, origin=Origin(obj.ref, MESH_DATA))


def looking(obj: Object[ConfigMapSpec]) -> Looking | None:
    """What the mesh makes of namespaces; None if the ConfigMap does not hold the mesh's settings."""
    mesh = mesh_of_configmap(obj.ref.namespace, obj.ref.name, obj.spec.data)
    return mesh.looking if mesh is not None else None
