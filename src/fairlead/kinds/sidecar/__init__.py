"""Kind `Sidecar`: what the proxies of some workloads see and serve."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.sidecar.lower import lower
from fairlead.kinds.sidecar.spec import SidecarSpec
from fairlead.kinds.sidecar.validate import validate

KIND: Kind[SidecarSpec] = Kind(
    group="networking.istio.io",
    versions=("v1", "v1beta1", "v1alpha3"),
    kind="Sidecar",
    plural="sidecars",
    spec=SidecarSpec,
    doc="Which hosts the proxies of some workloads see, and which ports they serve.",
    categories=("istio-io", "networking-istio-io"),
    validate=validate,
    lower=lower,
)
