"""Lua and Wasm filters for the chains of a workload, whichever kind asked for them."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.envoy.extension import closed_filter, lua_filter, wasm_filter
from fairlead.inc import Reader
from fairlead.ir.attachment import attaches
from fairlead.ir.extension import EXTENSIONS_BY_NAMESPACE, Extension, Selector
from fairlead.ir.filters import Filter, FilterScope
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.model.diagnostic import Diagnostic, Severity

UNFETCHED_CODE = "FL2420"
"""A module that is no file of the host is not fetched."""

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
    for namespace in dict.fromkeys((mesh.root_namespace, scope.namespace)):
        for _, one in r.rows(EXTENSIONS_BY_NAMESPACE, namespace):
            if attaches(namespace, one.selector, one.targets, scope.namespace, scope.labels) and _sees(one, scope):
                yield from _filter(r, one, scope)


def _sees(extension: Extension, scope: FilterScope) -> bool:
    if (extension.wasm is not None and extension.wasm.network) != scope.tcp:
        return False
    return not extension.traffic or any(_holds(one, scope) for one in extension.traffic)


def _holds(selector: Selector, scope: FilterScope) -> bool:
    if selector.mode != "CLIENT_AND_SERVER" and selector.mode not in _MODES[scope.direction]:
        return False
    return not selector.ports or scope.port in selector.ports


def _filter(r: Reader, extension: Extension, scope: FilterScope) -> Iterator[Filter]:
    wasm = extension.wasm
    if wasm is None:
        yield lua_filter(extension)
    elif wasm.path:
        yield wasm_filter(extension, wasm)
    else:
        is_open = wasm.on_failure == "FAIL_OPEN"
        effect = "it does not run" if is_open else "nothing gets through, as failStrategy says"
        said = f"the module {wasm.url} is not fetched, so {effect}"
        severity = Severity.WARNING if is_open else Severity.ERROR
        remedy = "Put the module on the host and use file://, or use FAIL_OPEN."
        r.report(Diagnostic(UNFETCHED_CODE, severity, said, extension.origin, remedy))
        if not is_open:
            yield closed_filter(extension, tcp=scope.tcp)
