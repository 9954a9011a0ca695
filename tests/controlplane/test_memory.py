"""When the control plane puts what it has made out of the collector's sight."""

from __future__ import annotations

import gc
from weakref import ref

from fairlead.controlplane.memory import Storms, grown


def test_proxies_that_come_one_by_one_are_no_storm() -> None:
    storms = Storms(50)
    assert storms.over(150, 150, 0)
    assert not any(storms.over(150 + come, 150 - come % 3, 0) for come in range(0, 5000, 20))


def test_many_that_come_slowly_are_one_once_they_are_many() -> None:
    storms = Storms(50)
    assert [there for there in range(0, 160, 20) if storms.over(there, there, 0)] == [60, 120]
    assert not storms.over(1000, 100, 950)
    assert storms.over(1000, 100, 0)


def test_a_storm_is_over_when_nobody_waits_any_more() -> None:
    storms = Storms(50)
    assert not storms.over(300, 300, 700)
    assert not storms.over(990, 990, 10)
    assert storms.over(1000, 1000, 0)
    assert not storms.over(1001, 1000, 0)
    assert storms.over(1100, 1000, 0)


class Tied:
    """An object that only the collector can end."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_garbage_when_a_storm_is_over_does_not_stay() -> None:
    gc.disable()
    try:
        gone = ref(Tied())
        grown()
        assert gone() is None
    finally:
        gc.unfreeze()
        gc.enable()
