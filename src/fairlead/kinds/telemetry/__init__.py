"""Telemetry: which metrics, access logs and traces workloads produce, and where they go."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.telemetry.lower import lower
from fairlead.kinds.telemetry.spec import Telemetry
from fairlead.kinds.telemetry.validate import validate

KIND: Kind[Telemetry] = Kind(
    group="telemetry.istio.io",
    versions=("v1", "v1alpha1"),
    kind="Telemetry",
    plural="telemetries",
    spec=Telemetry,
    doc="Which metrics, access logs and traces workloads produce, and where they go.",
    short_names=("telemetry",),
    categories=("istio-io", "telemetry-istio-io"),
    validate=validate,
    lower=lower,
)
