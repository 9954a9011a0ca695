"""What rules read through."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fairlead.inc.cells import CLEAN, MISSING, Cell, EngineError, Node
from fairlead.inc.schema import Index, Rule, Table

if TYPE_CHECKING:
    from fairlead.inc.engine import Engine

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
I = TypeVar("I", bound=Hashable)  # noqa: E741 - the index key


class Reader:
    """What a rule reads through; every read is recorded as a dependency of the rule."""

    __slots__ = ("_engine", "_limit", "_node", "read", "reports")

    def __init__(self, engine: Engine, node: Node, limit: int) -> None:
        self._engine = engine
        self._node = node
        self._limit = limit
        self.read: dict[Cell, None] = {}
        self.reports: list[object] = []

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The row of `table` at `key`, or None."""
        if table.stage >= self._limit:
            self._refuse(table)
        row = self._engine.row_of(table, key)
        if row not in self.read:
            self.read[row] = None
            row.read_by(self._node)
        return None if row.value is MISSING else cast("V", row.value)

    def find(self, index: Index[I, K, V], key: I) -> tuple[K, ...]:
        """The keys of the rows in one bucket of `index`, in sorted order."""
        if index.table.stage >= self._limit:
            self._refuse(index.table)
        bucket = self._engine.indexes.bucket(index, key)
        self._record(bucket)
        return cast("tuple[K, ...]", bucket.order())

    def has(self, index: Index[I, Any, Any], key: I) -> bool:
        """Whether a bucket of `index` has rows; depends on that alone, not on which they are."""
        if index.table.stage >= self._limit:
            self._refuse(index.table)
        cell, present = self._engine.indexes.presence(index, key)
        self._record(cell)
        return present

    def rows(self, index: Index[I, K, V], key: I) -> list[tuple[K, V]]:
        """The rows in one bucket of `index`, in the order of their keys; depends on each of them."""
        out: list[tuple[K, V]] = []
        for row_key in self.find(index, key):
            value = self.get(index.table, row_key)
            if value is not None:
                out.append((row_key, value))
        return out

    def call(self, rule: Rule[K, V], key: K) -> V:
        """The value of another rule; raises `Failure` if that rule raised."""
        node = self._engine.node_of(rule, key)
        self._record(node)
        if node.state != CLEAN:
            self._engine.bring_up(node, self._limit)
        if node.failure is not None:
            raise node.failure
        return cast("V", node.value)

    def report(self, finding: object) -> None:
        """Attach a finding to this evaluation; it lives exactly as long as the evaluation stands."""
        self.reports.append(finding)

    def _refuse(self, table: Table[Any, Any]) -> None:
        raise EngineError(f"{self._node.run_by!r} may not read {table!r}: not settled at its stage")

    def _record(self, cell: Cell) -> None:
        if cell not in self.read:
            self.read[cell] = None
            cell.read_by(self._node)
