"""How far proxies are behind and how old revisions become, on a clock of the test's own."""

from __future__ import annotations

from fairlead.controlplane.progress import MAX_OPEN, Progress, Standing
from fairlead.controlplane.stages import Stages


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.stages = Stages()
        self.progress = Progress(self.stages, lambda: self.now)

    def figure(self, name: str) -> float:
        found = [line for line in self.stages.lines() if line.startswith(f"{name} ")]
        return float(found[0].split()[1])

    def proxy(self) -> Standing:
        made = Standing()
        self.progress.began(made)
        self.progress.answered(made)
        self.progress.caught_up(made)
        return made


def test_a_revision_is_as_old_as_its_slowest_proxy() -> None:
    world = World()
    quick, slow = world.proxy(), world.proxy()
    world.progress.changed(99.0, [quick, slow])
    assert quick.behind_since == 99.0 and world.progress.open == 1
    world.now = 101.0
    world.progress.answered(quick)
    world.progress.caught_up(quick)
    assert quick.behind_since is None and quick.last_seconds == 2.0
    world.now = 105.0
    # A newer change does not make the older one younger.
    world.progress.changed(104.0, [quick, slow])
    assert slow.behind_since == 99.0 and quick.behind_since == 104.0
    assert world.progress.oldest() == 6.0 and world.progress.open == 2
    world.now = 109.0
    for one in (quick, slow):
        world.progress.answered(one)
        world.progress.caught_up(one)
    assert world.progress.open == 0 and world.progress.oldest() == 0.0
    assert world.figure("fairlead_revision_age_seconds_count") == 2
    assert world.figure("fairlead_revision_age_seconds_sum") == 10.0 + 5.0


def test_who_goes_is_not_waited_for_and_who_needs_nothing_does_not_count() -> None:
    world = World()
    stays, goes, idle = world.proxy(), world.proxy(), world.proxy()
    world.progress.changed(100.0, [stays, goes, idle])
    world.now = 101.0
    world.progress.answered(stays)
    world.progress.caught_up(stays)
    world.now = 120.0
    world.progress.caught_up(idle)
    assert idle.last_seconds == 0.0, "nothing was due to it"
    world.progress.left(goes)
    assert world.progress.open == 0
    assert world.figure("fairlead_revision_age_seconds_sum") == 1.0
    world.progress.changed(120.0, [])
    assert world.progress.open == 0


def test_a_dead_proxy_costs_bounded_memory() -> None:
    world = World()
    dead = world.proxy()
    for number in range(3 * MAX_OPEN):
        world.progress.changed(float(number), [dead])
    assert world.progress.open == MAX_OPEN and len(dead.passes) <= MAX_OPEN + 1
    assert world.progress.given_up == 2 * MAX_OPEN
    world.progress.left(dead)
    assert world.progress.open == 0
