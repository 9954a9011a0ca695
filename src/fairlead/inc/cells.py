"""What an engine is made of: cells that can be read, and nodes that read them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from fairlead.inc.schema import Derivation, Rule, Table

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


class Cell:
    """Something that can be read: remembers when it last changed and who has read it."""

    __slots__ = ("changed_at", "dependents")

    def __init__(self) -> None:
        self.changed_at = 0
        self.dependents: dict[Node, None] = {}


class Row(Cell):
    """A row of a table. `writers` holds what each source wrote, for tables that derivations write."""

    __slots__ = ("key", "table", "value", "writers")

    def __init__(self, table: Table[Any, Any], key: Hashable) -> None:
        super().__init__()
        self.table = table
        self.key = key
        self.value: Any = MISSING
        self.writers: dict[Hashable, object] | None = None


class Bucket(Cell):
    """The keys of the rows in one bucket of an index; `ordered` is None until somebody asks for the order."""

    __slots__ = ("keys", "ordered")

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[Any] = set()
        self.ordered: tuple[Any, ...] | None = ()


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
        super().__init__()
        self.run_by = run_by
        self.key = key
        self.value: Any = MISSING
        self.failure: Failure | None = None
        self.deps: dict[Cell, None] = {}
        self.verified_at = 0
        self.state = DIRTY
        self.observed = False
        self.outputs: dict[tuple[Table[Any, Any], Hashable], object] = {}
        self.reports: tuple[object, ...] = ()
