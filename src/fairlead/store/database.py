"""The tables and statements of the store; rows in, rows out."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairlead.model.ref import Ref
from fairlead.store.change import ALL, Part, Wanted
from fairlead.store.errors import StoreUnusable
from fairlead.store.retention import Retention

_APPLICATION = 0x464C4452
_LAYOUT = 3

_SCHEMA = """
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counter VALUES ('revision', 0), ('horizon', 0);
CREATE TABLE live (
    grp TEXT, kind TEXT, namespace TEXT, name TEXT, revision INTEGER NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (grp, kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE history (
    revision INTEGER, seq INTEGER, grp TEXT, kind TEXT, namespace TEXT, name TEXT,
    operation TEXT NOT NULL, document BLOB, author TEXT NOT NULL, time REAL NOT NULL, message TEXT NOT NULL,
    via TEXT NOT NULL DEFAULT '', command TEXT NOT NULL DEFAULT '', meant INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (revision, seq)
);
CREATE INDEX history_of ON history (grp, kind, namespace, name, revision);
CREATE INDEX history_meant ON history (revision) WHERE meant;
CREATE TABLE place (
    grp TEXT, kind TEXT, namespace TEXT, name TEXT, uid TEXT NOT NULL, generation INTEGER NOT NULL,
    file TEXT NOT NULL, marks BLOB NOT NULL, PRIMARY KEY (grp, kind, namespace, name)
) WITHOUT ROWID;
"""

_UPGRADES = {
    1: (
        "ALTER TABLE history ADD COLUMN via TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE history ADD COLUMN command TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE history ADD COLUMN meant INTEGER NOT NULL DEFAULT 1",
        "CREATE INDEX history_meant ON history (revision) WHERE meant",
    ),
    2: (
        "CREATE TABLE place (grp TEXT, kind TEXT, namespace TEXT, name TEXT, uid TEXT NOT NULL, "
        "generation INTEGER NOT NULL, file TEXT NOT NULL, marks BLOB NOT NULL, "
        "PRIMARY KEY (grp, kind, namespace, name)) WITHOUT ROWID",
    ),
}
"""What turns each older layout into the next one."""

# The names first, in the order of the index: documents are read of those alone that are asked for.
_AT = """ FROM (
    SELECT namespace, name, MAX(revision) AS newest FROM history
    WHERE grp = :grp AND kind = :kind AND (namespace, name) > (:after_namespace, :after_name) AND revision <= :at
    AND (:namespace IS NULL OR namespace = :namespace) GROUP BY namespace, name
) top CROSS JOIN history h ON h.grp = :grp AND h.kind = :kind AND h.namespace = top.namespace AND h.name = top.name
     AND h.revision = top.newest
WHERE h.document IS NOT NULL
"""
_PAST = f"SELECT h.namespace, h.name, h.document {_AT} ORDER BY top.namespace, top.name LIMIT :most"
_PAST_COUNT = f"SELECT COUNT(*) {_AT}"

# Two statements: were a deletion dropped before the versions it supersedes, these would look current.
_SUPERSEDED = """
DELETE FROM history WHERE revision < :horizon AND EXISTS (
    SELECT 1 FROM history later WHERE later.grp = history.grp AND later.kind = history.kind
    AND later.namespace = history.namespace AND later.name = history.name
    AND later.revision > history.revision AND later.revision <= :horizon
)
"""
_DELETIONS = "DELETE FROM history WHERE revision <= :horizon AND document IS NULL"

_CHANGE = """
SELECT h.revision, h.operation, h.grp, h.kind, h.namespace, h.name, h.document, h.author, h.time, h.message, h.via,
h.command, h.meant, (
    SELECT before.document FROM history before WHERE before.grp = h.grp AND before.kind = h.kind
    AND before.namespace = h.namespace AND before.name = h.name AND before.revision < h.revision
    ORDER BY before.revision DESC LIMIT 1
) FROM history h
"""
_CHANGES = f"""{_CHANGE} WHERE h.revision > :since AND (:grp IS NULL OR (h.grp = :grp AND h.kind = :kind))
ORDER BY h.revision, h.seq
"""

_THIS = "grp = ? AND kind = ? AND namespace = ? AND name = ?"

Row = tuple[Any, ...]


class Database:
    """One SQLite connection. Not thread-safe by itself: `Store` holds a lock around it.

    WAL with synchronous=FULL: a commit returns after its bytes are on the disk; where `synced` is False, with NORMAL:
    they are there after `sync`, and until then a crash of the machine (not of the process) may take the last commits
    away, in order and whole. The file is locked exclusively for as long as it is open, because a second writer could
    not tell the first one's watchers what it wrote.
    """

    def __init__(self, path: Path | str, *, synced: bool = True) -> None:
        self.path = str(path)
        self._synced = synced
        self.written = 0
        """How many transactions have ended with a commit since it was opened."""
        self._log: int | None = None
        """The write-ahead log, which is there as long as the database is open."""
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._link = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnusable(f"cannot open {self.path}: {error}") from None
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._link.close()
            raise self._unusable(error) from None
        except StoreUnusable:
            self._link.close()
            raise

    def _prepare(self) -> None:
        level = "FULL" if self._synced else "NORMAL"
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", f"synchronous={level}", "wal_autocheckpoint=1000"):
            self._link.execute(f"PRAGMA {pragma}").fetchall()
        self._link.execute("BEGIN EXCLUSIVE")
        found = self._link.execute("PRAGMA application_id").fetchone()[0]
        layout = self._link.execute("PRAGMA user_version").fetchone()[0]
        if found == 0 and layout == 0 and not self._link.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    self._link.execute(statement)
            self._link.execute(f"PRAGMA application_id={_APPLICATION}")
            self._link.execute(f"PRAGMA user_version={_LAYOUT}")
        elif found != _APPLICATION:
            raise StoreUnusable(f"{self.path} is not a Fairlead database: point --state at another directory")
        elif layout > _LAYOUT:
            raise StoreUnusable(f"{self.path} was written by a newer Fairlead (layout {layout}): use that version")
        else:
            for older in range(layout, _LAYOUT):
                for statement in _UPGRADES[older]:
                    self._link.execute(statement)
            self._link.execute(f"PRAGMA user_version={_LAYOUT}")
        self._link.execute("COMMIT")

    def _unusable(self, error: sqlite3.Error) -> StoreUnusable:
        said = str(error)
        if "locked" in said:
            return StoreUnusable(f"{self.path} is in use by another process: stop that control plane first")
        if "not a database" in said or "malformed" in said:
            return StoreUnusable(f"{self.path} is damaged or not a database ({said}): restore it from a copy")
        return StoreUnusable(f"{self.path}: {said}")

    def close(self) -> None:
        """Fold the write-ahead log into the database and release it."""
        self._link.close()
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def sync(self) -> None:
        """Return when what is committed is on the disk. Needs no lock; raises StoreUnusable."""
        if self.path == ":memory:":
            return
        try:
            if self._log is None:
                self._log = os.open(f"{self.path}-wal", os.O_RDONLY)
            os.fdatasync(self._log)
        except OSError as error:
            raise StoreUnusable(f"cannot write {self.path}: {error.strerror}") from None

    def run(self, statement: str, arguments: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Execute one statement. Raises StoreUnusable where SQLite cannot (disk full, I/O error)."""
        try:
            return self._link.execute(statement, arguments)
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def begin(self) -> None:
        """Begin a write transaction."""
        self.run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End the transaction; it is durable then, or after `sync`."""
        self.run("COMMIT")
        self.written += 1

    def rollback(self) -> None:
        """Forget the transaction."""
        if self._link.in_transaction:
            self.run("ROLLBACK")

    def counter(self, name: str) -> int:
        """The `revision` (last commit) or the `horizon` (newest compacted revision)."""
        return int(self.run("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()[0])

    def set_counter(self, name: str, value: int) -> None:
        """Set a counter."""
        self.run("UPDATE counter SET value = ? WHERE name = ?", (value, name))

    def live(self, ref: Ref) -> bytes | None:
        """The current document."""
        row = self.run(f"SELECT document FROM live WHERE {_THIS}", ref).fetchone()  # noqa: S608 - constants
        return row[0] if row else None

    def lives(self, group: str, kind: str, namespace: str | None, part: Part = ALL) -> list[Row]:
        """(namespace, name, document) of the current objects of a kind, in order."""
        narrowed = "" if namespace is None else "AND namespace = ? "
        arguments = (group, kind) if namespace is None else (group, kind, namespace)
        statement = (
            "SELECT namespace, name, document FROM live WHERE grp = ? AND kind = ? "  # noqa: S608 - constants
            f"{narrowed}AND (namespace, name) > (?, ?) ORDER BY namespace, name LIMIT ?"
        )
        return self.run(statement, (*arguments, *part.after, part.most)).fetchall()

    def lives_count(self, group: str, kind: str, namespace: str | None, after: tuple[str, str]) -> int:
        """How many current objects of a kind come after one, in the order of `lives`."""
        statement = (
            "SELECT COUNT(*) FROM live WHERE grp = ? AND kind = ? AND (? IS NULL OR namespace = ?) "
            "AND (namespace, name) > (?, ?)"
        )
        return int(self.run(statement, (group, kind, namespace, namespace, *after)).fetchone()[0])

    def names(self, group: str, kind: str, namespace: str | None, prefix: str, most: int) -> list[tuple[str, str]]:
        """(namespace, name) of current objects whose names begin so, in order, at most so many."""
        return self.run(
            "SELECT namespace, name FROM live WHERE grp = ? AND kind = ? AND (? IS NULL OR namespace = ?) "
            "AND name >= ? AND name < ? ORDER BY namespace, name LIMIT ?",
            (group, kind, namespace, namespace, prefix, f"{prefix}\U0010ffff", most),
        ).fetchall()

    def namespaces(self) -> list[str]:
        """The namespaces that there are: those of objects, and Namespaces."""
        statement = (
            "SELECT namespace FROM live WHERE namespace != '' UNION "
            "SELECT name FROM live WHERE grp = '' AND kind = 'Namespace' ORDER BY 1"
        )
        return [row[0] for row in self.run(statement)]

    def all_lives(self) -> Iterator[Row]:
        """(group, kind, namespace, name, document) of all current objects, in order."""
        return iter(
            self.run("SELECT grp, kind, namespace, name, document FROM live ORDER BY grp, kind, namespace, name")
        )

    def past(self, group: str, kind: str, namespace: str | None, at: int, part: Part = ALL) -> list[Row]:
        """Like `lives`, as it was at a revision."""
        given = _past(group, kind, namespace, at, part.after)
        return self.run(_PAST, {**given, "most": part.most}).fetchall()

    def past_count(self, group: str, kind: str, namespace: str | None, at: int, after: tuple[str, str]) -> int:
        """Like `lives_count`, as it was at a revision."""
        return int(self.run(_PAST_COUNT, _past(group, kind, namespace, at, after)).fetchone()[0])

    def version(self, ref: Ref, at: int) -> bytes | None:
        """The document as it was at a revision."""
        statement = f"SELECT document FROM history WHERE {_THIS} AND revision <= ? ORDER BY revision DESC LIMIT 1"  # noqa: S608
        row = self.run(statement, (*ref, at)).fetchone()
        return row[0] if row else None

    def versions(self, ref: Ref) -> list[Row]:
        """(revision, operation, document, author, time, message, via, command, meant), oldest first."""
        statement = (
            "SELECT revision, operation, document, author, time, message, via, command, meant "  # noqa: S608 - constants
            f"FROM history WHERE {_THIS} ORDER BY revision"
        )
        return self.run(statement, ref).fetchall()

    def changes(self, since: int, kind: tuple[str, str] | None) -> Iterator[Row]:
        """Rows of `_CHANGES` after a revision, of all kinds or of one (group, kind)."""
        group, name = kind or (None, None)
        return iter(self.run(_CHANGES, {"since": since, "grp": group, "kind": name}))

    def commits(self, wanted: Wanted) -> list[Row]:
        """Rows of `_CHANGE` of the newest commits that are wanted, newest first."""
        terms: list[str] = []
        given: list[Any] = []
        for term, value in (
            ("grp = ? AND kind = ?", (wanted.group, wanted.kind) if wanted.kind else ()),
            ("namespace = ?", (wanted.namespace,) if wanted.namespace is not None else ()),
            ("name = ?", (wanted.name,) if wanted.name else ()),
            ("revision < ?", (wanted.before,) if wanted.before else ()),
            ("revision > ?", (wanted.after,) if wanted.after else ()),
            ("time >= ?", (wanted.since,) if wanted.since else ()),
        ):
            if value:
                terms.append(term)
                given += value
        if not wanted.status:
            terms.append("meant")
        where = " AND ".join(terms) or "1"
        order = "" if wanted.limit == 0 else "LIMIT ?"
        statement = (
            f"{_CHANGE} WHERE {where} AND h.revision IN "  # noqa: S608 - terms of this module, values apart
            f"(SELECT DISTINCT revision FROM history WHERE {where} ORDER BY revision DESC {order}) "
            "ORDER BY h.revision DESC, h.seq"
        )
        limit = [wanted.limit] if wanted.limit else []
        return self.run(statement, [*given, *given, *limit]).fetchall()

    def integrity(self) -> str:
        """`ok`, or what is damaged."""
        return str(self.run("PRAGMA quick_check(3)").fetchone()[0])

    def count(self) -> int:
        """How many objects there are."""
        return int(self.run("SELECT COUNT(*) FROM live").fetchone()[0])

    def kinds(self) -> list[tuple[str, str]]:
        """(group, kind) of everything that the history holds."""
        return self.run("SELECT DISTINCT grp, kind FROM history ORDER BY grp, kind").fetchall()

    def write(self, ref: Ref, revision: int, document: bytes | None) -> None:
        """Set or remove the current document."""
        if document is None:
            self.run(f"DELETE FROM live WHERE {_THIS}", ref)  # noqa: S608 - constants
            self.run(f"DELETE FROM place WHERE {_THIS}", ref)  # noqa: S608 - constants
        else:
            self.run("INSERT OR REPLACE INTO live VALUES (?, ?, ?, ?, ?, ?)", (*ref, revision, document))

    def keep_place(self, ref: Ref, row: Row) -> None:
        """Set the (uid, generation, file, marks) of an object."""
        self.run("INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*ref, *row))

    def place(self, ref: Ref) -> Row | None:
        """The (uid, generation, file, marks) of an object."""
        statement = f"SELECT uid, generation, file, marks FROM place WHERE {_THIS}"  # noqa: S608 - constants
        return self.run(statement, ref).fetchone()

    def record(self, row: Row) -> None:
        """Append to the history."""
        self.run("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def horizon_for(self, keep: Retention, now: float) -> int:
        """The newest revision that the bounds allow to be compacted."""
        aged = self.run("SELECT COALESCE(MAX(revision), 0) FROM history WHERE time < ?", (now - keep.seconds,))
        many = self.run("SELECT revision FROM history ORDER BY revision DESC, seq DESC LIMIT 1 OFFSET ?", (keep.rows,))
        large = self.run(
            "SELECT revision FROM (SELECT revision, SUM(COALESCE(LENGTH(document), 0) + 200) OVER "
            "(ORDER BY revision DESC, seq DESC) AS total FROM history) WHERE total > ? ORDER BY revision DESC LIMIT 1",
            (keep.bytes,),
        )
        found = [row[0] for row in (aged.fetchone(), many.fetchone(), large.fetchone()) if row]
        return min(max(found), self.counter("revision"))

    def compact(self, horizon: int) -> int:
        """Drop versions that nobody can ask for once revisions below `horizon` are gone; returns how many."""
        dropped = sum(self.run(one, {"horizon": horizon}).rowcount for one in (_SUPERSEDED, _DELETIONS))
        self.set_counter("horizon", horizon)
        return dropped


def _past(group: str, kind: str, namespace: str | None, at: int, after: tuple[str, str]) -> dict[str, Any]:
    """The arguments of a question about objects of a kind at a revision, behind one of them."""
    names = {"after_namespace": after[0], "after_name": after[1]}
    return {"grp": group, "kind": kind, "namespace": namespace, "at": at, **names}
