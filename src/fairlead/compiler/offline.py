"""Loads documents into a model without an API server: what admission and the store would have done to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from fairlead.compiler.model import MeshModel
from fairlead.compiler.registry import Registry
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.manifest import Json, Manifest
from fairlead.model.object import Object
from fairlead.model.path import METADATA
from fairlead.model.ref import Ref

DEFAULT_RANGE = "10.96.0.0/16"
"""Virtual addresses of services, unless the control plane is told otherwise."""

_NAME = METADATA / "name"


def load(model: MeshModel, manifests: Iterable[Manifest], namespace: str = "default") -> list[Diagnostic]:
    """Put the valid documents into the model, as one change; what is wrong with the others.

    Of two documents for one object the later stands, as with `apply`, and a warning says so.
    """
    found: list[Diagnostic] = []
    objects: dict[Ref, Object[Any]] = {}
    taken: set[str] = set()
    for manifest in manifests:
        obj, problems = model.kinds.read_manifest(_with_address(model.kinds, manifest, taken, namespace), namespace)
        found.extend(problems)
        if obj is None:
            continue
        if obj.ref in objects:
            found.append(
                Diagnostic(
                    "FL0008",
                    Severity.WARNING,
                    f"{obj.ref} stands here a second time; this one counts",
                    Origin(obj.ref, position=manifest.position(_NAME)),
                    "Remove one of the two.",
                )
            )
        objects[obj.ref] = obj
    model.apply(objects.values())
    return found


def _with_address(kinds: Registry, manifest: Manifest, taken: set[str], namespace: str) -> Manifest:
    """The manifest with the virtual address that the API server would have given it."""
    kind, _ = kinds.identify(manifest.data)
    if kind is None or kind.allocate is None or kind.addresses is None:
        return manifest
    meta = manifest.data.get("metadata")
    if not isinstance(meta, dict):
        return manifest
    data: Json = {**manifest.data, "metadata": {"namespace": namespace, **cast("Json", meta)}}
    if not kind.addresses(data):
        # What files ask for is taken as it is: they may come from a cluster with another range.
        made, problems = kind.allocate(data, taken, DEFAULT_RANGE)
        data = data if problems else made
    taken.update(kind.addresses(data))
    return Manifest(data, manifest.file, manifest.marks)
