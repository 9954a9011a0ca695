"""WasmPlugin: a Wasm module in the filter chains of workloads. Its filters are TrafficExtension's."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.wasmplugin.lower import lower
from fairlead.kinds.wasmplugin.spec import WasmPlugin
from fairlead.kinds.wasmplugin.validate import validate

KIND: Kind[WasmPlugin] = Kind(
    group="extensions.istio.io",
    versions=("v1alpha1",),
    kind="WasmPlugin",
    plural="wasmplugins",
    spec=WasmPlugin,
    doc="A Wasm module in the filter chains of workloads.",
    categories=("istio-io", "extensions-istio-io"),
    validate=validate,
    lower=lower,
)
