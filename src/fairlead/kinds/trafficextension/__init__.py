"""TrafficExtension: Lua or a Wasm module in the filter chains of workloads."""

from __future__ import annotations

from fairlead.ir.kind import Kind, Stage
from fairlead.kinds.trafficextension.emit import http_filters, network_filters
from fairlead.kinds.trafficextension.lower import lower
from fairlead.kinds.trafficextension.spec import TrafficExtension
from fairlead.kinds.trafficextension.validate import validate

KIND: Kind[TrafficExtension] = Kind(
    group="extensions.istio.io",
    versions=("v1alpha1",),
    kind="TrafficExtension",
    plural="trafficextensions",
    spec=TrafficExtension,
    doc="Lua or a Wasm module in the filter chains of workloads.",
    categories=("istio-io", "extensions-istio-io"),
    validate=validate,
    lower=lower,
    emit={Stage.HTTP_FILTERS: http_filters, Stage.NETWORK_FILTERS: network_filters},
)
