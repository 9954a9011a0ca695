"""Trials: a random mesh and random calls of it, compared; what disagrees is tried again before it counts."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from tests.differential.agreement import Simulation
from tests.differential.calls import Asker, Call
from tests.differential.hashing import astray
from tests.differential.logs import known
from tests.differential.meshes import Maker, credentials
from tests.differential.proxies import RefusedError
from tests.differential.reality import InvalidError, Reality, Seen
from tests.differential.topology import Json, base

_AGAIN = 2
"""How often a call that disagrees is made again: Envoy may have been in the middle of a change."""


class Disagreement(msgspec.Struct, frozen=True):
    """A call of which the simulator says something else than Envoy does."""

    seed: str
    documents: tuple[Json, ...]
    call: Call
    differs: dict[str, Any]
    seen: dict[str, Any]

    @property
    def sort(self) -> str:
        """What kind of difference it is, to count."""
        return "; ".join(f"{name}: {said!r} -> {was!r}" for name, (said, was) in sorted(self.differs.items()))


class Tally(msgspec.Struct):
    """What came of trials."""

    pairs: int = 0
    meshes: int = 0
    invalid: int = 0
    undecided: Counter[str] = msgspec.field(default_factory=Counter)
    disagreements: list[Disagreement] = []
    refused: list[str] = []
    endings: Counter[str] = msgspec.field(default_factory=Counter)

    @property
    def undecided_share(self) -> float:
        """The share of pairs of which the simulator says that it cannot know."""
        return sum(self.undecided.values()) / self.pairs if self.pairs else 0.0


async def tried(real: Reality, seed: str, documents: Sequence[Json], calls: Sequence[Call], tally: Tally) -> None:
    """Run a mesh (the documents beside those that all have), make the calls, and compare."""
    try:
        model = await real.run([*base(), *credentials(), *documents])
    except InvalidError:
        tally.invalid += 1
        return
    except RefusedError as refused:
        tally.refused.append(f"{seed}: {refused}")
        return
    simulation = Simulation(model, real.prefix)
    tally.meshes += 1
    seen = await real.ask(calls)
    tally.disagreements.extend(
        Disagreement(seed, tuple(documents), call, {"endpoint of one hash": (before, was)}, {})
        for call, before, was in astray(simulation, documents, calls, seen)
    )
    wrong: list[tuple[Call, Seen, dict[str, Any]]] = []
    for call, was in zip(calls, seen, strict=True):
        tally.pairs += 1
        tally.endings[_ending(was)] += 1
        differs = _differences(simulation, call, was, tally)
        if differs:
            wrong.append((call, was, differs))
    for _ in range(_AGAIN):
        if not wrong:
            break
        again = await real.ask([call for call, _, _ in wrong])
        pairs = [
            (call, was, _differences(simulation, call, was)) for (call, _, _), was in zip(wrong, again, strict=True)
        ]
        wrong = [one for one in pairs if one[2]]
    tally.disagreements.extend(
        Disagreement(seed, tuple(documents), call, differs, told(was)) for call, was, differs in wrong
    )


def _differences(simulation: Simulation, call: Call, was: Seen, tally: Tally | None = None) -> dict[str, Any]:
    try:
        compared = simulation.compare(call, was)
    except Exception as error:
        return {"raised": (f"{type(error).__name__}: {error} {traceback.format_exc(limit=-2)}", "")}
    if tally is not None:
        tally.undecided.update(compared.undecided[:1])
    return dict(compared.differs)


def told(was: Seen) -> dict[str, Any]:
    """What was seen, in few words."""
    answer = was.answer
    found: dict[str, Any] = {"status": answer.status, "instance": answer.instance, "error": answer.error}
    for name, line in (("first", was.first), ("second", was.second)):
        if line is not None:
            found[name] = known(line)
    return found


def _ending(was: Seen) -> str:
    line = was.second or was.first
    return "nothing" if line is None else f"{line.kind} {line.flags} {(line.details or '')[:48]}"


def generated(seed: str, calls: int) -> tuple[list[Json], list[Call]]:
    """The policies and calls of a seed."""
    chance = Random(seed)
    documents = Maker(chance).mesh()
    asker = Asker(chance)
    return documents, [asker.call() for _ in range(calls)]
