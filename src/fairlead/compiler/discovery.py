"""At which namespaces the mesh looks: objects of all others mean nothing to it (MeshConfig `discoverySelectors`).

Istio's rules: a namespace counts if one of the selectors chooses its labels, the root namespace like any other; without
selectors all count. The mesh's own settings are read wherever they are.
"""

from __future__ import annotations

from typing import Any

from fairlead.compiler.registry import Registry
from fairlead.inc import Reader, Rule, Table
from fairlead.ir.discovery import NAME_LABEL, NAMESPACE, NamespaceSelector, is_discovered
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.object import Object
from fairlead.model.ref import Ref

UNSEEN = "FL0104"


class Discovery:
    """The rules over a table of objects: they stand before the facts, which exist for objects that count only."""

    def __init__(self, objects: Table[Ref, Object[Any]], kinds: Registry) -> None:
        self._objects = objects
        self._said = [(kind, kind.discovering) for kind in kinds.kinds if kind.discovering is not None]
        self._selectors: Rule[str, tuple[NamespaceSelector, ...]] = Rule("discovery.selectors", self._read)
        self._counts: Rule[str, bool] = Rule("discovery.counts", self._chosen)

    def sees(self, r: Reader, namespace: str) -> bool:
        """Whether objects of a namespace count; those without a namespace do."""
        return not namespace or not self._selectors(r, "") or self._counts(r, namespace)

    def _read(self, r: Reader, _: str) -> tuple[NamespaceSelector, ...]:
        for kind, said in self._said:
            obj = r.get(self._objects, kind.ref(said.namespace, said.name))
            found = said.selectors(obj) if obj is not None else None
            if found is not None:
                return found
        return ()

    def _chosen(self, r: Reader, namespace: str) -> bool:
        ref = Ref(*NAMESPACE, "", namespace)
        obj = r.get(self._objects, ref)
        labels = {NAME_LABEL: namespace, **(obj.meta.labels if obj is not None else {})}
        if is_discovered(self._selectors(r, ""), labels):
            return True
        said = f"the mesh does not look at namespace {namespace}: no discovery selector of MeshConfig chooses it"
        remedy = "Give it labels that discoverySelectors ask for, if its objects are to count."
        r.report(Diagnostic(UNSEEN, Severity.WARNING, said, Origin(ref), remedy))
        return False
