"""Questions about random meshes: each has an answer, and no question changes the mesh."""

from __future__ import annotations

import pytest

from fairlead.simulate.answering import answer
from tests.differential.agreement import Simulation
from tests.differential.meshes import credentials
from tests.differential.reality import InvalidError, compiled
from tests.differential.topology import WRITTEN, base
from tests.differential.trial import generated


@pytest.mark.parametrize("seed", range(4))
def test_every_question_has_an_answer(seed: int) -> None:
    documents, calls = generated(f"why/{seed}", 25)
    try:
        model, _ = compiled([*base(), *credentials(), *documents], WRITTEN)
    except InvalidError:
        pytest.skip("the policies of this seed are not valid together")
    simulation = Simulation(model)
    for call in calls:
        before = simulation.walk(call)
        found = answer(simulation.mesh, call.caller, call.request)
        assert found["verdict"]["outcome"] in ("passes", "fails", "undecided")
        assert all(one["said"] for one in found["changes"])
        assert simulation.walk(call) == before
    assert not model.engine.failures()
