"""When passes are made: at once after a pause, and the further apart the more comes of them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import pytest

from fairlead.controlplane.pacing import LONGEST, PASS_SHARE, PUSH_SHARE, SHORTEST, Pacing


class Load(NamedTuple):
    """What a pass costs, and the pushes that follow it (seconds of the processor, spread behind the pass)."""

    compiling: float
    pushing: float


def passes(load: Load, changes: Iterable[float], until: float) -> list[float]:
    """When passes begin, where changes come at these times and pushing goes on behind each pass."""
    pacing, now, spent, owed = Pacing(), 0.0, 0.0, 0.0
    coming = [*changes]
    heapq.heapify(coming)
    pending, made = False, list[float]()
    while now < until:
        while coming and coming[0] <= now:
            pacing.changed(heapq.heappop(coming))
            pending = True
        if pending and pacing.due(spent) <= now:
            made.append(round(now, 3))
            begun, now = now, now + load.compiling
            pacing.passed(begun, now, spent)
            pending, owed = False, load.pushing
        step = 0.001
        pushed = min(owed, step)
        spent, owed, now = spent + pushed, owed - pushed, now + step
    return made


SMALL, THOUSAND, FIVE_THOUSAND = Load(0.001, 0.001), Load(0.02, 0.2), Load(0.06, 1.0)
FLOOD = [1 + number / 100 for number in range(600)]


@pytest.mark.parametrize("load", [SMALL, THOUSAND, FIVE_THOUSAND])
def test_the_first_change_goes_at_once(load: Load) -> None:
    assert passes(load, [1.0], 2) == [pytest.approx(1.0, abs=0.002)]
    # Also when the last one is long enough ago for all that it has caused.
    first, second = passes(load, [1.0, 4.0], 6)
    assert (first, second) == (pytest.approx(1.0, abs=0.002), pytest.approx(4.0, abs=0.002))


@pytest.mark.parametrize(("load", "apart"), [(SMALL, 0.02), (THOUSAND, 0.67), (FIVE_THOUSAND, 2.0)])
def test_while_changes_keep_coming_passes_are_as_far_apart_as_they_cost(load: Load, apart: float) -> None:
    made = passes(load, FLOOD, 7)
    gaps = [later - before for before, later in itertools.pairwise(made)]
    # The last follows the end of the changes and waits for none of that.
    steady = sorted(gaps[:-1])
    assert steady[0] >= apart * 0.9 and steady[-1] <= max(apart * 1.2, SHORTEST + 0.015)
    assert load.compiling / steady[0] <= PASS_SHARE * 1.1
    if apart < LONGEST:
        assert load.pushing / steady[0] <= PUSH_SHARE * 1.1


@pytest.mark.parametrize(("load", "wait"), [(SMALL, 0.025), (THOUSAND, 0.12), (FIVE_THOUSAND, 0.22)])
def test_when_changes_have_ended_the_last_waits_little(load: Load, wait: float) -> None:
    made = passes(load, FLOOD, 9)
    last = FLOOD[-1]
    assert last <= made[-1] <= last + wait


def test_the_last_of_a_flood_does_not_wait_for_the_share_of_costly_passes() -> None:
    made = passes(Load(0.24, 0.4), FLOOD, 9)
    # Not for three times what the pass before it took: that is there to have few passes, and no further one comes.
    assert FLOOD[-1] <= made[-1] <= FLOOD[-1] + 0.25
    gaps = [later - before for before, later in itertools.pairwise(made)]
    assert min(gaps[:-1]) >= 0.24 / PASS_SHARE * 0.9


def test_few_changes_wait_less_than_a_flood() -> None:
    one_by_one = passes(THOUSAND, [1 + number * 0.45 for number in range(6)], 6)
    assert one_by_one == [pytest.approx(1 + number * 0.45, abs=0.002) for number in range(6)]


def test_a_pass_that_takes_long_does_not_put_off_the_next_for_long() -> None:
    made = passes(Load(3.0, 0.0), [1.0, 1.5], 9)
    assert made == [pytest.approx(1.0, abs=0.002), pytest.approx(4.0 + LONGEST, abs=0.01)]
