"""The indexes of an engine's tables: which rows stand in which bucket, and whether a bucket has any."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from fairlead.inc.cells import MISSING, Bucket, Cell, Presence, Row
from fairlead.inc.schema import Index, Table

I = TypeVar("I", bound=Hashable)  # noqa: E741 - the index key


class Indexes:
    """Buckets of every index that has been asked for. `touch` is told of each cell that changes."""

    def __init__(self, rows: Mapping[Table[Any, Any], Mapping[Hashable, Row]], touch: Callable[[Cell], None]) -> None:
        self._rows = rows
        self._touch = touch
        self._buckets: dict[Index[Any, Any, Any], dict[Hashable, Bucket]] = {}
        self._presences: dict[Index[Any, Any, Any], dict[Hashable, Presence]] = {}

    def bucket(self, index: Index[I, Any, Any], at: I) -> Bucket:
        """The cell of an index's bucket; the index is filled when it is first asked."""
        buckets = self._filled(index)
        bucket = buckets.get(at)
        if bucket is None:
            bucket = buckets[at] = Bucket()
        return bucket

    def presence(self, index: Index[I, Any, Any], at: I) -> tuple[Presence, bool]:
        """The cell that says whether a bucket has rows, and whether it has."""
        bucket = self._filled(index).get(at)
        cells = self._presences.get(index)
        if cells is None:
            cells = self._presences[index] = {}
        cell = cells.get(at)
        if cell is None:
            cell = cells[at] = Presence(index, at)
        return cell, bucket is not None and bool(bucket.keys)

    def move(self, row: Row, old: object) -> None:
        """A row's value was `old`, and is what it is now."""
        for index in row.table.indexes:
            buckets = self._buckets.get(index)
            if buckets is None:
                continue
            before = set(index.by(row.key, old)) if old is not MISSING else set[Hashable]()
            after = set(index.by(row.key, row.value)) if row.value is not MISSING else set[Hashable]()
            for at in before - after:
                self._leave(index, buckets, at, row.key)
            for at in after - before:
                self._enter(index, buckets, at, row.key)

    def forget(self, cell: Presence) -> None:
        """Nobody reads this cell any more."""
        self._presences[cell.index].pop(cell.at, None)

    def named(self) -> Mapping[int, tuple[Index[Any, Any, Any], Hashable]]:
        """The index and key of each bucket, by the bucket's `id`: a bucket itself does not remember them."""
        return {id(bucket): (index, at) for index, buckets in self._buckets.items() for at, bucket in buckets.items()}

    def sizes(self) -> Mapping[str, int]:
        """How many buckets each index has."""
        return {index.name: len(buckets) for index, buckets in self._buckets.items()}

    def watched(self) -> Mapping[str, int]:
        """How many buckets of each index somebody asked whether they have rows."""
        return {index.name: len(cells) for index, cells in self._presences.items()}

    def _filled(self, index: Index[Any, Any, Any]) -> dict[Hashable, Bucket]:
        buckets = self._buckets.get(index)
        if buckets is None:
            buckets = self._buckets[index] = {}
            for row in self._rows.get(index.table, {}).values():
                if row.value is not MISSING:
                    for at in index.by(row.key, row.value):
                        self._enter(index, buckets, at, row.key)
        return buckets

    def _enter(self, index: Index[Any, Any, Any], buckets: dict[Hashable, Bucket], at: Hashable, key: Hashable) -> None:
        bucket = buckets.get(at)
        if bucket is None:
            bucket = buckets[at] = Bucket()
        if bucket.enter(key):
            self._touch(bucket)
            if len(bucket.keys) == 1:
                self._turned(index, at)

    def _leave(self, index: Index[Any, Any, Any], buckets: dict[Hashable, Bucket], at: Hashable, key: Hashable) -> None:
        bucket = buckets[at]
        bucket.leave(key)
        self._touch(bucket)
        if not bucket.keys:
            self._turned(index, at)
            if bucket.dependents is None:
                del buckets[at]

    def _turned(self, index: Index[Any, Any, Any], at: Hashable) -> None:
        """A bucket has got its first row, or lost its last."""
        cell = self._presences.get(index, {}).get(at)
        if cell is not None:
            self._touch(cell)
