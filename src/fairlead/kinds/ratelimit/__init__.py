"""RateLimit: limits of the HTTP requests that workloads get, by route, client and more."""

from __future__ import annotations

from fairlead.ir.kind import Kind, Stage
from fairlead.kinds.ratelimit.emit import http_filters
from fairlead.kinds.ratelimit.lower import lower
from fairlead.kinds.ratelimit.spec import RateLimit
from fairlead.kinds.ratelimit.validate import validate

KIND: Kind[RateLimit] = Kind(
    group="fairlead.dev",
    versions=("v1alpha1",),
    kind="RateLimit",
    plural="ratelimits",
    spec=RateLimit,
    doc="Limits of the HTTP requests that workloads get, kept by each proxy or by a server for all.",
    validate=validate,
    lower=lower,
    emit={Stage.HTTP_FILTERS: http_filters},
)
