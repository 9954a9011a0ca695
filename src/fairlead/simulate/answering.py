"""A walk as data: what `fairlead why` prints and the API answers."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from fairlead.model.diagnostic import Origin
from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.edits import Edit
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.remedy import Remedy, passes, remedies
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.walk import Step, Verdict, Walk
from fairlead.simulate.walker import walk

Json = dict[str, Any]


def answer(mesh: Mesh, caller: Caller, request: Request, *, fixes: bool = True, endpoint: str = "") -> Json:
    """Walk a request (see `walk`); for one that does not get what it came for, also what would let it.

    Raises NobodyError.
    """
    steps = answering(mesh, caller, request, fixes=fixes, endpoint=endpoint)
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value


def answering(
    mesh: Mesh, caller: Caller, request: Request, *, fixes: bool = True, endpoint: str = ""
) -> Generator[None, None, Json]:
    """The same in steps, a walk each. Between two of them the mesh is as it was, and may change."""
    found = walk(mesh, caller, request, endpoint)
    changes: list[Remedy] = []
    if fixes and not passes(found):
        yield
        changes = yield from remedies(mesh, caller, request, found)
    return {
        "from": msgspec.to_builtins(caller),
        "request": msgspec.to_builtins(request),
        **walk_json(found),
        "changes": [_change(mesh, one) for one in changes],
    }


def caller_of(mesh: Mesh, said: Json) -> Caller:
    """A caller from data; one of kind `peer` is known by its address only. Raises NobodyError, ValidationError."""
    if said.get("kind") != "peer":
        return msgspec.convert(said, Caller)
    address = str(said.get("address", ""))
    found = mesh.workloads.at(address)
    if found is None:
        raise NobodyError(f"no workload has address {address}, from which the call came: say who calls (--from)")
    return Caller("workload", found.view.namespace, found.name)


def walk_json(found: Walk) -> Json:
    """Verdict and steps."""
    return {"verdict": verdict_json(found.verdict, found), "steps": [step_json(one) for one in found.steps]}


def verdict_json(verdict: Verdict, found: Walk) -> Json:
    """The verdict; `outcome` is `passes`, `undecided` (it passes unless something unknown forbids it) or `fails`."""
    passing = passes(found)
    outcome = "fails" if not passing else "undecided" if verdict.undecided else "passes"
    return {**msgspec.to_builtins(verdict), "reached": verdict.reached, "outcome": outcome}


def step_json(step: Step) -> Json:
    """One step."""
    out: Json = {
        "hop": step.hop,
        "proxy": step.proxy,
        "stage": step.stage,
        "met": step.met,
        "said": step.said,
        "passed": step.passed,
        "origins": [origin_json(one) for one in step.origins],
    }
    if step.setting is not None:
        out["setting"] = msgspec.to_builtins(step.setting)
    return out


def origin_json(origin: Origin) -> Json:
    """An object, a field of it, and where it stands in a file."""
    ref = origin.ref
    out: Json = {"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
    out["field"] = str(origin.path)
    if origin.position is not None:
        out |= msgspec.to_builtins(origin.position)
    return out


def _change(mesh: Mesh, remedy: Remedy) -> Json:
    """A change; one that needs a second edit has it as `also`, and says both."""
    first, *more = [_edit(mesh, one) for one in remedy]
    if not more:
        return first
    return {**first, "also": more, "said": "; and ".join(one["said"] for one in (first, *more))}


def _edit(mesh: Mesh, edit: Edit) -> Json:
    placed = mesh.origins.placed(edit.origin)
    return {"action": edit.action, **origin_json(placed[0]), "value": edit.value, "said": edit.said}
