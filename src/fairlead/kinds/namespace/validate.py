"""What Kubernetes demands of a Namespace beyond its types, and what it fills in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from fairlead.ir.discovery import NAME_LABEL
from fairlead.ir.elsewhere import platform_problems
from fairlead.kinds.namespace.spec import NamespaceSpec
from fairlead.model.diagnostic import Problem
from fairlead.model.names import is_dns_label
from fairlead.model.object import Object
from fairlead.model.path import METADATA


def default(document: dict[str, Any]) -> dict[str, Any]:
    """The label with the name, by which selectors find a namespace, and the phase."""
    out = dict(document)
    meta = document.get("metadata")
    if isinstance(meta, dict):
        meta = cast("dict[str, Any]", meta)
        labels: object = meta.get("labels") or {}
        name = meta.get("name")
        if isinstance(labels, dict) and isinstance(name, str) and name:
            out["metadata"] = {**meta, "labels": {**cast("dict[str, Any]", labels), NAME_LABEL: name}}
    out.setdefault("status", {"phase": "Active"})
    return out


def validate(obj: Object[NamespaceSpec]) -> Iterable[Problem]:
    """The name is a DNS label, because host names are made of it; and what has no effect here."""
    if obj.ref.name and not is_dns_label(obj.ref.name):
        yield Problem(
            METADATA / "name",
            f"{obj.ref.name!r} is not a namespace name",
            remedy="Use at most 63 lower-case letters, digits and '-'; begin and end with a letter or digit.",
        )
    yield from platform_problems(obj.meta, METADATA)
