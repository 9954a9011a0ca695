"""The evaluator: push dirt, pull values, cut off where a value is equal.

The algorithm is the two-colour one of demand-driven incremental computation (Adapton, Salsa): a change marks its
direct dependents dirty and the transitive ones as to be checked; on demand, a node to be checked first refreshes what
it read, in the order in which it read it, and runs only if one of these values changed since it last ran.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, TypeVar, cast

from fairlead.inc.cells import (
    ANY_STAGE,
    CHECK,
    CLEAN,
    DIRTY,
    MISSING,
    RUNNING,
    Cell,
    CycleError,
    EngineError,
    Failure,
    Node,
    Output,
    Presence,
    Row,
)
from fairlead.inc.indexes import Indexes
from fairlead.inc.reader import Reader
from fairlead.inc.schema import Derivation, Index, Rule, Table

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
I = TypeVar("I", bound=Hashable)  # noqa: E741 - the index key
_STRIDE = 256
"""At most so many cells are passed over between two samples."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two source rows wrote one row of a derived table; `kept` is the source whose value stands."""

    table: str
    key: Hashable
    kept: Hashable
    lost: tuple[Hashable, ...]


class Engine:
    """State of a set of tables and of everything derived from them.

    Changes are made inside `transaction()`; when it ends, derivations have run and every value read afterwards is
    consistent with all inputs.
    """

    def __init__(self, derivations: Iterable[Derivation[Any, Any]] = ()) -> None:
        self.revision = 0
        self.runs: Counter[str] = Counter()
        """Evaluations, by the name of the rule or derivation."""
        self.followed: list[Node] | None = None
        """Whoever wants to know what has been evaluated puts a list here, and takes from it."""
        self.reused = 0
        """Values that were asked for from outside and still stood."""
        self.spared = 0
        """Evaluations that did not run, since nothing that they had read came out different."""
        self.equal = 0
        """Evaluations that ran and came to the same value: there a change stops."""
        self._rows: dict[Table[Any, Any], dict[Hashable, Row]] = {}
        self.indexes = Indexes(self._rows, self._touch)
        """The indexes of the tables (for readers)."""
        self._nodes: dict[Rule[Any, Any] | Derivation[Any, Any], dict[Hashable, Node]] = {}
        self._by_source: dict[Table[Any, Any], list[Derivation[Any, Any]]] = {}
        self._pending: dict[int, deque[Node]] = {}
        """Derivations that are to run, by stage."""
        self._stale: dict[Node, None] = {}
        self._reporting: dict[Node, None] = {}
        self._failing: dict[Node, None] = {}
        self._conflicted: dict[Row, None] = {}
        self._recorded: dict[Table[Any, Any], dict[Hashable, None]] = {}
        self._depth = 0
        for made in derivations:
            self.add(made)

    # -- declarations ---------------------------------------------------------------------------------------------

    def add(self, derivation: Derivation[Any, Any]) -> None:
        """Register a derivation; rows that are already in its source are derived in the next transaction."""
        if derivation.source.stage >= derivation.stage:
            raise EngineError(f"{derivation!r} must be of a later stage than its source")
        self._by_source.setdefault(derivation.source, []).append(derivation)
        for key in list(self._rows.get(derivation.source, {})):
            self._schedule_derivation(derivation, key)

    # -- changes --------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Group changes; derivations settle at the end of the outermost transaction."""
        if self._depth == 0:
            self.revision += 1
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._settle()

    def put(self, table: Table[K, V], key: K, value: V) -> bool:
        """Set an input row; False if it already had an equal value (nothing happens then)."""
        self._input(table)
        return self._store(self.row_of(table, key), value)

    def delete(self, table: Table[K, Any], key: K) -> bool:
        """Remove an input row; False if there was none."""
        self._input(table)
        rows = self._rows.get(table)
        row = rows.get(key) if rows else None
        return row is not None and self._store(row, MISSING)

    # -- reads from outside ---------------------------------------------------------------------------------------

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The row of `table` at `key`, or None; records nothing."""
        row = self._rows.get(table, {}).get(key)
        return None if row is None or row.value is MISSING else cast("V", row.value)

    def items(self, table: Table[K, V]) -> list[tuple[K, V]]:
        """All rows of a table in the order of their keys (for tools and tests, not for rules)."""
        rows = self._rows.get(table, {})
        present = [(key, row.value) for key, row in rows.items() if row.value is not MISSING]
        return cast("list[tuple[K, V]]", sorted(present, key=itemgetter(0)))

    def find(self, index: Index[I, K, V], key: I) -> tuple[K, ...]:
        """The keys of one bucket of an index, sorted; records nothing."""
        return self.indexes.bucket(index, key).order()

    def call(self, rule: Rule[K, V], key: K) -> V:
        """The current value of a rule; raises `Failure` if it raised."""
        if self._depth:
            raise EngineError("values are read between transactions")
        node = self.node_of(rule, key)
        self.bring_up(node, ANY_STAGE)
        if node.failure is not None:
            raise node.failure
        return cast("V", node.value)

    def observe(self, rule: Rule[K, Any], key: K) -> None:
        """Have `take_stale` name this rule value whenever a change may have touched it."""
        node = self.node_of(rule, key)
        node.observed = True
        if node.state != CLEAN:
            self._stale[node] = None

    def unobserve(self, rule: Rule[K, Any], key: K) -> None:
        """Undo `observe` and drop what only this value kept alive."""
        node = self._nodes.get(rule, {}).get(key)
        if node is not None:
            node.observed = False
            self._stale.pop(node, None)
            self._release(node)

    def take_stale(self) -> list[tuple[Rule[Any, Any], Hashable]]:
        """The observed rule values that a change may have touched since the last call."""
        stale, self._stale = self._stale, {}
        return [(cast("Rule[Any, Any]", node.run_by), node.key) for node in stale if node.observed]

    def record(self, table: Table[Any, Any]) -> None:
        """Remember from now on which rows of a table are written, for `take_recorded`."""
        self._recorded.setdefault(table, {})

    def take_recorded(self, table: Table[K, Any]) -> list[K]:
        """The keys of a recorded table's rows that were written since the last call, in the order of writing."""
        taken, self._recorded[table] = self._recorded[table], {}
        return cast("list[K]", list(taken))

    # -- explanations ---------------------------------------------------------------------------------------------

    def why(self, rule: Rule[K, Any], key: K) -> list[tuple[str, Hashable]]:
        """The input rows, as (table name, key), on which a rule value depends through any number of steps."""
        self.call(rule, key)
        found: dict[tuple[str, Hashable], None] = {}
        seen: set[Cell] = set()
        stack: list[Cell] = [self.node_of(rule, key)]
        while stack:
            cell = stack.pop()
            if cell in seen:
                continue
            seen.add(cell)
            if isinstance(cell, Node):
                stack.extend(cell.deps)
            elif isinstance(cell, Row) and cell.value is not MISSING:
                if cell.table.stage == 0:
                    found[(cell.table.name, cell.key)] = None
                stack.extend(cell.sources())
        return sorted(found, key=repr)

    def reports(self) -> list[object]:
        """Every finding that a standing evaluation has reported."""
        return [finding for node in self._reporting for finding in node.reports]

    def failures(self) -> list[tuple[str, Hashable, BaseException]]:
        """Rules and derivations that raised: (name, key, the error)."""
        return [
            (node.run_by.name, node.key, node.failure.__cause__ or node.failure)
            for node in self._failing
            if node.failure is not None
        ]

    def conflicts(self) -> list[Conflict]:
        """Derived rows that more than one source wrote, and whose values do not join."""
        out: list[Conflict] = []
        for row in self._conflicted:
            _, lost = row.joined()
            kept = min(row.sources(), key=Node.said)
            out.append(Conflict(row.table.name, row.key, kept.source, tuple(one.source for one in lost)))
        return out

    def sizes(self) -> Mapping[str, int]:
        """How many rows each table and how many values each rule holds."""
        counts: Counter[str] = Counter()
        for table, rows in self._rows.items():
            counts[table.name] += len(rows)
        for made_by, nodes in self._nodes.items():
            counts[made_by.name] += len(nodes)
        return counts

    def samples(self, most: int) -> Iterator[tuple[str, int, list[tuple[Cell, Hashable, object]]]]:
        """Of each table and rule: its name, how many cells it has, and some of these, with their keys and values.

        Costs time with `most` and the number of tables and rules, not with what they hold: of many cells, samples are
        taken from the older ones.
        """
        for made_by, cells in (*self._rows.items(), *self._nodes.items()):
            step = min(max(len(cells) // most, 1), _STRIDE)
            chosen = islice(cells.items(), 0, most * step, step)
            yield made_by.name, len(cells), [(cell, key, cell.value) for key, cell in chosen]

    # -- cells ----------------------------------------------------------------------------------------------------

    def _input(self, table: Table[Any, Any]) -> None:
        if self._depth == 0:
            raise EngineError("inputs change inside a transaction")
        if table.stage != 0:
            raise EngineError(f"{table!r} is written by derivations only")

    def row_of(self, table: Table[K, Any], key: K) -> Row:
        """The cell of a row, made if there is none (for readers)."""
        rows = self._rows.get(table)
        if rows is None:
            rows = self._rows[table] = {}
        row = rows.get(key)
        if row is None:
            row = rows[key] = Row(table, key)
        return row

    def node_of(self, run_by: Rule[Any, Any] | Derivation[Any, Any], key: Hashable) -> Node:
        """The evaluation of a rule or derivation for a key, made if there is none (for readers)."""
        nodes = self._nodes.get(run_by)
        if nodes is None:
            nodes = self._nodes[run_by] = {}
        node = nodes.get(key)
        if node is None:
            node = nodes[key] = Node(run_by, key)
        return node

    def _store(self, row: Row, value: object) -> bool:
        old = row.value
        if old is value or (old is not MISSING and value is not MISSING and old == value):
            return False
        row.value = value
        self.indexes.move(row, old)
        self._touch(row)
        if row.table in self._recorded:
            self._recorded[row.table][row.key] = None
        for derivation in self._by_source.get(row.table, ()):
            self._schedule_derivation(derivation, row.key)
        if value is MISSING and row.dependents is None:
            self._rows[row.table].pop(row.key, None)
        return True

    # -- invalidation ---------------------------------------------------------------------------------------------

    def _touch(self, cell: Cell) -> None:
        cell.changed_at = self.revision
        stack: list[Node] = []
        for node in cell.readers():
            if node.state == CLEAN:
                node.state = DIRTY
                stack.append(node)
            elif node.state == CHECK:
                node.state = DIRTY
        while stack:
            node = stack.pop()
            if node.observed:
                self._stale[node] = None
            if isinstance(node.run_by, Derivation):
                self._schedule(node)
            for dependent in node.readers():
                if dependent.state == CLEAN:
                    dependent.state = CHECK
                    stack.append(dependent)

    def _schedule_derivation(self, derivation: Derivation[Any, Any], key: Hashable) -> None:
        node = self.node_of(derivation, key)
        node.state = DIRTY
        self._schedule(node)

    def _schedule(self, node: Node) -> None:
        stage = cast("Derivation[Any, Any]", node.run_by).stage
        waiting = self._pending.get(stage)
        if waiting is None:
            waiting = self._pending[stage] = deque()
        waiting.append(node)

    def _settle(self) -> None:
        while self._pending:
            stage = min(self._pending)
            waiting = self._pending[stage]
            node = waiting.popleft()
            if not waiting:
                del self._pending[stage]
            if node.state != CLEAN:
                self._derive(node)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def _derive(self, node: Node) -> None:
        derivation = cast("Derivation[Any, Any]", node.run_by)
        source = self._rows.get(derivation.source, {}).get(node.key)
        if source is None or source.value is MISSING:
            self._publish(node, {})
            self._forget(node)
            return
        if node.state == CHECK and not self._reads_changed(node, derivation.stage):
            return
        self._evaluate(node, derivation.stage)
        outputs = cast("Mapping[Output, object]", node.value)
        self._publish(node, {} if node.failure is not None else outputs)

    def _publish(self, node: Node, outputs: Mapping[Output, object]) -> None:
        for at in node.outputs:
            if at not in outputs:
                self._write(at, node, MISSING)
        for at, value in outputs.items():
            self._write(at, node, value)
        node.outputs = outputs

    def _write(self, at: Output, writer: Node, value: object) -> None:
        row = self.row_of(*at)
        joined, lost = row.write(writer, value)
        if lost:
            self._conflicted[row] = None
        elif self._conflicted:
            self._conflicted.pop(row, None)
        self._store(row, joined)

    def bring_up(self, node: Node, limit: int) -> None:
        """Make a node's value current; it may read tables below stage `limit` (for readers)."""
        if node.state == CLEAN:
            self.reused += 1
            return
        if node.state == RUNNING:
            raise CycleError(f"{node.run_by!r} of {node.key!r} depends on itself")
        if node.state == CHECK and not self._reads_changed(node, limit):
            return
        self._evaluate(node, limit)

    def _reads_changed(self, node: Node, limit: int) -> bool:
        """Bring what a node read up to date; if nothing changed, the node is clean again without running."""
        for cell in node.deps:
            if isinstance(cell, Node) and cell.state != CLEAN:
                self.bring_up(cell, limit)
            if cell.changed_at > node.verified_at:
                return True
        node.state = CLEAN
        node.verified_at = self.revision
        self.spared += 1
        return False

    def _evaluate(self, node: Node, limit: int) -> None:
        old_deps = node.deps
        reader = Reader(self, node, limit)
        node.state = RUNNING
        self.runs[node.run_by.name] += 1
        if self.followed is not None:
            self.followed.append(node)
        failure: Failure | None = None
        value: object = MISSING
        try:
            value = self._run(reader, node)
        except EngineError:
            node.state = DIRTY
            node.deps = tuple({**dict.fromkeys(old_deps), **reader.read})
            raise
        except Failure as error:
            failure = error
        except Exception as error:
            failure = Failure(f"{node.run_by.name} of {node.key!r}: {error}")
            failure.__cause__ = error
        read = reader.read
        node.deps = tuple(read)
        for cell in old_deps:
            if cell not in read:
                self._left(cell, node)
        self._note(node, tuple(reader.reports), failure)
        if failure is not None or value is MISSING or node.value is MISSING or node.value != value:
            node.changed_at = self.revision
            node.value = value
        else:
            self.equal += 1
        node.state = CLEAN
        node.verified_at = self.revision

    def _run(self, reader: Reader, node: Node) -> object:
        run_by = node.run_by
        if isinstance(run_by, Rule):
            return run_by.run(reader, node.key)
        source = reader.get(run_by.source, node.key)
        out: dict[Output, object] = {}
        for table, key, value in run_by.run(reader, node.key, source):
            if table.stage != run_by.stage:
                raise EngineError(f"{run_by!r} of stage {run_by.stage} may not write {table!r}")
            if (table, key) in out and out[(table, key)] != value:
                raise ValueError(f"two different values for {table!r} at {key!r}")
            out[(table, key)] = value
        return out

    def _note(self, node: Node, reports: tuple[object, ...], failure: Failure | None) -> None:
        if not (reports or failure or node.reports or node.failure):
            return
        node.reports = reports
        node.failure = failure
        for noted, into in ((bool(reports), self._reporting), (failure is not None, self._failing)):
            if noted:
                into[node] = None
            else:
                into.pop(node, None)

    # -- letting go -----------------------------------------------------------------------------------------------

    def _left(self, cell: Cell, node: Node) -> None:
        """A node reads a cell no longer."""
        cell.left_by(node)
        if cell.dependents is not None:
            return
        if isinstance(cell, Node):
            self._release(cell)
        elif isinstance(cell, Presence):
            self.indexes.forget(cell)
        elif isinstance(cell, Row) and cell.value is MISSING and not any(cell.sources()):
            self._rows[cell.table].pop(cell.key, None)

    def _release(self, node: Node) -> None:
        """Forget a rule value that nobody reads or observes, and what only it had kept alive."""
        stack = [node]
        while stack:
            at = stack.pop()
            if at.dependents is not None or at.observed or at.state == RUNNING or isinstance(at.run_by, Derivation):
                continue
            stack.extend(self._forget(at))

    def _forget(self, node: Node) -> list[Node]:
        self._nodes[node.run_by].pop(node.key, None)
        self._reporting.pop(node, None)
        self._failing.pop(node, None)
        deps, node.deps = node.deps, ()
        node.state = CLEAN if isinstance(node.run_by, Derivation) else DIRTY
        loose: list[Node] = []
        for cell in deps:
            if isinstance(cell, Node):
                cell.left_by(node)
                loose.append(cell)
            else:
                self._left(cell, node)
        return loose
