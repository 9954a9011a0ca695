"""What stands before the facts: at which objects the mesh looks, and how far declared hosts may be seen.

All other objects mean nothing to it.

Istio's rules: a namespace counts if one of the selectors chooses its labels (MeshConfig `discoverySelectors`), the root
namespace like any other; without selectors all count. An object with the label `istio.io/rev` counts if it names the
revision of the mesh: what an object with the mesh's settings has as that label, else `default`. On a Namespace the
label says who injects proxies, so that its objects count whatever it says. The mesh's own settings are read wherever
they are. What ServiceEntries define is seen no farther than `serviceEntryVisibility` lets it, whatever their exportTo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from fairlead.compiler.registry import Registry
from fairlead.inc import Reader, Rule, Table
from fairlead.ir.discovery import (
    DEFAULT_REVISION,
    NAME_LABEL,
    NAMESPACE,
    REVISION,
    Looking,
    Visibility,
    is_discovered,
    lowered,
    revision_of,
)
from fairlead.ir.host import Host
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
        self._looking: Rule[str, Looking] = Rule("discovery.looking", self._read)
        self.chosen: Rule[str, bool] = Rule("discovery.counts", self._chosen)
        """Whether the mesh looks at a namespace."""
        self._limit: Rule[str, Visibility] = Rule("discovery.limit", self._limited)
        self.revision: Rule[str, str] = Rule("discovery.revision", self._named)
        """The mesh's revision (under "")."""

    def counts(self, r: Reader, obj: Object[Any]) -> bool:
        """Whether an object counts, by its revision and its namespace; an object without a namespace has only one."""
        revision = revision_named(obj.ref, obj.meta.labels)
        if revision and revision != (own := self.revision(r, "")):
            r.report(of_another_revision(obj.ref, revision, own))
            return (obj.ref.group, obj.ref.kind) == NAMESPACE
        namespace = obj.ref.namespace
        return not namespace or not self._looking(r, "").selectors or self.chosen(r, namespace)

    def shown(self, r: Reader, host: Host) -> Host:
        """A host as far as it may be seen: a limit is for those that ServiceEntries declare."""
        limit = "PUBLIC" if host.kubernetes else self._limit(r, host.key.namespace)
        if limit == "PUBLIC":
            return host
        said = host.export_to or self._looking(r, "").ceiling.usual
        return replace(host, export_to=lowered(said, host.key.namespace, limit), limit=limit)

    def _named(self, r: Reader, _: str) -> str:
        for kind, said in self._said:
            obj = r.get(self._objects, kind.ref(said.namespace, said.name))
            if obj is not None and obj.meta.labels.get(REVISION):
                return obj.meta.labels[REVISION]
        return DEFAULT_REVISION

    def _read(self, r: Reader, _: str) -> Looking:
        for kind, said in self._said:
            obj = r.get(self._objects, kind.ref(said.namespace, said.name))
            found = said.looking(obj) if obj is not None else None
            if found is not None:
                return found
        return Looking()

    def _labels(self, r: Reader, ref: Ref) -> dict[str, str]:
        obj = r.get(self._objects, ref)
        return {NAME_LABEL: ref.name, **(obj.meta.labels if obj is not None else {})}

    def _limited(self, r: Reader, namespace: str) -> Visibility:
        ceiling = self._looking(r, "").ceiling
        return ceiling.of(self._labels(r, Ref(*NAMESPACE, "", namespace))) if ceiling.policies else ceiling.otherwise

    def _chosen(self, r: Reader, namespace: str) -> bool:
        selectors = self._looking(r, "").selectors
        if not selectors or is_discovered(selectors, self._labels(r, Ref(*NAMESPACE, "", namespace))):
            return True
        r.report(of_an_unseen_namespace(namespace))
        return False


def of_an_unseen_namespace(namespace: str) -> Diagnostic:
    """What is said of a namespace that no selector chooses."""
    said = f"the mesh does not look at namespace {namespace}: no discovery selector of MeshConfig chooses it"
    remedy = "Give it labels that discoverySelectors ask for, if its objects are to count."
    return Diagnostic(UNSEEN, Severity.WARNING, said, Origin(Ref(*NAMESPACE, "", namespace)), remedy)


def revision_named(ref: Ref, labels: Mapping[str, str]) -> str:
    """The revision for which an object is, or a Namespace has its proxies; "" for all."""
    return labels.get(REVISION, "") if (ref.group, ref.kind) == NAMESPACE else revision_of(ref.group, labels)


def of_another_revision(ref: Ref, revision: str, own: str) -> Diagnostic:
    """What is said of an object that is for another revision than the mesh's own."""
    if (ref.group, ref.kind) == NAMESPACE:
        said = (
            f"the namespace is for revision {revision}, and this mesh is revision {own}: its objects count all the same"
        )
        remedy = "Leave it out by MeshConfig's discoverySelectors, or remove the label."
    else:
        said = f"the object is for revision {revision}, and this mesh is revision {own}: it has no effect here"
        remedy = f"Remove the label, or give it to the ConfigMap istio-system/istio, if this mesh is to be {revision}."
    return Diagnostic(OTHER_REVISION, Severity.WARNING, said, Origin(ref, METADATA.child("labels", REVISION)), remedy)
