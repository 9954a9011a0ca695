"""The engine: incremental equals from scratch, and it does no more than it must."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.inc import CycleError, Derivation, Engine, EngineError, Failure, Reader, Rule, Table, rule

NUMBERS: Table[str, int] = Table("numbers")
NUMBERS_BY_SIGN = NUMBERS.index("sign", lambda key, value: ["even" if value % 2 == 0 else "odd"])
HALVES: Table[str, int] = Table("halves", stage=1)
HALVES_BY_SIZE = HALVES.index("size", lambda key, value: [value % 3])
SUMS: Table[int, int] = Table("sums", stage=2)


def _halve(r: Reader, key: str, value: int) -> Iterable[tuple[Table[str, int], str, int]]:
    if value >= 0:
        yield HALVES, key, value // 2


def _sum(r: Reader, key: str, value: int) -> Iterable[tuple[Table[int, int], int, int]]:
    # Several halves may write one sum: the conflict is resolved by the order of sources.
    yield SUMS, value % 5, sum(half for _, half in r.rows(HALVES_BY_SIZE, value % 3))


@rule
def bucket_total(r: Reader, size: int) -> int:
    return sum(value for _, value in r.rows(HALVES_BY_SIZE, size))


@rule
def parity(r: Reader, size: int) -> bool:
    return bucket_total(r, size) % 2 == 0


@rule
def summary(r: Reader, _: str) -> tuple[object, ...]:
    return (
        tuple(parity(r, size) for size in range(3)),
        tuple(r.get(SUMS, at) for at in range(5)),
        len(r.find(NUMBERS_BY_SIGN, "odd")),
        tuple(r.has(HALVES_BY_SIZE, size) for size in range(4)),
    )


@rule
def any_odd(r: Reader, _: str) -> bool:
    return r.has(NUMBERS_BY_SIGN, "odd")


def _engine() -> Engine:
    return Engine([Derivation("halve", NUMBERS, 1, _halve), Derivation("sum", HALVES, 2, _sum)])


Edits = list[list[tuple[str, int | None]]]
_edits = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.none() | st.integers(-5, 40)), max_size=4), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(_edits, st.lists(st.booleans(), min_size=12, max_size=12))
def test_incremental_equals_from_scratch(edits: Edits, looks: list[bool]) -> None:
    engine = _engine()
    engine.observe(summary, "")
    rows: dict[str, int] = {}
    for edit, look in zip(edits, looks, strict=False):
        with engine.transaction():
            for key, value in edit:
                if value is None:
                    rows.pop(key, None)
                    engine.delete(NUMBERS, key)
                else:
                    rows[key] = value
                    engine.put(NUMBERS, key, value)
        if look:
            engine.call(summary, "")
    fresh = _engine()
    with fresh.transaction():
        for key, value in sorted(rows.items(), reverse=True):
            fresh.put(NUMBERS, key, value)
    assert engine.call(summary, "") == fresh.call(summary, "")
    assert engine.items(HALVES) == fresh.items(HALVES)
    assert engine.items(SUMS) == fresh.items(SUMS)


def test_equal_value_stops_a_change() -> None:
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 10)
    engine.call(summary, "")
    before = engine.runs.copy()
    with engine.transaction():
        engine.put(NUMBERS, "a", 11)  # 11 // 2 == 10 // 2, but 11 is odd
    engine.call(parity, 2)
    assert engine.runs["halve"] == before["halve"] + 1
    assert engine.runs["sum"] == before["sum"]
    assert engine.runs["test_engine.parity"] == before["test_engine.parity"]


def test_unchanged_put_runs_nothing() -> None:
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 10)
    engine.call(summary, "")
    before = engine.runs.copy()
    with engine.transaction():
        assert engine.put(NUMBERS, "a", 10) is False
    engine.call(summary, "")
    assert engine.runs == before


def test_only_readers_of_a_bucket_rerun() -> None:
    engine = _engine()
    with engine.transaction():
        for at, key in enumerate("abc"):
            engine.put(NUMBERS, key, 2 * at)
    for size in range(3):
        engine.call(bucket_total, size)
    before = engine.runs["test_engine.bucket_total"]
    with engine.transaction():
        engine.put(NUMBERS, "d", 6)  # half 3 enters bucket 0
    for size in range(3):
        engine.call(bucket_total, size)
    assert engine.runs["test_engine.bucket_total"] == before + 1


def test_stale_names_observed_values_once() -> None:
    engine = _engine()
    engine.observe(parity, 0)
    assert engine.take_stale() == [(parity, 0)]
    engine.call(parity, 0)
    assert engine.take_stale() == []
    with engine.transaction():
        engine.put(NUMBERS, "a", 6)
    assert engine.take_stale() == [(parity, 0)]


def test_why_names_the_inputs() -> None:
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 6)
        engine.put(NUMBERS, "b", 2)
    assert engine.why(bucket_total, 0) == [("numbers", "a")]


def test_failure_stays_with_its_readers() -> None:
    def divide(r: Reader, key: str) -> int:
        return 100 // (r.get(NUMBERS, key) or 0)

    quotient: Rule[str, int] = Rule("quotient", divide)
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 0)
        engine.put(NUMBERS, "b", 5)
    with pytest.raises(Failure):
        engine.call(quotient, "a")
    assert engine.call(quotient, "b") == 20
    assert [(name, key) for name, key, _ in engine.failures()] == [("quotient", "a")]
    with engine.transaction():
        engine.put(NUMBERS, "a", 4)
    assert engine.call(quotient, "a") == 25
    assert engine.failures() == []


def test_a_raising_derivation_takes_back_its_rows_only() -> None:
    def picky(r: Reader, key: str, value: int) -> Iterable[tuple[Table[str, int], str, int]]:
        if value < 0:
            raise ValueError("negative")
        yield HALVES, key, value

    engine = Engine([Derivation("picky", NUMBERS, 1, picky)])
    with engine.transaction():
        engine.put(NUMBERS, "a", 1)
        engine.put(NUMBERS, "b", -1)
    assert engine.items(HALVES) == [("a", 1)]
    assert len(engine.failures()) == 1


def test_reports_live_as_long_as_their_evaluation() -> None:
    def warn(r: Reader, key: str) -> int:
        value = r.get(NUMBERS, key) or 0
        if value > 3:
            r.report(f"{key} is large")
        return value

    warned: Rule[str, int] = Rule("warned", warn)
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 9)
    engine.call(warned, "a")
    assert engine.reports() == ["a is large"]
    with engine.transaction():
        engine.put(NUMBERS, "a", 1)
    engine.call(warned, "a")
    assert engine.reports() == []


def test_a_cycle_is_an_error() -> None:
    loop: Rule[int, int] = Rule("loop", lambda r, key: r.call(loop, key))
    with pytest.raises(CycleError):
        _engine().call(loop, 1)


def test_a_derivation_may_not_read_its_own_stage() -> None:
    def peek(r: Reader, key: str, value: int) -> Iterable[tuple[Table[str, int], str, int]]:
        r.get(HALVES, key)
        return ()

    engine = Engine([Derivation("peek", NUMBERS, 1, peek)])
    with pytest.raises(EngineError), engine.transaction():
        engine.put(NUMBERS, "a", 1)


def test_unobserved_values_are_forgotten() -> None:
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 6)
    engine.observe(summary, "")
    engine.call(summary, "")
    assert engine.sizes()["test_engine.bucket_total"] == 3
    engine.unobserve(summary, "")
    assert engine.sizes()["test_engine.bucket_total"] == 0


def test_conflicting_writers_are_named() -> None:
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 2)
        engine.put(NUMBERS, "b", 12)  # halves 1 and 6 both write sum 1
    [conflict] = engine.conflicts()
    assert (conflict.table, conflict.key) == ("sums", 1)


def _joined(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    return (*one, *other) if max(*one, *other) < 100 else None


JOINED: Table[int, tuple[int, ...]] = Table("joined", stage=1, join=_joined)


def test_values_of_several_writers_are_joined_in_the_order_of_sources() -> None:
    def run(r: Reader, key: str, value: int) -> Iterable[tuple[Table[int, tuple[int, ...]], int, tuple[int, ...]]]:
        yield JOINED, 0, (value,)

    engine = Engine([Derivation("join", NUMBERS, 1, run)])
    with engine.transaction():
        for key, value in (("b", 2), ("c", 100), ("a", 1), ("d", 4)):
            engine.put(NUMBERS, key, value)
    assert engine.get(JOINED, 0) == (1, 2, 4)
    [conflict] = engine.conflicts()
    assert list(conflict.lost) == [(conflict.kept[0], "c")]  # type: ignore[index]
    with engine.transaction():
        engine.put(NUMBERS, "c", 3)
    assert engine.get(JOINED, 0) == (1, 2, 3, 4)
    assert engine.conflicts() == []
    with engine.transaction():
        for key in "abc":
            engine.delete(NUMBERS, key)
    assert engine.get(JOINED, 0) == (4,)


def test_presence_changes_with_the_first_and_the_last_row_only() -> None:
    engine = _engine()
    engine.observe(any_odd, "")
    for key, value, expected in (("a", 1, 1), ("b", 3, 1), ("a", 2, 1), ("b", 2, 2)):
        with engine.transaction():
            engine.put(NUMBERS, key, value)
        engine.call(any_odd, "")
        assert engine.runs["test_engine.any_odd"] == expected, (key, value)
    assert not engine.call(any_odd, "")


def test_what_is_let_go_leaves_nothing_behind() -> None:
    engine = _engine()
    with engine.transaction():
        engine.put(NUMBERS, "a", 1)
    before = dict(engine.sizes())
    engine.observe(any_odd, "")
    engine.observe(summary, "")
    engine.call(any_odd, "")
    engine.call(summary, "")
    engine.unobserve(any_odd, "")
    engine.unobserve(summary, "")
    assert {name: count for name, count in engine.sizes().items() if count} == before
    assert not any(engine.indexes.watched().values())


def test_what_becomes_of_values_is_counted_and_samples_are_few_and_spread() -> None:
    numbers: Table[int, int] = Table("numbers")

    def parity(r: Reader, key: int) -> int:
        return (r.get(numbers, key) or 0) % 2

    odd: Rule[int, int] = Rule("odd", parity)

    def named(r: Reader, key: int) -> str:
        return "odd" if r.call(odd, key) else "even"

    name: Rule[int, str] = Rule("name", named)
    engine = Engine()
    with engine.transaction():
        for key in range(1000):
            engine.put(numbers, key, key)
    assert engine.call(name, 3) == "odd"
    assert (engine.runs.total(), engine.reused, engine.spared, engine.equal) == (2, 0, 0, 0)
    assert engine.call(name, 3) == "odd"
    assert engine.reused == 1
    with engine.transaction():
        engine.put(numbers, 3, 5)
    assert engine.call(name, 3) == "odd"
    assert (engine.runs.total(), engine.spared, engine.equal) == (3, 1, 1), "odd ran to the same, name did not run"
    found = {made_by: (count, [key for _, key, _ in chosen]) for made_by, count, chosen in engine.samples(4)}
    assert found == {"numbers": (1000, [0, 250, 500, 750]), "odd": (1, [3]), "name": (1, [3])}
