"""What `get` prints of a VirtualService, as Istio's CRD does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column


def _spec(field: str) -> Column:
    def value(document: Mapping[str, Any]) -> object:
        return cast("Mapping[str, Any]", document.get("spec") or {}).get(field)

    return Column(field.capitalize(), value, description=_ABOUT[field])


def _created(document: Mapping[str, Any]) -> object:
    return cast("Mapping[str, Any]", document.get("metadata") or {}).get("creationTimestamp")


_ABOUT = {
    "gateways": "The gateways and sidecars that apply these routes",
    "hosts": "The hosts to which traffic is sent",
}
COLUMNS = (
    _spec("gateways"),
    _spec("hosts"),
    Column("Age", _created, type="date", description="When this object was created"),
)
