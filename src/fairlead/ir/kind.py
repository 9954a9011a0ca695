"""What a kind's folder exports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from fairlead.inc import Reader, Table
from fairlead.ir.discovery import Discovering
from fairlead.ir.filters import Filter, FilterScope
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object
from fairlead.model.path import ROOT, SPEC, FieldPath
from fairlead.model.ref import Ref

S = TypeVar("S")

Emission = tuple[Table[Any, Any], Hashable, object]

Allocate = Callable[[dict[str, Any], Collection[str], str], tuple[dict[str, Any], list[Problem]]]
"""(document, addresses of others, range) to the document with its address, or the problems that forbid it."""


DRY_RUN = "istio.io/dry-run"
"""The annotation of an object that is to be judged without effect."""


class Stage(Enum):
    """Where a kind may contribute fragments to what other facts build (see `fairlead.ir.filters`)."""

    NETWORK_FILTERS = "network-filters"
    HTTP_FILTERS = "http-filters"


class Column(msgspec.Struct, frozen=True):
    """A printed column (apiextensions CustomResourceColumnDefinition).

    `value` is computed from the stored JSON document; priority > 0 is shown by `-o wide` only.
    """

    name: str
    value: Callable[[Mapping[str, Any]], object]
    type: str = "string"
    description: str = ""
    priority: int = 0


class Kind(msgspec.Struct, Generic[S], frozen=True, eq=False):
    """Everything the rest of Fairlead needs to know of one API kind.

    `group` is "" for the core group; `versions[0]` is the one that is stored. `spec` types the `spec` field, or with
    `inline` the top-level fields beside metadata and status. `validate` sees a decoded object and returns what Istio's
    or Kubernetes' own validation would say; `validate_update` sees the old and the new one (what may not change).
    `default` fills in what admission fills in (on the JSON document, so that it is stored). `lower` turns an object
    into facts of stage-1 tables. `emit` contributes fragments at stages. `allocate` fills in a virtual address that is
    not among those taken (see `Allocate`), and `addresses` says which ones a stored document holds.
    `discovering` is for a kind with an object that says at which namespaces the mesh looks.
    `tried`: objects may have the annotation `DRY_RUN`, which Istio refuses on its other kinds.
    """

    group: str
    versions: tuple[str, ...]
    kind: str
    plural: str
    spec: type[S]
    doc: str
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    inline: bool = False
    status: type[Any] | None = None
    has_status: bool = True
    sensitive: bool = False
    columns: tuple[Column, ...] = ()
    validate: Callable[[Object[S]], Iterable[Problem]] | None = None
    validate_update: Callable[[Object[S], Object[S]], Iterable[Problem]] | None = None
    default: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    allocate: Allocate | None = None
    tried: bool = False
    addresses: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    lower: Callable[[Reader, Object[S]], Iterable[Emission]] | None = None
    discovering: Discovering | None = None
    emit: Mapping[Stage, Callable[[Reader, FilterScope], Iterable[Filter]]] = {}

    @property
    def base(self) -> FieldPath:
        """The path of `spec` in the document."""
        return ROOT if self.inline else SPEC

    @property
    def api_version(self) -> str:
        """`group/version` of the stored version."""
        return f"{self.group}/{self.versions[0]}" if self.group else self.versions[0]

    def ref(self, namespace: str, name: str) -> Ref:
        """The identity of an object of this kind."""
        return Ref(self.group, self.kind, namespace if self.namespaced else "", name)
