"""The planner, step by step and as a simulation over many histories."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.ref import NamespacedName
from fairlead.node.plan import Action, Running, Wanted, backoff, next_wake, plan

KEY = NamespacedName("shop", "web")


def wanted(replicas: int = 1, template: str = "a", **more: str) -> dict[NamespacedName, Wanted]:
    return {KEY: msgspec.convert({"key": KEY, "template": template, "replicas": replicas, **more}, Wanted)}


def replica(index: int, template: str = "a", phase: str = "ready", **more: object) -> Running:
    body = {"process": KEY, "index": index, "template": template, "phase": phase, **more}
    return msgspec.convert(body, Running)


def verbs(actions: list[Action]) -> list[tuple[str, int]]:
    return [(one.verb, one.number) for one in actions]


@pytest.mark.parametrize(
    ("target", "running", "expected"),
    [
        (wanted(2), [], [("start", 0), ("start", 1)]),
        (wanted(2), [replica(1)], [("start", 0)]),
        (wanted(1), [replica(0), replica(1)], [("stop", 1)]),
        (wanted(1), [replica(0, phase="starting"), replica(1)], [("stop", 0)]),
        ({}, [replica(0), replica(1, phase="exited"), replica(2, phase="draining")], [("stop", 0), ("remove", 1)]),
        # Replacement: surge by one, wait until it is ready, drain one old, wait until that is gone.
        (wanted(2, "b"), [replica(0), replica(1)], [("start", 2)]),
        (wanted(2, "b"), [replica(0), replica(1), replica(2, "b", "starting")], []),
        (wanted(2, "b"), [replica(0), replica(1), replica(2, "b")], [("stop", 0)]),
        (wanted(2, "b"), [replica(0, phase="draining"), replica(1), replica(2, "b")], []),
        (wanted(2, "b"), [replica(1), replica(2, "b")], [("start", 0)]),
        (wanted(2, "b"), [replica(0), replica(1, phase="unready"), replica(2, "b", "starting")], [("stop", 1)]),
        (wanted(1, "b"), [replica(0, phase="exited", retry_at=99.0)], [("remove", 0), ("start", 1)]),
        (wanted(0, "b"), [replica(0)], [("stop", 0)]),
        # Exits.
        (wanted(1), [replica(0, phase="exited", exit_code=0, retry_at=5.0)], []),
        (wanted(1), [replica(0, phase="exited", exit_code=0, retry_at=4.0)], [("restart", 0)]),
        (wanted(1, restart_policy="OnFailure"), [replica(0, phase="exited", exit_code=0)], [("complete", 0)]),
        (wanted(1, restart_policy="OnFailure"), [replica(0, phase="exited", exit_code=1)], [("restart", 0)]),
        (wanted(1, restart_policy="Never"), [replica(0, phase="exited", exit_code=1)], [("complete", 0)]),
        (wanted(1, restart_policy="Never"), [replica(0, phase="exited", retry_at=3.0)], [("restart", 0)]),
        (wanted(1), [replica(0, phase="completed", exit_code=0)], []),
        (wanted(1, "b"), [replica(0, phase="completed", exit_code=0)], [("remove", 0), ("start", 1)]),
    ],
)
def test_steps(target: dict[NamespacedName, Wanted], running: list[Running], expected: list[tuple[str, int]]) -> None:
    assert verbs(plan(target, running, 4.0)) == expected


def test_backoff_grows_to_a_minute() -> None:
    assert [backoff(failures) for failures in range(9)] == [1, 1, 2, 4, 8, 16, 32, 60, 60]
    assert next_wake([replica(0), replica(1, phase="exited", retry_at=9.0)], 4.0) == 5.0
    assert next_wake([replica(0)], 4.0) is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_replacement_converges_and_never_loses_a_ready_replica(data: st.DataObject) -> None:
    replicas = data.draw(st.integers(1, 4))
    state = {index: replica(index) for index in range(replicas)}
    target = wanted(replicas, "b")
    for _ in range(60):
        for action in plan(target, state.values(), 0.0):
            if action.verb == "start":
                assert action.number not in state
                state[action.number] = replica(action.number, "b", "starting")
            elif action.verb == "stop":
                state[action.number] = msgspec.structs.replace(state[action.number], phase="draining")
            else:
                del state[action.number]
        assert sum(one.phase == "ready" for one in state.values()) >= replicas
        assert len(state) <= replicas + 1
        moving = [one for one in state.values() if one.phase in ("starting", "draining")]
        if not moving:
            break
        one = data.draw(st.sampled_from(moving))
        if one.phase == "draining":
            del state[one.index]
        else:
            state[one.index] = msgspec.structs.replace(one, phase="ready")
    assert [one.template for one in state.values()] == ["b"] * replicas
    assert plan(target, state.values(), 0.0) == []
