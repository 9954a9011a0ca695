"""Secret: keys, certificates, credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.ir.kind import Column, Kind
from fairlead.kinds.secret.lower import lower
from fairlead.kinds.secret.spec import SecretSpec
from fairlead.kinds.secret.validate import default, validate, validate_update


def _type(document: Mapping[str, Any]) -> str:
    return str(document.get("type", ""))


def _many(document: Mapping[str, Any]) -> int:
    return len(document.get("data") or ())


KIND = Kind(
    group="",
    versions=("v1",),
    kind="Secret",
    plural="secrets",
    inline=True,
    has_status=False,
    sensitive=True,
    spec=SecretSpec,
    doc="Keys, certificates and credentials, by key in base64.",
    columns=(
        Column("Type", _type, description="What the data is for."),
        Column("Data", _many, "integer", "How many keys it holds."),
    ),
    validate=validate,
    validate_update=validate_update,
    lower=lower,
    default=default,
)
