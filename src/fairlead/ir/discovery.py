"""Namespaces: their labels, and at which of them the mesh looks (MeshConfig `discoverySelectors`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.model.object import Object

NAMESPACE = ("", "Namespace")
"""Group and kind of the objects that have the labels."""
NAME_LABEL = "kubernetes.io/metadata.name"
"""The label with a namespace's own name, which each has without being told."""


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


class Discovering(msgspec.Struct, frozen=True, eq=False):
    """Which object of a kind says at which namespaces the mesh looks, and how to read it.

    `selectors` gives None where the object says nothing of the mesh, and no selector where all namespaces count.
    """

    namespace: str
    name: str
    selectors: Callable[[Object[Any]], tuple[NamespaceSelector, ...] | None]


class Namespace(msgspec.Struct, frozen=True):
    """A namespace and its labels."""

    name: str
    labels: Pairs = ()


NAMESPACES: Table[str, Namespace] = Table("namespaces", stage=1)
"""Namespaces for which there is an object, by name."""


def is_discovered(selectors: Iterable[NamespaceSelector], labels: Mapping[str, str]) -> bool:
    """Whether one of the selectors chooses a namespace with these labels (Istio's `discoveryNamespacesFilter`)."""
    return any(all(one.holds(labels) for one in selector) for selector in selectors)
