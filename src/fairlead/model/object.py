"""Configuration objects: the Kubernetes shape, typed."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from fairlead.model.ref import Ref

S = TypeVar("S")


class Spec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Base of every struct inside an API object: immutable, camelCase on the wire, unknown fields refused."""


class OwnerReference(Spec, frozen=True):
    """metav1.OwnerReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Metadata(Spec, frozen=True):
    """metav1.ObjectMeta: what identifies an object and what the store writes about it."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generate_name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
    managed_fields: tuple[dict[str, Any], ...] = ()
    self_link: str = ""


class Object(msgspec.Struct, Generic[S], frozen=True):
    """A decoded, valid configuration object of one kind.

    `spec` is the kind's own struct: the `spec` field, or for kinds without one (ConfigMap, Secret ...) the
    top-level fields beside metadata. `status` is decoded, leniently, for kinds whose status means something to
    the mesh (a workload's health), and None for all others.
    """

    ref: Ref
    meta: Metadata
    spec: S
    status: Any = None
