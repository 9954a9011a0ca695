"""Declarations: what tables, indexes, derivations and rules there are.

A declaration is a module-level constant without state; an `Engine` holds the state. So a program may run several
engines (head, a past revision, head plus a proposed change) over the same declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from fairlead.inc.engine import Reader

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
I = TypeVar("I", bound=Hashable)  # noqa: E741 - the index key


class Table(Generic[K, V]):
    """A keyed collection of frozen values.

    `stage` 0 is an input table, written from outside. A table of stage n > 0 is written only by derivations, which
    may read only tables of a lower stage: this is what makes the order of evaluation well defined.

    `join` makes one value out of those that several sources wrote at one key, two at a time in the order of sources;
    None says that the second cannot be joined to the first. Without it, no two can.
    """

    __slots__ = ("indexes", "join", "name", "stage")

    def __init__(self, name: str, *, stage: int = 0, join: Callable[[V, V], V | None] | None = None) -> None:
        self.name = name
        self.stage = stage
        self.join = join
        self.indexes: list[Index[Any, K, V]] = []

    def index(self, name: str, by: Callable[[K, V], Iterable[I]]) -> Index[I, K, V]:
        """Declare an index: `by` names the buckets in which a row stands."""
        made = Index(f"{self.name}.{name}", self, by)
        self.indexes.append(made)
        return made

    def __repr__(self) -> str:
        return f"Table({self.name})"


class Index(Generic[I, K, V]):
    """Rows of a table by a derived key. A reader of one bucket depends on that bucket's membership only."""

    __slots__ = ("by", "name", "table")

    def __init__(self, name: str, table: Table[K, V], by: Callable[[K, V], Iterable[I]]) -> None:
        self.name = name
        self.table = table
        self.by = by

    def __repr__(self) -> str:
        return f"Index({self.name})"


class Derivation(Generic[K, V]):
    """For each row of `source`, the rows that it contributes to tables of a later stage.

    `run(reader, key, value)` yields `(table, key, value)`. Two sources that write one row conflict, unless the table
    joins their values: the source that sorts first keeps it, and the engine reports the other (`Engine.conflicts`).
    """

    __slots__ = ("name", "run", "source", "stage")

    def __init__(
        self,
        name: str,
        source: Table[K, V],
        stage: int,
        run: Callable[[Reader, K, V], Iterable[tuple[Table[Any, Any], Hashable, object]]],
    ) -> None:
        self.name = name
        self.source = source
        self.stage = stage
        self.run = run

    def __repr__(self) -> str:
        return f"Derivation({self.name})"


class Rule(Generic[K, V]):
    """A memoised pure function of a key, which reads only through its `Reader`."""

    __slots__ = ("name", "run")

    def __init__(self, name: str, run: Callable[[Reader, K], V]) -> None:
        self.name = name
        self.run = run

    def __call__(self, reader: Reader, key: K) -> V:
        """The rule's value for `key`, recorded as a read of the caller."""
        return reader.call(self, key)

    def __repr__(self) -> str:
        return f"Rule({self.name})"


def rule(run: Callable[[Reader, K], V]) -> Rule[K, V]:
    """Make a rule of a function; its name is the function's, qualified by the last part of its module."""
    return Rule(f"{run.__module__.rpartition('.')[2]}.{run.__name__}", run)
