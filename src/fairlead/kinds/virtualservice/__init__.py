"""Kind `VirtualService`: routing rules for hosts."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.virtualservice.columns import COLUMNS
from fairlead.kinds.virtualservice.lower import lower
from fairlead.kinds.virtualservice.spec import VirtualServiceSpec
from fairlead.kinds.virtualservice.validate import validate

KIND: Kind[VirtualServiceSpec] = Kind(
    group="networking.istio.io",
    versions=("v1", "v1beta1", "v1alpha3"),
    kind="VirtualService",
    plural="virtualservices",
    spec=VirtualServiceSpec,
    doc="Routing rules for hosts: which requests and connections go where.",
    short_names=("vs",),
    categories=("istio-io", "networking-istio-io"),
    columns=COLUMNS,
    validate=validate,
    lower=lower,
)
