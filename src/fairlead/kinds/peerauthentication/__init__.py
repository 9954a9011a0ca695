"""PeerAuthentication: whether workloads accept plain text, mesh mTLS, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.peerauthentication.lower import lower
from fairlead.kinds.peerauthentication.spec import PeerAuthentication
from fairlead.kinds.peerauthentication.validate import validate


def _inside(document: object, field: str) -> object:
    return cast("Mapping[str, Any]", document).get(field, "") if isinstance(document, Mapping) else ""


def _mode(document: Mapping[str, Any]) -> object:
    return _inside(_inside(_inside(document, "spec"), "mtls"), "mode")


KIND: Kind[PeerAuthentication] = Kind(
    group="security.istio.io",
    versions=("v1", "v1beta1"),
    kind="PeerAuthentication",
    plural="peerauthentications",
    spec=PeerAuthentication,
    doc="Whether workloads accept plain text, mesh mTLS, or both.",
    short_names=("pa",),
    categories=("istio-io", "security-istio-io"),
    columns=(Column("Mode", _mode, description="Whether inbound connections must use mesh mTLS."),),
    validate=validate,
    lower=lower,
)
