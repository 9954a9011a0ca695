"""Namespaces: which ones there always are, and what comes and goes with one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.compiler.registry import Registry
from fairlead.model.ref import Ref
from fairlead.store import Store

Json = dict[str, Any]

NAMESPACE = ("", "Namespace")
ACCOUNT = ("", "ServiceAccount")
DEFAULT = "default"


def ref_of(name: str) -> Ref:
    """The reference of a namespace."""
    return Ref(*NAMESPACE, "", name)


def account_of(namespace: str) -> Ref:
    """The reference of the ServiceAccount that every namespace has."""
    return Ref(*ACCOUNT, namespace, DEFAULT)


def document(name: str) -> Json:
    """A plain namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def account(namespace: str) -> Json:
    """The ServiceAccount that workloads have which name none."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": DEFAULT, "namespace": namespace}}


def content(store: Store, registry: Registry, namespace: str) -> Iterator[Ref]:
    """Everything that is in a namespace."""
    for kind in registry.kinds:
        if kind.namespaced:
            for one in store.list(kind.group, kind.kind, namespace):
                yield kind.ref(namespace, one["metadata"]["name"])
