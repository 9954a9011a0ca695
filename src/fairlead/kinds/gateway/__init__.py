"""Kind `Gateway` (Istio's): servers at the edge of the mesh."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.gateway.lower import lower
from fairlead.kinds.gateway.spec import GatewaySpec
from fairlead.kinds.gateway.validate import validate

KIND: Kind[GatewaySpec] = Kind(
    group="networking.istio.io",
    versions=("v1", "v1beta1", "v1alpha3"),
    kind="Gateway",
    plural="gateways",
    spec=GatewaySpec,
    doc="What proxies at the edge of the mesh listen for, and for which hosts.",
    short_names=("gw",),
    categories=("istio-io", "networking-istio-io"),
    validate=validate,
    lower=lower,
)
