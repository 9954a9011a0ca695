"""Lua and Wasm filters for the chains of a workload, whichever kind asked for them."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.envoy.extension import lua_filter, wasm_filter
from fairlead.inc import Reader
from fairlead.ir.attachment import attached
from fairlead.ir.extension import EXTENSIONS_AT, PULL_SECRETS, Extension, Selector
from fairlead.ir.filters import Filter, FilterScope
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.ref import NamespacedName

UNUSABLE_PULL_CODE = "FL3400"
"""The Secret with the credentials of a module's registry is missing or of no use."""

_MODES = {"inbound": ("SERVER",), "outbound": ("CLIENT",), "gateway": ("CLIENT", "SERVER")}


def http_filters(r: Reader, scope: FilterScope) -> Iterator[Filter]:
    """Filters of an HTTP connection manager."""
    if not scope.tcp:
        yield from _filters(r, scope)


def network_filters(r: Reader, scope: FilterScope) -> Iterator[Filter]:
    """Filters of a TCP chain."""
    if scope.tcp:
        yield from _filters(r, scope)


def _filters(r: Reader, scope: FilterScope) -> Iterator[Filter]:
    mesh = r.get(MESHES, MESH_KEY) or Mesh()
    for one in attached(r, EXTENSIONS_AT, (mesh.root_namespace, scope.namespace), scope.namespace, scope.labels):
        if _sees(one, scope):
            yield _filter(r, one)


def _sees(extension: Extension, scope: FilterScope) -> bool:
    if (extension.wasm is not None and extension.wasm.network) != scope.tcp:
        return False
    return not extension.traffic or any(_holds(one, scope) for one in extension.traffic)


def _holds(selector: Selector, scope: FilterScope) -> bool:
    if selector.mode != "CLIENT_AND_SERVER" and selector.mode not in _MODES[scope.direction]:
        return False
    return not selector.ports or scope.port in selector.ports


def _filter(r: Reader, extension: Extension) -> Filter:
    wasm = extension.wasm
    if wasm is None:
        return lua_filter(extension)
    if wasm.pull_secret and not wasm.path:
        secret = NamespacedName(extension.key.namespace, wasm.pull_secret)
        if r.get(PULL_SECRETS, secret) is None:
            said = f"there is no Secret {secret.name} of type kubernetes.io/dockerconfigjson in {secret.namespace}"
            remedy = "Create it; until then the module is fetched without credentials."
            r.report(Diagnostic(UNUSABLE_PULL_CODE, Severity.WARNING, said, extension.origin, remedy))
    return wasm_filter(extension, wasm)
