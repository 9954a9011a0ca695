"""What `get` prints of a DestinationRule, as Istio's CRD does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.ir.kind import Column


def _host(document: Mapping[str, Any]) -> object:
    return cast("Mapping[str, Any]", document.get("spec") or {}).get("host")


def _created(document: Mapping[str, Any]) -> object:
    return cast("Mapping[str, Any]", document.get("metadata") or {}).get("creationTimestamp")


COLUMNS = (
    Column("Host", _host, description="The host that the rule is about"),
    Column("Age", _created, type="date", description="When this object was created"),
)
