"""What happened in the mesh beside commits: pushes, refusals, proxies that come and go, certificates, health.

A database of its own beside the store's, because what happens often must not stand in the way of what people write:
rows are gathered and written in batches, and the last second of them may be lost with the power.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.store.change import Json
from fairlead.store.errors import StoreUnusable

SORTS = (
    "push",
    "nack",
    "joined",
    "left",
    "certificate",
    "rotation",
    "health",
    "held",
    "released",
    "started",
    "stopped",
)
_APPLICATION = 0x464C544C
_SCHEMA = (
    "CREATE TABLE happened (id INTEGER PRIMARY KEY, time REAL NOT NULL, sort TEXT NOT NULL, subject TEXT NOT NULL, "
    "proxy TEXT NOT NULL, first INTEGER NOT NULL, revision INTEGER NOT NULL, text TEXT NOT NULL, detail BLOB)",
    "CREATE INDEX happened_time ON happened (time)",
    "CREATE INDEX happened_push ON happened (revision) WHERE sort = 'push'",
    f"PRAGMA application_id={_APPLICATION}",
)
_ALIKE = 20
_NAMED = 100


class Happening(msgspec.Struct, frozen=True):
    """One thing that happened. `time` is Unix seconds, `sort` one of SORTS, `subject` what it happened to.

    `proxy` is NAME.NAMESPACE where it is about one proxy. A push is of the revisions `first` to `revision`.
    """

    time: float
    sort: str
    text: str
    subject: str = ""
    proxy: str = ""
    first: int = 0
    revision: int = 0
    detail: Json | None = None


class Bounds(msgspec.Struct, frozen=True):
    """How much is kept: by age in seconds and by rows, looked at once in `every` rows."""

    seconds: float = 30 * 24 * 3600
    rows: int = 500_000
    every: int = 5_000


class Asked(msgspec.Struct, frozen=True):
    """What of the timeline is wanted: since a time, after an id, of some sorts; pushes with a revision; the newest."""

    since: float = 0
    after: int = 0
    sorts: tuple[str, ...] = ()
    revision: int = 0
    limit: int = 1000


class Timeline:
    """Rows in one SQLite file. Thread-safe. `note` costs an append; `flush` writes what was noted."""

    def __init__(
        self, path: Path | str, *, bounds: Bounds | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._bounds = bounds or Bounds()
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: list[Happening] = []
        self._rows = 0
        self._closed = False
        try:
            if str(path) != ":memory:":
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._link = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._prepare(str(path))
        except (OSError, sqlite3.Error) as error:
            raise StoreUnusable(f"cannot open {path}: {error}: move it away, it is made anew") from None

    def _prepare(self, path: str) -> None:
        # A lost second of it is no harm, so the disk is not waited for.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            self._link.execute(f"PRAGMA {pragma}").fetchall()
        if not self._link.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _SCHEMA:
                self._link.execute(statement)
        elif self._link.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise StoreUnusable(f"{path} is not a timeline: move it away, it is made anew")

    def close(self) -> None:
        """Write what was noted, and release the file; once more does nothing. Raises StoreUnusable."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._flush()
            finally:
                self._link.close()

    def note(self, *happened: Happening) -> None:
        """Remember; written by the next `flush`."""
        self._noted += happened

    @property
    def waiting(self) -> int:
        """How many are noted and not yet written."""
        return len(self._noted)

    def flush(self) -> None:
        """Write what was noted, in one transaction. Raises StoreUnusable (disk full), and forgets it then."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        noted, self._noted = self._noted, []
        if not noted:
            return
        rows = [
            (
                one.time,
                one.sort,
                one.subject,
                one.proxy,
                one.first,
                one.revision,
                one.text,
                None if one.detail is None else msgspec.json.encode(one.detail),
            )
            for one in _gathered(noted)
        ]
        try:
            self._link.execute("BEGIN")
            self._link.executemany(
                "INSERT INTO happened (time, sort, subject, proxy, first, revision, text, detail) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._rows += len(rows)
            if self._rows >= self._bounds.every:
                self._rows = 0
                self._forget()
            self._link.execute("COMMIT")
        except sqlite3.Error as error:
            if self._link.in_transaction:
                self._link.execute("ROLLBACK")
            raise StoreUnusable(f"the timeline cannot be written: {error}") from None

    def _forget(self) -> None:
        self._link.execute("DELETE FROM happened WHERE time < ?", (self._clock() - self._bounds.seconds,))
        self._link.execute("DELETE FROM happened WHERE id <= (SELECT MAX(id) FROM happened) - ?", (self._bounds.rows,))

    def listing(self, asked: Asked) -> list[tuple[int, Happening]]:
        """The newest that are asked for, oldest first, each with its id."""
        terms, given = ["time >= ?", "id > ?"], [asked.since, asked.after]
        values: list[Any] = [*given]
        if asked.sorts:
            terms.append(f"sort IN ({', '.join('?' for _ in asked.sorts)})")
            values += asked.sorts
        if asked.revision:
            terms.append("sort = 'push' AND revision >= ? AND first <= ?")
            values += (asked.revision, asked.revision)
        statement = (
            "SELECT id, time, sort, text, subject, proxy, first, revision, detail FROM happened "  # noqa: S608
            f"WHERE {' AND '.join(terms)} ORDER BY id DESC LIMIT ?"
        )
        with self._lock:
            self._flush()
            rows = self._link.execute(statement, [*values, asked.limit or -1]).fetchall()
        return [
            (row[0], Happening(*row[1:8], detail=None if row[8] is None else msgspec.json.decode(row[8])))
            for row in reversed(rows)
        ]


def _gathered(noted: Sequence[Happening]) -> Iterable[Happening]:
    """Many that say the same of proxies within a batch become one that names some of them."""
    alike: dict[tuple[str, str, str], list[Happening]] = {}
    for one in noted:
        if one.proxy:
            alike.setdefault((one.sort, one.subject, one.text), []).append(one)
    many = {key: found for key, found in alike.items() if len(found) > _ALIKE}
    for one in noted:
        found = many.get((one.sort, one.subject, one.text)) if one.proxy else None
        if found is None:
            yield one
        elif found[0] is one:
            names = [each.proxy for each in found]
            detail: Json = {"count": len(names), "proxies": names[:_NAMED]}
            yield msgspec.structs.replace(one, proxy="", text=f"{len(names)} proxies: {one.text}", detail=detail)
