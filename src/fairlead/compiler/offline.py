"""Loads documents into a model without an API server: what admission and the store would have done to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fairlead.compiler.model import MeshModel
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.manifest import Manifest
from fairlead.model.object import Object
from fairlead.model.path import METADATA
from fairlead.model.ref import Ref

_NAME = METADATA / "name"


def load(model: MeshModel, manifests: Iterable[Manifest], namespace: str = "default") -> list[Diagnostic]:
    """Put the valid documents into the model, as one change; what is wrong with the others.

    Of two documents for one object the later stands, as with `apply`, and a warning says so.
    """
    found: list[Diagnostic] = []
    objects: dict[Ref, Object[Any]] = {}
    for manifest in manifests:
        obj, problems = model.kinds.read_manifest(manifest, namespace)
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
