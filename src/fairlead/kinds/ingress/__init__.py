"""Kind `Ingress` (Kubernetes): rules for requests that come into the mesh."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.ingress.columns import COLUMNS
from fairlead.kinds.ingress.lower import lower
from fairlead.kinds.ingress.spec import IngressSpec
from fairlead.kinds.ingress.validate import validate

KIND: Kind[IngressSpec] = Kind(
    group="networking.k8s.io",
    versions=("v1",),
    kind="Ingress",
    plural="ingresses",
    spec=IngressSpec,
    doc="Rules for requests that come into the mesh: hosts, paths, and the services to which they go.",
    short_names=("ing",),
    columns=COLUMNS,
    validate=validate,
    lower=lower,
)
