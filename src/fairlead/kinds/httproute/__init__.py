"""Kind `HTTPRoute` (Gateway API): routing rules for services."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.httproute.lower import lower
from fairlead.kinds.httproute.spec import HTTPRouteSpec
from fairlead.kinds.httproute.validate import validate

KIND: Kind[HTTPRouteSpec] = Kind(
    group="gateway.networking.k8s.io",
    versions=("v1", "v1beta1"),
    kind="HTTPRoute",
    plural="httproutes",
    spec=HTTPRouteSpec,
    doc="Routing rules for services, in the Gateway API: which requests go where.",
    categories=("gateway-api",),
    validate=validate,
    lower=lower,
)
