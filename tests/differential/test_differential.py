"""The simulator says of random calls through random meshes what real Envoys make of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from tests.differential.agreement import Simulation, flags, plain
from tests.differential.matrices import answers, authorization, connections, headers, hosts, origins, paths, queries
from tests.differential.meshes import credentials
from tests.differential.proxies import ENVOY
from tests.differential.reality import Reality, compiled, complete
from tests.differential.recorded import Recorded, all_cases, of
from tests.differential.topology import Json, base
from tests.differential.trial import Tally, generated, tried

PAIRS, PER_MESH = 9000, 300
_ONE_OF = 20
"""The share of the larger matrices that is tried here; the long run tries all of them."""
CASES = all_cases()
pytestmark = pytest.mark.e2e


def _said(case: Recorded) -> dict[str, object]:
    """What the simulator says of a case, as far as the case tells."""
    model, _ = compiled([*base(), *credentials(), *case.documents])
    verdict = Simulation(model).walk(case.call).verdict
    found = {**msgspec.structs.asdict(verdict), "reached": verdict.reached, "flags": flags(verdict.flags)}
    found["details"] = plain(verdict.details)
    return {name: found[name] for name in case.envoy}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_found_disagreement_stays_settled(case: Recorded) -> None:
    assert _said(case) == case.envoy


@pytest.mark.timeout(600)
@pytest.mark.skipif(not ENVOY.exists(), reason="no Envoy")
def test_random_calls_end_as_the_simulator_says(tmp_path: Path) -> None:
    tally = asyncio.run(_random(tmp_path))
    assert not tally.refused
    assert not [(one.seed, one.call, one.differs) for one in tally.disagreements]
    assert tally.undecided_share < 0.02, tally.undecided
    assert tally.pairs >= PAIRS


async def _random(folder: Path) -> Tally:
    """Random meshes from fixed seeds; and what was kept is what Envoy still does."""
    tally = Tally()
    async with Reality(folder) as real:
        await _replayed(real)
        few = [
            one for at, one in enumerate((*paths(), *connections(), *hosts(), *authorization())) if at % _ONE_OF == 0
        ]
        for name, documents, calls in [*headers(), *queries(), *origins(), *answers(), *few]:
            await tried(real, name, documents, calls, tally)
        at = 0
        while tally.pairs < PAIRS:
            documents, calls = generated(f"suite/{at}", PER_MESH)
            await tried(real, f"suite/{at}", documents, calls, tally)
            at += 1
    return tally


async def _replayed(real: Reality) -> None:
    """Cases of one mesh are asked together."""
    groups: dict[bytes, list[Recorded]] = defaultdict(list)
    for case in CASES:
        groups[msgspec.json.encode(case.documents)].append(case)
    for cases in groups.values():
        documents: list[Json] = cases[0].documents
        await real.run([*base(), *credentials(), *documents])
        for case, seen in zip(cases, await real.ask([one.call for one in cases]), strict=True):
            if not complete(seen) and of(case.name, documents, case.call, seen).envoy != case.envoy:
                # On a busy machine a line may come late.
                (seen,) = await real.ask([case.call], settle=20)
            assert of(case.name, documents, case.call, seen).envoy == case.envoy, case.name
