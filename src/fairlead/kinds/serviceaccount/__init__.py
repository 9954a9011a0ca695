"""ServiceAccount: the identity of workloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.serviceaccount.spec import ServiceAccountSpec


def _secrets(document: Mapping[str, Any]) -> int:
    return len(document.get("secrets") or ())


KIND = Kind(
    group="",
    versions=("v1",),
    kind="ServiceAccount",
    plural="serviceaccounts",
    short_names=("sa",),
    inline=True,
    has_status=False,
    spec=ServiceAccountSpec,
    doc="The identity of workloads: certificates name it as spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME.",
    columns=(Column("Secrets", _secrets, "integer", "How many secrets it lists."),),
)
