"""The mesh that files describe, for commands that need no control plane."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, cast

from fairlead.cli import printing
from fairlead.cli.busy import busy
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.model.diagnostic import Origin, Position, Severity
from fairlead.model.manifest import Manifest
from fairlead.model.ref import Ref
from fairlead.simulate.kubernetes import workloads
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.standin import FileWorkloads


def load_mesh(base: Sequence[Manifest], more: Sequence[Manifest], namespace: str) -> Mesh:
    """A mesh of documents; `more` take the place of what they name again. Errors are told, and end the command."""
    model = MeshModel()
    base, more = workloads(base), workloads(more)
    placed = {reference(one, namespace): one for one in (*base, *more)}
    with busy(f"compiling {len(placed)} objects"):
        found = load(model, [one for one in (*base, *more) if placed[reference(one, namespace)] is one], namespace)
    errors = [one for one in found if one.severity is Severity.ERROR]
    for one in errors:
        printing.complain(one)
    if errors:
        sys.exit(2)
    return Mesh(model, FileWorkloads(model), lambda origin: _position(placed, origin), complete=False)


def reference(manifest: Manifest, namespace: str) -> Ref:
    """The object that a document is of; `namespace` is of documents that name none."""
    data = manifest.data
    meta: Any = data.get("metadata")
    named = cast("dict[str, Any]", meta) if isinstance(meta, dict) else {}
    group = str(data.get("apiVersion", "")).rpartition("/")[0]
    return Ref(group, str(data.get("kind")), str(named.get("namespace") or namespace), str(named.get("name")))


def _position(placed: dict[Ref, Manifest], origin: Origin) -> Position | None:
    found = placed.get(origin.ref)
    return found.position(origin.path) if found is not None else None
