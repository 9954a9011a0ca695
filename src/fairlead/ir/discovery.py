"""At which objects the mesh looks, by their namespace and revision, and who may see what ServiceEntries declare.

MeshConfig's `discoverySelectors` and `serviceEntryVisibility`. In Istio `istio.io/rev` on an object says for which of
several control planes it is (`config.LabelsInRevision`): the others ignore it. An object without it is for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.visibility import is_visible
from fairlead.model.object import Object

NAMESPACE = ("", "Namespace")
"""Group and kind of the objects that have the labels."""
NAME_LABEL = "kubernetes.io/metadata.name"
"""The label with a namespace's own name, which each has without being told."""
REVISION = "istio.io/rev"
"""The label that names a revision: on an object the one that it is for, on the mesh's settings the mesh's own."""
DEFAULT_REVISION = "default"
"""The mesh's revision where its settings name none, as in an installation of Istio."""
_REVISED = frozenset(
    (
        "networking.istio.io",
        "security.istio.io",
        "telemetry.istio.io",
        "extensions.istio.io",
        "gateway.networking.k8s.io",
    )
)
"""Groups whose objects may be for one revision. Kubernetes' own count for all; on a Namespace or Pod the label says
who injects a proxy, which nobody does here."""


class LabelCondition(msgspec.Struct, frozen=True):
    """A condition on one label (metav1.LabelSelectorRequirement)."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it. As in Kubernetes NotIn also holds where the label is missing."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None


NamespaceSelector = tuple[LabelCondition, ...]
"""All of its conditions must hold; an empty one chooses every namespace."""


Visibility = Literal["PUBLIC", "NAMESPACE", "NONE"]
"""How far a declared host may be seen: everywhere, in its own namespace, nowhere."""


class Ceiling(msgspec.Struct, frozen=True):
    """How far hosts of ServiceEntries may be seen at most, by the labels of their namespaces.

    Of `policies` the first counts of which all selectors choose the namespace, else `otherwise`. `usual` is the
    exportTo of entries that say none (MeshConfig `defaultServiceExportTo`).
    """

    policies: tuple[tuple[Visibility, tuple[NamespaceSelector, ...]], ...] = ()
    otherwise: Visibility = "PUBLIC"
    usual: tuple[str, ...] = ("*",)

    def of(self, labels: Mapping[str, str]) -> Visibility:
        """What holds for entries of a namespace with these labels."""
        for said, asked in self.policies:
            if all(_chooses(one, labels) for one in asked):
                return said
        return self.otherwise


class Looking(msgspec.Struct, frozen=True):
    """What the mesh makes of namespaces: those that a selector chooses count (without any all do)."""

    selectors: tuple[NamespaceSelector, ...] = ()
    ceiling: Ceiling = Ceiling()


class Discovering(msgspec.Struct, frozen=True, eq=False):
    """Which object of a kind says what the mesh makes of namespaces, and how to read it.

    `looking` gives None where the object says nothing of the mesh.
    """

    namespace: str
    name: str
    looking: Callable[[Object[Any]], Looking | None]


class Namespace(msgspec.Struct, frozen=True):
    """A namespace and its labels."""

    name: str
    labels: Pairs = ()


NAMESPACES: Table[str, Namespace] = Table("namespaces", stage=1)
"""Namespaces for which there is an object, by name."""


def is_discovered(selectors: Iterable[NamespaceSelector], labels: Mapping[str, str]) -> bool:
    """Whether one of the selectors chooses a namespace with these labels (Istio's `discoveryNamespacesFilter`)."""
    return any(_chooses(one, labels) for one in selectors)


def _chooses(selector: NamespaceSelector, labels: Mapping[str, str]) -> bool:
    return all(one.holds(labels) for one in selector)


def lowered(export_to: tuple[str, ...], namespace: str, limit: Visibility) -> tuple[str, ...]:
    """What is left of an exportTo under a limit: it takes away, and never adds."""
    if limit == "PUBLIC":
        return export_to
    here = limit == "NAMESPACE" and is_visible(export_to, namespace, namespace)
    return (".",) if here else ("~",)


def revision_of(group: str, labels: Mapping[str, str]) -> str:
    """For which revision an object is; "" for all.

    A label without a value is taken for none: it comes of templates whose value is not set. Istio ignores the object.
    """
    return labels.get(REVISION, "") if group in _REVISED else ""
