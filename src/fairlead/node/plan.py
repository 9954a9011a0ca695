"""What the node does next: a pure function from the Processes that are wanted and the replicas that are there.

Rolling replacement: one replica of a Process at a time. A new one is started beside the old ones; when it is ready an
old one is drained; only when that is gone does the next begin. So there are never fewer ready replicas than wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from fairlead.model.ref import NamespacedName

Phase = Literal["starting", "ready", "unready", "draining", "exited", "completed"]

FIRST_BACKOFF = 1.0
MAX_BACKOFF = 60.0
"""Seconds. A replica that has been up for MAX_BACKOFF begins again with FIRST_BACKOFF."""


class Wanted(msgspec.Struct, frozen=True):
    """A Process that this node runs."""

    key: NamespacedName
    template: str
    replicas: int
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"


class Running(msgspec.Struct, frozen=True):
    """A replica that is there.

    `retry_at` (seconds, the caller's clock) is when one that exited may start again; `exit_code` is its exit status,
    None where it could not be started at all or where nobody saw it end.
    """

    process: NamespacedName
    index: int
    template: str
    phase: Phase
    exit_code: int | None = None
    retry_at: float = 0.0


class Action(NamedTuple):
    """One step: start a new replica, restart one that exited, stop (drain) one that runs, remove one that exited,
    or complete one that exited and that its restart policy leaves alone.
    """

    verb: Literal["start", "restart", "stop", "remove", "complete"]
    process: NamespacedName
    number: int


def backoff(failures: int) -> float:
    """Seconds to wait after that many failures in a row: 1, 2, 4 ... 60."""
    return min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(max(failures - 1, 0), 10))


def plan(wanted: Mapping[NamespacedName, Wanted], running: Iterable[Running], now: float) -> list[Action]:
    """The actions to take now, in order."""
    by_process: dict[NamespacedName, list[Running]] = {}
    for one in running:
        by_process.setdefault(one.process, []).append(one)
    actions: list[Action] = []
    for key in sorted(wanted.keys() | by_process.keys()):
        replicas = sorted(by_process.get(key, ()), key=lambda one: one.index)
        target = wanted.get(key)
        actions += _withdraw(replicas) if target is None else _reconcile(target, replicas, now)
    return actions


def next_wake(running: Iterable[Running], now: float) -> float | None:
    """Seconds until a replica's waiting time ends, or None if none waits."""
    waits = [one.retry_at - now for one in running if one.phase == "exited" and one.retry_at > now]
    return min(waits, default=None)


def _gone(one: Running) -> bool:
    return one.phase in ("exited", "completed")


def _end(one: Running) -> Action:
    return Action("remove", one.process, one.index) if _gone(one) else Action("stop", one.process, one.index)


def _withdraw(replicas: Sequence[Running]) -> list[Action]:
    return [_end(one) for one in replicas if one.phase != "draining"]


def _reconcile(target: Wanted, replicas: Sequence[Running], now: float) -> list[Action]:
    staying = [one for one in replicas if one.phase != "draining"]
    current = [one for one in staying if one.template == target.template]
    old = [one for one in staying if one.template != target.template]
    actions: list[Action] = []
    for one in current:
        actions += _revive(target, one, now)
    broken = [one for one in old if _gone(one)]
    actions += [_end(one) for one in broken]
    old = [one for one in old if not _gone(one)]

    surplus = len(current) - target.replicas
    if surplus > 0:
        worst = sorted(current, key=lambda one: (one.phase == "ready", -one.index))
        actions += [_end(one) for one in worst[:surplus]]
    actions += _roll(target, replicas, current, old)
    return actions


def _revive(target: Wanted, one: Running, now: float) -> list[Action]:
    if one.phase != "exited":
        return []
    failed = one.exit_code != 0
    if target.restart_policy == "Always" or (target.restart_policy == "OnFailure" and failed):
        return [Action("restart", one.process, one.index)] if one.retry_at <= now else []
    if one.exit_code is None and one.retry_at:
        return [Action("restart", one.process, one.index)] if one.retry_at <= now else []
    return [Action("complete", one.process, one.index)]


def _roll(
    target: Wanted, replicas: Sequence[Running], current: Sequence[Running], old: Sequence[Running]
) -> list[Action]:
    """Start what is missing, and replace what is old, one at a time."""
    missing = target.replicas - len(current)
    if not old:
        return _starts(target, replicas, missing)
    settled = all(one.phase in ("ready", "completed") for one in current)
    draining = any(one.phase == "draining" for one in replicas)
    staying = len(current) + len(old)
    if staying < target.replicas:
        return _starts(target, replicas, target.replicas - staying)
    if staying > target.replicas:
        sick = [one for one in old if one.phase != "ready"]
        if draining:
            return []
        if sick:
            return [Action("stop", sick[0].process, sick[0].index)]
        return [Action("stop", old[0].process, old[0].index)] if settled else []
    if target.replicas == 0:
        return [Action("stop", one.process, one.index) for one in old]
    return _starts(target, replicas, 1) if settled and missing > 0 and not draining else []


def _starts(target: Wanted, replicas: Sequence[Running], count: int) -> list[Action]:
    used = {one.index for one in replicas}
    out: list[Action] = []
    index = 0
    while len(out) < count:
        if index not in used:
            out.append(Action("start", target.key, index))
        index += 1
    return out
