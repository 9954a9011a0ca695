"""What is said to whoever writes an object, by what the mesh is and does: warnings beside those of admission."""

from __future__ import annotations

from typing import Any, cast

from fairlead.compiler.model import MeshModel
from fairlead.controlplane.strictness import Strictness
from fairlead.model.path import METADATA


class Advising:
    """Judges a document before it is stored, in dry runs too."""

    def __init__(self, model: MeshModel, strictness: Strictness) -> None:
        self._model = model
        self._strictness = strictness

    def advise(self, document: dict[str, Any]) -> tuple[str, ...]:
        """Warnings about a valid document, each with its field and remedy."""
        return (*self._unseen(document), *self._strictness.advise(document))

    def _unseen(self, document: dict[str, Any]) -> tuple[str, ...]:
        kind, _ = self._model.kinds.identify(document)
        if kind is None:
            return ()
        meta = cast("dict[str, Any]", document.get("metadata") or {})
        ref = kind.ref(str(meta.get("namespace") or "default"), str(meta.get("name") or ""))
        said = self._model.unseen(ref, cast("dict[str, str]", meta.get("labels") or {}))
        if said is None:
            return ()
        path = said.origin.path or METADATA / "namespace"
        return (f"{path}: {said.message}. {said.remedy} [{said.code}]",)
