"""What an engine is made of: cells that can be read, and nodes that read them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from fairlead.inc.schema import Derivation, Index, Rule, Table

CLEAN, CHECK, DIRTY, RUNNING = 0, 1, 2, 3
ANY_STAGE = 1 << 30


class EngineError(Exception):
    """A rule or a caller broke the engine's contract (a defect in the program, never in user input)."""


class CycleError(EngineError):
    """A rule's value was asked for while it was being computed."""


class Failure(Exception):
    """A rule raised; its readers see this, other rules are not touched. `__cause__` holds the original error."""


class Missing:
    """The type of `MISSING`, the value of a row that is not there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()


_FEW = 4


class Cell:
    """Something that can be read: remembers when it last changed and who has read it.

    Most cells have few readers or none, and there are many cells: `dependents` is None, the only reader, a tuple of a
    few, or a dictionary of them; always in the order in which they came.
    """

    __slots__ = ("changed_at", "dependents")

    def __init__(self) -> None:
        self.changed_at = 0
        self.dependents: Node | tuple[Node, ...] | dict[Node, None] | None = None

    def read_by(self, node: Node) -> None:
        """Remember a reader."""
        held = self.dependents
        if held is None:
            self.dependents = node
        elif isinstance(held, dict):
            held[node] = None
        elif isinstance(held, tuple):
            if node not in held:
                self.dependents = (*held, node) if len(held) < _FEW else dict.fromkeys((*held, node))
        elif held is not node:
            self.dependents = (held, node)

    def left_by(self, node: Node) -> None:
        """Forget a reader."""
        held = self.dependents
        if held is node:
            self.dependents = None
        elif isinstance(held, dict):
            held.pop(node, None)
            if not held:
                self.dependents = None
        elif isinstance(held, tuple):
            left = tuple(one for one in held if one is not node)
            self.dependents = left if len(left) != 1 else left[0]

    def containers(self) -> Iterable[object]:
        """What it keeps for its own bookkeeping, beside the value."""
        return () if self.dependents is None or isinstance(self.dependents, Node) else (self.dependents,)

    def readers(self) -> Iterable[Node]:
        """Who has read it."""
        held = self.dependents
        if held is None:
            return ()
        return (held,) if isinstance(held, Node) else held


class Row(Cell):
    """A row of a table. `writers` has what each source wrote, where more than one did; `writer` is the only one.

    Both are None in input tables.
    """

    __slots__ = ("key", "table", "value", "writer", "writers")

    def __init__(self, table: Table[Any, Any], key: Hashable) -> None:
        # As in `Cell`, whose own method would be a call more for each of very many cells.
        self.changed_at = 0
        self.dependents = None
        self.table = table
        self.key = key
        self.value: Any = MISSING
        self.writer: Node | None = None
        self.writers: dict[Node, object] | None = None

    def sources(self) -> Iterable[Node]:
        """The evaluations that wrote the row."""
        if self.writers is not None:
            return self.writers
        return () if self.writer is None else (self.writer,)

    def write(self, writer: Node, value: object) -> tuple[object, tuple[Node, ...]]:
        """Take what a source writes (MISSING: nothing more); the row's value then, and sources without a part in it."""
        if self.writers is None:
            if self.writer in (None, writer):
                self.writer = None if value is MISSING else writer
                return value, ()
            if value is MISSING:
                return self.value, ()
            self.writers = {self.writer: self.value}
            self.writer = None
        if value is MISSING:
            self.writers.pop(writer, None)
        else:
            self.writers[writer] = value
        if len(self.writers) > 1:
            return self.joined()
        self.writer, left = next(iter(self.writers.items()))
        self.writers = None
        return left, ()

    def joined(self) -> tuple[object, tuple[Node, ...]]:
        """The value that several sources make together, and the sources that have no part in it."""
        writers = self.writers or {}
        first, *others = sorted(writers, key=Node.said)
        value, lost = writers[first], list[Node]()
        for one in others:
            made = self.table.join(value, writers[one]) if self.table.join is not None else None
            if made is None:
                lost.append(one)
            else:
                value = made
        return value, tuple(lost)


class Bucket(Cell):
    """The keys of the rows in one bucket of an index.

    `keys` is the only key in a tuple, or a set of several; `ordered` is None until somebody asks for the order.
    """

    __slots__ = ("keys", "ordered")

    def __init__(self) -> None:
        super().__init__()
        self.keys: tuple[Any, ...] | set[Any] = ()
        self.ordered: tuple[Any, ...] | None = ()

    def enter(self, key: Any) -> bool:
        """Take a row in; False if it was there."""
        if key in self.keys:
            return False
        if not self.keys:
            self.keys = self.ordered = (key,)
            return True
        if isinstance(self.keys, tuple):
            self.keys = set(self.keys)
        self.keys.add(key)
        self.ordered = None
        return True

    def leave(self, key: Any) -> None:
        """Let a row go."""
        if isinstance(self.keys, tuple):
            self.keys = self.ordered = ()
            return
        self.keys.discard(key)
        self.ordered = None
        if len(self.keys) == 1:
            self.keys = self.ordered = tuple(self.keys)

    def order(self) -> tuple[Any, ...]:
        """The keys, sorted."""
        if self.ordered is None:
            self.ordered = tuple(sorted(self.keys))
        return self.ordered


class Presence(Cell):
    """Whether a bucket of an index has rows: changes only when the first comes or the last goes."""

    __slots__ = ("at", "index")

    def __init__(self, index: Index[Any, Any, Any], at: Hashable) -> None:
        super().__init__()
        self.index = index
        self.at = at


class Node(Cell):
    """An evaluation with recorded reads: of a rule for a key, or of a derivation for a source row."""

    __slots__ = (
        "deps",
        "failure",
        "key",
        "observed",
        "outputs",
        "reports",
        "run_by",
        "state",
        "value",
        "verified_at",
    )

    def __init__(self, run_by: Rule[Any, Any] | Derivation[Any, Any], key: Hashable) -> None:
        self.changed_at = 0
        self.dependents = None
        self.run_by = run_by
        self.key = key
        self.value: Any = MISSING
        self.failure: Failure | None = None
        self.deps: tuple[Cell, ...] = ()
        self.verified_at = 0
        self.state = DIRTY
        self.observed = False
        self.outputs: Mapping[Output, object] = _NO_OUTPUTS
        self.reports: tuple[object, ...] = ()

    def containers(self) -> Iterable[object]:
        """Also what it has read, and what it has written."""
        return (*super().containers(), *((self.deps,) if self.deps else ()), *((self.outputs,) if self.outputs else ()))

    @property
    def source(self) -> tuple[Rule[Any, Any] | Derivation[Any, Any], Hashable]:
        """What is evaluated, and for what."""
        return self.run_by, self.key

    def said(self) -> str:
        """The same as text: the order of sources."""
        return repr(self.source)


Output = tuple[Table[Any, Any], Hashable]
"""A row that a derivation writes."""
_NO_OUTPUTS: Mapping[Output, object] = {}
