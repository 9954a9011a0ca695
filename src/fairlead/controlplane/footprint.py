"""About how many bytes each table and each rule of the engine holds: sampled, so an estimate, and cheap.

Of each, a few rows or values are measured with all that they refer to, and the mean is taken times their number. What
two of the samples share is counted once and what they share with other tables in each; so the sum of all is more than
there is, and what a table of small equal values holds is less than is said. It is meant for finding what grows.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import msgspec

from fairlead.inc import Engine

SAMPLES = 6
"""So many rows of a table, or values of a rule, are measured."""
OBJECTS = 400
"""So many objects are looked at for one of them; beyond, the rest is left out."""
KEPT_SECONDS = 30.0
"""The estimate is made anew when it is this old."""
_ATOMS = (str, bytes, int, float, bool, type(None), type)


class Footprint:
    """The estimate for one engine."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._made: float | None = None
        self._sizes: dict[str, int] = {}

    def sizes(self) -> Mapping[str, int]:
        """Bytes by the name of the table or rule, as the last estimate has them."""
        return self._sizes

    async def refresh(self) -> None:
        """Estimate anew where the last one is too old, one table or rule after the other; the loop goes on between."""
        now = self._clock()
        if self._made is None or now - self._made >= KEPT_SECONDS:
            self._made = now
            found: dict[str, int] = {}
            for name, size in estimates(self._engine):
                found[name] = found.get(name, 0) + size
                await asyncio.sleep(0)
            self._sizes = found


def estimates(engine: Engine) -> Iterator[tuple[str, int]]:
    """Bytes of each table and rule, by its name. What is held may change between two of them."""
    for name, count, chosen in engine.samples(SAMPLES):
        seen: set[int] = set()
        size = 0
        for cell, key, value in chosen:
            # What a cell refers to are other cells, which are counted where they are: its own containers are its.
            size += sys.getsizeof(cell) + sum(map(sys.getsizeof, cell.containers()))
            size += deep_size(key, seen) + deep_size(value, seen)
        if chosen:
            yield name, size * count // len(chosen)


def deep_size(value: object, seen: set[int]) -> int:
    """Bytes of a value and of what it is made of, without what is in `seen` (ids), which learns of it."""
    size, stack, left = 0, [value], OBJECTS
    while stack and left:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        left -= 1
        size += sys.getsizeof(one)
        if isinstance(one, _ATOMS):
            continue
        if isinstance(one, msgspec.Struct):
            stack.extend(getattr(one, field) for field in one.__struct_fields__)
        elif isinstance(one, Mapping):
            rows = cast("Mapping[Any, Any]", one)
            stack.extend(list(rows.values())[:left])
            stack.extend(list(rows)[:left])
        elif isinstance(one, (tuple, list, set, frozenset)):
            stack.extend(list(cast("tuple[Any, ...]", one))[:left])
    return size
