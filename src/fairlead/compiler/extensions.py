"""Configurations that filters discover: those of the extensions of a workload whose modules its agent fetches."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.hosts import settings
from fairlead.envoy.extension import extension_resource
from fairlead.envoy.resource import Resource
from fairlead.inc import Reader, rule
from fairlead.ir.attachment import attaches
from fairlead.ir.extension import EXTENSIONS, EXTENSIONS_BY_NAMESPACE, PULL_SECRETS
from fairlead.ir.filters import Pairs
from fairlead.model.ref import NamespacedName


class WorkloadKey(NamedTuple):
    """A workload as extensions select it."""

    namespace: str
    labels: Pairs


class ExtensionKey(NamedTuple):
    """An extension by the name and the kind of its object."""

    key: NamespacedName
    kind: str


@rule
def extension_keys(r: Reader, key: WorkloadKey) -> tuple[ExtensionKey, ...]:
    """The extensions of a workload with a module to fetch: nobody else gets them, nor the credentials in them."""
    found: list[ExtensionKey] = []
    for namespace in dict.fromkeys((settings(r).root_namespace, key.namespace)):
        for at, one in r.rows(EXTENSIONS_BY_NAMESPACE, namespace):
            fetched = one.wasm is not None and not one.wasm.path
            if fetched and attaches(namespace, one.selector, one.targets, key.namespace, key.labels):
                found.append(ExtensionKey(*at))
    return tuple(found)


@rule
def extension(r: Reader, key: ExtensionKey) -> Resource | None:
    """The configuration of one extension, with the credentials that its object names in its own namespace."""
    found = r.get(EXTENSIONS, (key.key, key.kind))
    if found is None or found.wasm is None or found.wasm.path:
        return None
    name = found.wasm.pull_secret
    secret = r.get(PULL_SECRETS, NamespacedName(key.key.namespace, name)) if name else None
    return extension_resource(found, found.wasm, secret)
