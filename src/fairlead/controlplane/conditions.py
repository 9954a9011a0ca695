"""Writes conditions into the status of stored objects."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from fairlead.model.ref import Ref
from fairlead.store.store import Store
from fairlead.store.transaction import timestamp

Json = dict[str, Any]
MAX_MESSAGE = 2048


class Outcome(msgspec.Struct, frozen=True):
    """What a condition is to say. `generation` is the one that it is about; 0 for whichever the object has."""

    status: bool
    reason: str
    message: str = ""
    generation: int = 0


def set_condition(store: Store, kind: str, outcomes: Mapping[Ref, Outcome]) -> None:
    """Set one condition of objects, in one commit; nothing is written where they say so already. Raises StoreError.

    An object that is gone, or of another generation than the outcome is about, is left alone. The transition time
    changes only when the status does (Kubernetes API conventions).
    """
    if not outcomes:
        return
    with store.transaction(author="system:fairlead", message=f"condition {kind}") as tx:
        now = timestamp(time.time())
        for ref, outcome in outcomes.items():
            document = tx.get(ref)
            if document is None:
                continue
            generation = int(document["metadata"].get("generation") or 1)
            if outcome.generation in (0, generation):
                tx.put(ref, with_condition(document, kind, outcome, generation, now))


def with_condition(document: Json, kind: str, outcome: Outcome, generation: int, now: str) -> Json:
    """The document with the condition, and with `status.observedGeneration`."""
    said = cast("Json", document.get("status") or {})
    old = cast("list[Json]", said.get("conditions") or [])
    before = condition_of(document, kind)
    new: Json = {
        "type": kind,
        "status": "True" if outcome.status else "False",
        "observedGeneration": generation,
        "reason": outcome.reason,
        "message": outcome.message[:MAX_MESSAGE],
        "lastTransitionTime": now,
    }
    if before is not None and before.get("status") == new["status"]:
        new["lastTransitionTime"] = before.get("lastTransitionTime", now)
    conditions = [*(one for one in old if one.get("type") != kind), new]
    if before is not None:
        conditions = [new if one.get("type") == kind else one for one in old]
    return {**document, "status": {**said, "observedGeneration": generation, "conditions": conditions}}


def condition_of(document: Json, kind: str) -> Json | None:
    """What an object's condition says now."""
    said = cast("Json", document.get("status") or {})
    listed = cast("list[Json]", said.get("conditions") or [])
    return next((one for one in listed if one.get("type") == kind), None)
