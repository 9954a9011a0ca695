"""The estimate of memory by table: near enough, bounded, and not made at every scrape."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from fairlead.controlplane.footprint import KEPT_SECONDS, OBJECTS, Footprint, deep_size
from fairlead.inc import Engine, Table

TEXTS: Table[int, tuple[str, ...]] = Table("texts")


class Pair(msgspec.Struct, frozen=True):
    """Two values."""

    left: object
    right: object


def filled(rows: int, length: int) -> Engine:
    engine = Engine()
    with engine.transaction():
        for number in range(rows):
            engine.put(TEXTS, number, (f"{number:08}" * length,))
    return engine


@pytest.mark.parametrize(("rows", "length"), [(1, 10), (50, 10), (5000, 10), (500, 1000)])
def test_the_estimate_is_near_what_rows_hold(rows: int, length: int) -> None:
    footprint = Footprint(filled(rows, length))
    asyncio.run(footprint.refresh())
    found = footprint.sizes()["texts"]
    # A row is its text, a tuple around it, its key, and the engine's cell.
    assert rows * 8 * length <= found <= rows * (8 * length + 400)


def test_what_is_shared_counts_once_and_large_values_are_not_walked_to_the_end() -> None:
    text = "x" * 1000
    assert deep_size(Pair(text, text), set()) < 1300 < deep_size(Pair(text, text + "y"), set())
    assert deep_size({"a": [text]}, set()) > 1000
    seen: set[int] = set()
    deep_size([Pair(number, str(number)) for number in range(100_000)], seen)
    assert len(seen) <= OBJECTS


def test_it_is_made_anew_only_after_a_while() -> None:
    now = 0.0
    engine = filled(10, 1)
    footprint = Footprint(engine, lambda: now)
    asyncio.run(footprint.refresh())
    first = footprint.sizes()["texts"]
    with engine.transaction():
        for number in range(10, 20):
            engine.put(TEXTS, number, ("x" * 8,))
    asyncio.run(footprint.refresh())
    assert footprint.sizes()["texts"] == first
    now = KEPT_SECONDS
    asyncio.run(footprint.refresh())
    assert footprint.sizes()["texts"] > 1.5 * first
