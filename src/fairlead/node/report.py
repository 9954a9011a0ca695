"""The status of a Process, made of what its replicas say. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.kinds.process.status import ProcessStatus, ReplicaStatus
from fairlead.model.condition import Condition


def report(
    node: str, generation: int, wanted: int, updated: int, replicas: Sequence[ReplicaStatus], problem: str = ""
) -> ProcessStatus:
    """The status; `problem` says why the spec cannot be run at all. Condition times are set by `stamp`."""
    ready = sum(one.ready for one in replicas)
    done = sum(one.state == "Completed" for one in replicas)
    condition = _available(generation, wanted, ready + done, replicas, problem)
    return ProcessStatus(
        observed_generation=generation,
        node=node,
        replicas=len(replicas),
        ready_replicas=ready,
        updated_replicas=updated,
        instances=tuple(replicas),
        conditions=(condition,),
    )


def _available(generation: int, wanted: int, ready: int, replicas: Sequence[ReplicaStatus], problem: str) -> Condition:
    if problem:
        return Condition("Available", "False", "Invalid", problem, generation)
    if ready >= wanted:
        notes = sorted({one.message for one in replicas if one.message})
        return Condition("Available", "True", "MinimumReplicasAvailable", "; ".join(notes), generation)
    for one in replicas:
        if one.state == "Failed":
            return Condition("Available", "False", "Failed", f"{one.name}: {one.last_exit}", generation)
        if one.state == "Waiting" and one.last_exit and not one.message:
            said = f"{one.name} ended with {one.last_exit}; see `fairlead logs`"
            return Condition("Available", "False", "CrashLoopBackOff", said, generation)
        if one.state == "Waiting":
            return Condition("Available", "False", "CannotStart", f"{one.name}: {one.message}", generation)
    return Condition("Available", "False", "Starting", f"{ready} of {wanted} replicas are ready", generation)


def stamp(status: ProcessStatus, before: ProcessStatus | None, now: str) -> ProcessStatus:
    """`status` with the times of its conditions: `now` where a condition's status has changed, else as before."""
    known = {one.type: one for one in before.conditions} if before is not None else {}
    conditions: list[Condition] = []
    for one in status.conditions:
        old = known.get(one.type)
        since = old.last_transition_time if old is not None and old.status == one.status else now
        conditions.append(msgspec.structs.replace(one, last_transition_time=since or now))
    return msgspec.structs.replace(status, conditions=tuple(conditions))
