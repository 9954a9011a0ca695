"""Namespace to its fact."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.discovery import NAMESPACES, Namespace
from fairlead.ir.kind import Emission
from fairlead.ir.view import pairs
from fairlead.kinds.namespace.spec import NamespaceSpec
from fairlead.model.object import Object


def lower(_: Reader, obj: Object[NamespaceSpec]) -> Iterator[Emission]:
    """The labels: one of the root namespace names the mesh's network."""
    yield NAMESPACES, obj.ref.name, Namespace(obj.ref.name, pairs(obj.meta.labels))
