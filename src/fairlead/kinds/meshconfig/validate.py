"""Istio's validation of MeshConfig."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.ir.meshchecks import mesh_config_problems
from fairlead.ir.meshconfig import CONFIGMAP_NAME
from fairlead.ir.meshspec import MeshConfig
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC


def validate(obj: Object[MeshConfig]) -> Iterator[Problem]:
    """There is one, and its settings are what `fairlead.ir.meshconfig` checks."""
    if obj.meta.name != CONFIGMAP_NAME:
        said = f"there is one MeshConfig, named {CONFIGMAP_NAME!r}"
        yield Problem(METADATA / "name", said, remedy=f"Name it {CONFIGMAP_NAME}.")
    yield from mesh_config_problems(obj.spec, SPEC)
