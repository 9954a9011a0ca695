"""In which order streams are served, and that others have their turn between slices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.xds.pushing import (
    ALONE_LONGEST,
    ALONE_SHORTEST,
    ALONE_STREAM,
    FEW,
    LONGEST,
    MANY,
    READ_SHARE,
    SHORTEST,
    STARTING,
    Pushing,
    comes_again,
)


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Stream:
    """Notes when it was served; a push takes `seconds`."""

    def __init__(self, name: str, clock: Clock, served: list[str], seconds: float = 0.0003) -> None:
        self.name, self._clock, self._served, self._seconds = name, clock, served, seconds

    def push(self) -> None:
        self._served.append(self.name)
        self._clock.now += self._seconds


def streams(prefix: str, count: int, clock: Clock, served: list[str]) -> list[Stream]:
    return [Stream(f"{prefix}{number}", clock, served) for number in range(count)]


def run(act: Callable[[Pushing, Clock, list[str]], object], turns: Callable[[Clock], object]) -> list[str]:
    """Let the loop turn until nothing waits; `turns` is what others do in each turn."""
    served: list[str] = []

    async def serve() -> None:
        clock = Clock()
        pushing = Pushing(clock)
        act(pushing, clock, served)
        while pushing.waiting:
            await asyncio.sleep(0)
            served.append("|")
            turns(clock)

    asyncio.run(serve())
    return served


def slices(served: list[str]) -> list[int]:
    return [len(one.split()) for one in " ".join(served).split("|") if one.strip()]


def everybody(pushing: Pushing, clock: Clock, served: list[str]) -> None:
    for stream in streams("s", 60, clock, served):
        pushing.add(stream)


def test_a_slice_takes_as_long_as_others_took_within_bounds() -> None:
    def busy(seconds: float) -> Callable[[Clock], None]:
        def turn(clock: Clock) -> None:
            clock.now += seconds

        return turn

    def one_of_many(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        pushing.follows(FEW + 1)
        everybody(pushing, clock, served)

    assert (SHORTEST, LONGEST, ALONE_SHORTEST, ALONE_LONGEST) == (0.001, 0.005, 0.005, 0.01), "pushes take 0.3 ms each"
    for act, least, middle, most in ((everybody, 17, 28, 34), (one_of_many, 4, 12, 17)):
        between = 0.0083 if act is everybody else 0.0034
        for others, wanted in ((0.0, least), (0.0005, least), (between, middle), (0.02, most)):
            found = slices(run(act, busy(others)))
            assert found[0] == least, "nobody has waited before the first"
            assert set(found[1:-1]) == {wanted}, (others, found)


def test_a_large_change_is_served_in_few_turns() -> None:
    def large(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        for stream in streams("s", 4000, clock, served):
            pushing.add(stream)

    found = slices(run(large, lambda _: None))
    assert sum(found) == 4000 and len(found) <= 4000 * 0.0003 / (4000 * ALONE_STREAM / 2) + 1, found


def test_answers_wait_while_streams_do_and_are_read_little_by_little() -> None:
    read: list[int] = []

    def act(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        assert not pushing.defers(), "nobody waits"
        pushing.follows(FEW)
        everybody(pushing, clock, served)

        def answers() -> None:
            read.append(next(count for count in range(1000) if pushing.defers() or not pushing.waiting))
            if pushing.waiting:
                asyncio.get_running_loop().call_soon(answers)
            else:
                assert not any(pushing.defers() for _ in range(1000))

        asyncio.get_running_loop().call_soon(answers)

    run(act, lambda _: None)
    assert set(read[1:-1]) == {17 // READ_SHARE}, read


def test_answers_are_read_as_they_come_where_changes_follow_each_other() -> None:
    deferred: list[bool] = []

    def act(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        pushing.follows(FEW + 1)
        everybody(pushing, clock, served)

        def answers() -> None:
            deferred.extend(pushing.defers() for _ in range(100))
            if pushing.waiting:
                asyncio.get_running_loop().call_soon(answers)

        asyncio.get_running_loop().call_soon(answers)

    run(act, lambda _: None)
    assert deferred and not any(deferred)


def test_a_change_that_few_see_overtakes_one_that_many_see() -> None:
    def act(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        everybody(pushing, clock, served)
        # In a later turn, when the large one is under way.
        few = Stream("few", clock, served)
        asyncio.get_running_loop().call_later(0, lambda: pushing.add(few))

    served = [one for one in run(act, lambda _: None) if one != "|"]
    assert served.index("few") < 19 and len(served) == 61


def test_small_changes_that_come_again_and_again_keep_nobody_waiting() -> None:
    """Each turn brings a change that 30 proxies see; one that 60 saw before is done all the same."""
    rounds = 0

    def act(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        everybody(pushing, clock, served)

        def more() -> None:
            nonlocal rounds
            rounds += 1
            if not {f"s{number}" for number in range(60)} <= set(served) and rounds < 500:
                for stream in streams(f"t{rounds}-", 30, clock, served):
                    pushing.add(stream)
                asyncio.get_running_loop().call_soon(more)

        asyncio.get_running_loop().call_soon(more)

    served = run(act, lambda _: None)
    assert f"s{59}" in served and rounds < 100


def test_who_has_been_served_waits_for_those_who_have_not() -> None:
    """Answers come while a change is pushed: what has come up meanwhile goes out after the others' first."""
    second: list[Stream] = []

    def act(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        everybody(pushing, clock, served)
        again = Stream("again", clock, served)
        second.append(again)
        asyncio.get_running_loop().call_later(0, lambda: pushing.answered(again))

    served = [one for one in run(act, lambda _: None) if one != "|"]
    assert served[-1] == "again" and len(served) == 61


def test_an_answer_is_followed_up_at_once_where_nobody_waits() -> None:
    def act(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        pushing.answered(Stream("alone", clock, served))
        assert served == ["alone"] and not pushing.waiting

    assert run(act, lambda _: None) == ["alone"]


def test_a_stream_is_served_once_for_several_changes_and_not_after_its_end() -> None:
    def act(pushing: Pushing, clock: Clock, served: list[str]) -> None:
        some = streams("s", 30, clock, served)
        for stream in some:
            pushing.add(stream)

        def later() -> None:
            for stream in some[20:]:
                pushing.add(stream)
                pushing.answered(stream)
            pushing.forget(some[29])
            pushing.forget(some[0])

        asyncio.get_running_loop().call_later(0, later)

    served = [one for one in run(act, lambda _: None) if one != "|"]
    assert sorted(served) == sorted(f"s{number}" for number in range(29))


def test_many_clients_of_a_control_plane_that_ends_come_back_one_after_the_other() -> None:
    assert comes_again(0, MANY - 1) is None
    times = [comes_again(place, 5000) or 0.0 for place in range(5000)]
    assert times[0] == STARTING
    assert times == sorted(times)
    assert 10 < times[-1] < 20
