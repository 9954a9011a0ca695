"""What an evaluation has read, whether it was there or not: with the same answers it comes to the same value."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from fairlead.inc.cells import MISSING, Bucket, Cell, Node, Presence, Row
from fairlead.inc.engine import Engine
from fairlead.inc.schema import Index, Rule, Table


class Reads:
    """The rows and buckets that evaluations read."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Table[Any, Any], Hashable], bool] = {}
        """Whether each row was there."""
        self.buckets: dict[tuple[Index[Any, Any, Any], Hashable], tuple[Hashable, ...]] = {}
        """The keys of each bucket of an index."""


def fresh(engine: Engine, evaluated: Iterable[Node], known: set[Cell]) -> Reads:
    """What evaluations have read themselves and what is not known yet; it is known afterwards."""
    found = Reads()
    named: Mapping[int, tuple[Index[Any, Any, Any], Hashable]] = {}
    for node in evaluated:
        for cell in node.deps:
            if isinstance(cell, Node) or cell in known:
                continue
            known.add(cell)
            if isinstance(cell, Row):
                found.rows[(cell.table, cell.key)] = cell.value is not MISSING
            elif isinstance(cell, Presence):
                found.buckets[(cell.index, cell.at)] = engine.find(cell.index, cell.at)
            elif isinstance(cell, Bucket):
                named = named or engine.indexes.named()
                if id(cell) in named:
                    found.buckets[named[id(cell)]] = cell.order()
    return found


def rows(engine: Engine, rule: Rule[Any, Any], key: Hashable) -> dict[tuple[Table[Any, Any], Hashable], bool]:
    """The rows that stand behind a rule value, through any number of steps, and whether each was there."""
    return _walk(engine, [engine.node_of(rule, key)])


def nodes(engine: Engine, rule: Rule[Any, Any], key: Hashable) -> list[Node]:
    """The evaluations behind a rule value, and itself."""
    seen: dict[Node, None] = {}
    stack = [engine.node_of(rule, key)]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen[node] = None
            stack.extend(one for one in node.deps if isinstance(one, Node))
    return list(seen)


def sources(
    engine: Engine, rows: Iterable[tuple[Table[Any, Any], Hashable]]
) -> dict[tuple[Table[Any, Any], Hashable], bool]:
    """The rows that stand behind rows: these themselves, and those that their derivations read."""
    return _walk(engine, [engine.row_of(table, key) for table, key in rows])


def _walk(engine: Engine, stack: list[Cell]) -> dict[tuple[Table[Any, Any], Hashable], bool]:
    found: dict[tuple[Table[Any, Any], Hashable], bool] = {}
    seen: set[Cell] = set()
    while stack:
        cell = stack.pop()
        if cell in seen:
            continue
        seen.add(cell)
        if isinstance(cell, Node):
            stack.extend(cell.deps)
        elif isinstance(cell, Row):
            found[(cell.table, cell.key)] = cell.value is not MISSING
            stack.extend(cell.sources())
    return found
