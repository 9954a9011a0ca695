"""Writes conditions into the status of stored objects."""

from __future__ import annotations

import time
from typing import Any, cast

from fairlead.model.ref import Ref
from fairlead.store.errors import StoreError
from fairlead.store.store import Store, timestamp


def set_condition(store: Store, ref: Ref, kind: str, status: bool, reason: str, message: str) -> bool:
    """Set one condition of an object; False if the object is gone or already says so.

    The transition time changes only when the status does (Kubernetes API conventions).
    """
    with store.transaction(author="system:fairlead", message=f"condition {kind}") as tx:
        document = tx.get(ref)
        if document is None:
            return False
        said = cast("dict[str, Any]", document.get("status") or {})
        old = cast("list[dict[str, Any]]", said.get("conditions") or [])
        before = next((one for one in old if one.get("type") == kind), None)
        value = "True" if status else "False"
        new = {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastTransitionTime": timestamp(time.time()),
        }
        if before is not None and before.get("status") == value:
            new["lastTransitionTime"] = before.get("lastTransitionTime", new["lastTransitionTime"])
            if {**before} == new:
                return False
        conditions = [new if one is before else one for one in old] if before is not None else [*old, new]
        try:
            tx.put(ref, {**document, "status": {**said, "conditions": conditions}})
        except StoreError:
            return False
    return True
