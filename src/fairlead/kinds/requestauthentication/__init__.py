"""RequestAuthentication: which tokens (JWT) requests may carry, and how they are verified."""

from __future__ import annotations

from fairlead.ir.kind import Kind, Stage
from fairlead.kinds.requestauthentication.emit import http_filters
from fairlead.kinds.requestauthentication.lower import lower
from fairlead.kinds.requestauthentication.spec import RequestAuthentication
from fairlead.kinds.requestauthentication.validate import validate

KIND: Kind[RequestAuthentication] = Kind(
    group="security.istio.io",
    versions=("v1", "v1beta1"),
    kind="RequestAuthentication",
    plural="requestauthentications",
    spec=RequestAuthentication,
    doc="Which tokens (JWT) requests may carry, and how they are verified.",
    short_names=("ra",),
    categories=("istio-io", "security-istio-io"),
    validate=validate,
    lower=lower,
    emit={Stage.HTTP_FILTERS: http_filters},
)
