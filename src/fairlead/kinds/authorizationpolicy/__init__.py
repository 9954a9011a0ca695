"""AuthorizationPolicy: who may call which workloads, and what they may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind, Stage
from fairlead.kinds.authorizationpolicy.emit import http_filters, network_filters
from fairlead.kinds.authorizationpolicy.lower import lower
from fairlead.kinds.authorizationpolicy.spec import AuthorizationPolicy
from fairlead.kinds.authorizationpolicy.validate import validate


def _action(document: Mapping[str, Any]) -> object:
    spec = document.get("spec")
    return cast("Mapping[str, Any]", spec).get("action", "ALLOW") if isinstance(spec, Mapping) else "ALLOW"


KIND: Kind[AuthorizationPolicy] = Kind(
    group="security.istio.io",
    versions=("v1", "v1beta1"),
    kind="AuthorizationPolicy",
    plural="authorizationpolicies",
    spec=AuthorizationPolicy,
    doc="Who may call which workloads, and what they may ask for.",
    short_names=("ap",),
    categories=("istio-io", "security-istio-io"),
    columns=(Column("Action", _action, description="What happens to a request that a rule matches."),),
    validate=validate,
    tried=True,
    lower=lower,
    emit={Stage.HTTP_FILTERS: http_filters, Stage.NETWORK_FILTERS: network_filters},
)
