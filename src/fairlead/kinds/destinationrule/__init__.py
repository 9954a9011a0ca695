"""Kind `DestinationRule`: how clients talk to a host."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.destinationrule.columns import COLUMNS
from fairlead.kinds.destinationrule.lower import lower
from fairlead.kinds.destinationrule.spec import DestinationRuleSpec
from fairlead.kinds.destinationrule.validate import validate

KIND: Kind[DestinationRuleSpec] = Kind(
    group="networking.istio.io",
    versions=("v1", "v1beta1", "v1alpha3"),
    kind="DestinationRule",
    plural="destinationrules",
    spec=DestinationRuleSpec,
    doc="How clients talk to a host: subsets, load balancing, limits, outlier detection, TLS.",
    short_names=("dr",),
    categories=("istio-io", "networking-istio-io"),
    columns=COLUMNS,
    validate=validate,
    lower=lower,
)
