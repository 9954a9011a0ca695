"""At which objects the mesh looks: all others mean nothing to it.

Istio's rules: a namespace counts if one of the selectors chooses its labels (MeshConfig `discoverySelectors`), the root
namespace like any other; without selectors all count. An object with the label `istio.io/rev` counts if it names the
revision of the mesh: what an object with the mesh's settings has as that label, else `default`. The mesh's own
settings are read wherever they are.
"""

from __future__ import annotations

from typing import Any

from fairlead.compiler.registry import Registry
from fairlead.inc import Reader, Rule, Table
from fairlead.ir.discovery import (
    DEFAULT_REVISION,
    NAME_LABEL,
    NAMESPACE,
    REVISION,
    NamespaceSelector,
    is_discovered,
    revision_of,
)
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.object import Object
from fairlead.model.path import METADATA
from fairlead.model.ref import Ref

UNSEEN, OTHER_REVISION = "FL0104", "FL0105"


class Discovery:
    """The rules over a table of objects: they stand before the facts, which exist for objects that count only."""

    def __init__(self, objects: Table[Ref, Object[Any]], kinds: Registry) -> None:
        self._objects = objects
        self._said = [(kind, kind.discovering) for kind in kinds.kinds if kind.discovering is not None]
        self._selectors: Rule[str, tuple[NamespaceSelector, ...]] = Rule("discovery.selectors", self._read)
        self._counts: Rule[str, bool] = Rule("discovery.counts", self._chosen)
        self.revision: Rule[str, str] = Rule("discovery.revision", self._named)
        """The mesh's revision (under "")."""

    def counts(self, r: Reader, obj: Object[Any]) -> bool:
        """Whether an object counts, by its revision and its namespace; an object without a namespace has only one."""
        revision = revision_of(obj.ref.group, obj.meta.labels)
        if revision and revision != (own := self.revision(r, "")):
            r.report(of_another_revision(obj.ref, revision, own))
            return False
        namespace = obj.ref.namespace
        return not namespace or not self._selectors(r, "") or self._counts(r, namespace)

    def _named(self, r: Reader, _: str) -> str:
        for kind, said in self._said:
            obj = r.get(self._objects, kind.ref(said.namespace, said.name))
            if obj is not None and obj.meta.labels.get(REVISION):
                return obj.meta.labels[REVISION]
        return DEFAULT_REVISION

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


def of_another_revision(ref: Ref, revision: str, own: str) -> Diagnostic:
    """What is said of an object that is for another revision than the mesh's own."""
    said = f"the object is for revision {revision}, and this mesh is revision {own}: it has no effect here"
    remedy = f"Remove the label, or give it to the ConfigMap istio-system/istio, if this mesh is to be {revision}."
    return Diagnostic(OTHER_REVISION, Severity.WARNING, said, Origin(ref, METADATA.child("labels", REVISION)), remedy)
