"""EnvoyFilter: changes of the configuration that the mesh gives to Envoy, in Envoy's own words."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.envoyfilter.lower import lower
from fairlead.kinds.envoyfilter.spec import EnvoyFilter
from fairlead.kinds.envoyfilter.validate import validate

KIND: Kind[EnvoyFilter] = Kind(
    group="networking.istio.io",
    versions=("v1alpha3",),
    kind="EnvoyFilter",
    plural="envoyfilters",
    spec=EnvoyFilter,
    doc="Changes of the configuration that the mesh gives to Envoy, in Envoy's own words.",
    categories=("istio-io", "networking-istio-io"),
    validate=validate,
    lower=lower,
)
