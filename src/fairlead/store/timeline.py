"""What happened in the mesh beside commits: pushes, refusals, proxies that come and go, certificates, endpoints.

A database of its own beside the store's, because what happens often must not stand in the way of what people write:
rows are gathered and written in batches, and the last second of them may be lost with the power. Who answered a push
stands beside its row in a compact form (`store.answers`), with proxies by number.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.store.answers import Answers, How, answered, packed
from fairlead.store.change import Json
from fairlead.store.errors import StoreUnusable

SORTS = (
    "push",
    "nack",
    "joined",
    "synced",
    "left",
    "endpoint",
    "certificate",
    "rotation",
    "health",
    "held",
    "released",
    "started",
    "stopped",
)
_APPLICATION = 0x464C544C
_LAYOUT = 1
_FIRST = (
    "CREATE TABLE happened (id INTEGER PRIMARY KEY, time REAL NOT NULL, sort TEXT NOT NULL, subject TEXT NOT NULL, "
    "proxy TEXT NOT NULL, first INTEGER NOT NULL, revision INTEGER NOT NULL, text TEXT NOT NULL, detail BLOB)",
    "CREATE INDEX happened_time ON happened (time)",
    "CREATE INDEX happened_push ON happened (revision) WHERE sort = 'push'",
    f"PRAGMA application_id={_APPLICATION}",
)
_UPGRADES = (
    (
        "CREATE TABLE proxies (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, seen REAL NOT NULL)",
        "CREATE TABLE answers (happening INTEGER PRIMARY KEY, proxies INTEGER NOT NULL, rows BLOB NOT NULL)",
    ),
)
"""What turns each layout into the next one, beginning with the first, which has the number 0."""
_ALIKE = 20
_NAMED = 100
_FEW = 50
"""Answers of so many proxies are read with every row."""
_CHUNK = 500


class Answer(msgspec.Struct, frozen=True):
    """What one proxy (NAME.NAMESPACE) did with a push, so many seconds after its oldest change was committed.

    Of an event that many proxies had in common: which they were, and how long after the first.
    """

    proxy: str
    seconds: float
    how: How


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
    rows: array[int] | None = None
    """Rows of `store.answers`, of what is written."""
    answers: tuple[Answer, ...] | None = None
    """Of what is read, as far as it was asked for; None where there are none."""


class Bounds(msgspec.Struct, frozen=True):
    """How much is kept: by age in seconds, by rows and by bytes of the file, looked at once in `every` rows."""

    seconds: float = 30 * 24 * 3600
    rows: int = 500_000
    bytes: int = 512 << 20
    every: int = 1_000


class Asked(msgspec.Struct, frozen=True):
    """What of the timeline is wanted: since a time, after an id, of some sorts; pushes with a revision; the newest.

    `proxy` leaves out what is known not to be about that proxy, and of pushes gives its answer alone; `every` gives
    the answers of all proxies, where otherwise only those of small pushes are read.
    """

    since: float = 0
    after: int = 0
    sorts: tuple[str, ...] = ()
    revision: int = 0
    limit: int = 1000
    proxy: str = ""
    every: bool = False


class Timeline:
    """Rows in one SQLite file. Thread-safe. `note` costs an append; `flush` writes what was noted."""

    def __init__(
        self, path: Path | str, *, bounds: Bounds | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._bounds = bounds or Bounds()
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: list[Happening] = []
        self._rows = self._bounds.every
        """Rows written since it was last looked at what may go; at once after a start."""
        self._closed = False
        self._naming = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next = 1
        self._new: dict[int, str] = {}
        self._used: set[int] = set()
        try:
            if str(path) != ":memory:":
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._link = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._prepare(str(path))
        except (OSError, sqlite3.Error) as error:
            full = "full" in str(error)
            remedy = "make room on its disk" if full else "move it away, it is made anew"
            raise StoreUnusable(f"cannot open {path}: {error}: {remedy}") from None

    def _prepare(self, path: str) -> None:
        # A lost second of it is no harm, so the disk is not waited for.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            self._link.execute(f"PRAGMA {pragma}").fetchall()
        self._link.execute("BEGIN EXCLUSIVE")
        if not self._link.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _FIRST:
                self._link.execute(statement)
        elif self._link.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise StoreUnusable(f"{path} is not a timeline: move it away, it is made anew")
        layout = self._link.execute("PRAGMA user_version").fetchone()[0]
        if layout > _LAYOUT:
            raise StoreUnusable(f"{path} was written by a newer Fairlead (layout {layout}): move it away or use that")
        for statements in _UPGRADES[layout:]:
            for statement in statements:
                self._link.execute(statement)
        self._link.execute(f"PRAGMA user_version={_LAYOUT}")
        self._link.execute("COMMIT")
        self._names = dict(self._link.execute("SELECT number, name FROM proxies"))
        self._numbers = {name: number for number, name in self._names.items()}
        self._next = max(self._names, default=0) + 1

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

    def number(self, proxy: str) -> int:
        """The number that stands for a proxy (NAME.NAMESPACE) in rows of answers."""
        found = self._numbers.get(proxy)
        if found is None:
            with self._naming:
                found, self._next = self._next, self._next + 1
                self._numbers[proxy] = found
                self._names[found] = self._new[found] = proxy
        return found

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
        written = list(self._gathered(noted))
        with self._naming:
            names = dict(self._new)
        now = self._clock()
        try:
            self._link.execute("BEGIN")
            seen = [(number, name, now) for number, name in names.items()]
            self._link.executemany("INSERT OR REPLACE INTO proxies VALUES (?, ?, ?)", seen)
            for one in written:
                self._insert(one)
            self._rows += len(written)
            if self._rows >= self._bounds.every:
                self._rows = 0
                self._forget(now)
            self._link.execute("COMMIT")
        except sqlite3.Error as error:
            if self._link.in_transaction:
                self._link.execute("ROLLBACK")
            raise StoreUnusable(f"the timeline cannot be written: {error}") from None
        with self._naming:
            for number in names:
                del self._new[number]

    def _insert(self, one: Happening) -> None:
        detail = None if one.detail is None else msgspec.json.encode(one.detail)
        at = self._link.execute(
            "INSERT INTO happened (time, sort, subject, proxy, first, revision, text, detail) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (one.time, one.sort, one.subject, one.proxy, one.first, one.revision, one.text, detail),
        ).lastrowid
        if one.rows:
            numbers, data = packed(one.rows)
            self._used.update(numbers)
            self._link.execute("INSERT INTO answers VALUES (?, ?, ?)", (at, len(numbers), data))

    def _forget(self, now: float) -> None:
        """Drop what is older than the bounds allow, and the names of proxies of which nothing is left."""
        first, last = self._link.execute("SELECT COALESCE(MIN(id), 1), COALESCE(MAX(id), 0) FROM happened").fetchone()
        aged = self._link.execute("SELECT MAX(id) FROM happened WHERE time < ?", (now - self._bounds.seconds,))
        horizon = max(aged.fetchone()[0] or 0, last - self._bounds.rows)
        self._drop(horizon)
        while self._size() > self._bounds.bytes and horizon < last:
            horizon = max(horizon, first) + max((last - first) // 10, 1)
            self._drop(horizon)
        used, self._used = self._used, set()
        self._link.executemany("UPDATE proxies SET seen = ? WHERE number = ?", [(now, number) for number in used])
        kept = self._link.execute("SELECT MIN(time) FROM happened").fetchone()[0] or now
        with self._naming:
            unseen = "SELECT number, name FROM proxies WHERE seen < ?"
            for number, name in self._link.execute(unseen, (kept,)).fetchall():
                # A name that is given a number again begins anew: nothing that is kept has the old one.
                if self._numbers.pop(name, None) is not None:
                    self._names.pop(number, None)
                self._link.execute("DELETE FROM proxies WHERE number = ?", (number,))

    def _drop(self, until: int) -> None:
        self._link.execute("DELETE FROM happened WHERE id <= ?", (until,))
        self._link.execute("DELETE FROM answers WHERE happening <= ?", (until,))

    def _size(self) -> int:
        """Bytes of the file that are in use."""
        pages, free, size = (
            self._link.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def listing(
        self, asked: Asked, wanted: Callable[[Happening], bool] = lambda _: True
    ) -> list[tuple[int, Happening]]:
        """The newest that are asked for and wanted, oldest first, each with its id."""
        found: list[tuple[int, Happening]] = []
        before = 0
        while True:
            rows = self._chunk(asked, before)
            for row in rows:
                one = self._read(row, asked)
                if one is not None and wanted(one):
                    found.append((row[0], one))
                    if len(found) == asked.limit:
                        break
            if len(rows) < _CHUNK or (asked.limit and len(found) == asked.limit):
                return found[::-1]
            before = rows[-1][0]

    def _chunk(self, asked: Asked, before: int) -> list[tuple[Any, ...]]:
        terms: list[str] = ["time >= ?", "id > ?"]
        values: list[Any] = [asked.since, asked.after]
        for term, given in (
            ("id < ?", (before,) if before else ()),
            (f"sort IN ({', '.join('?' for _ in asked.sorts)})", asked.sorts),
            ("sort = 'push' AND revision >= ? AND first <= ?", (asked.revision,) * 2 if asked.revision else ()),
            ("proxy IN (?, '')", (asked.proxy,) if asked.proxy else ()),
        ):
            if given:
                terms.append(term)
                values += given
        few = "" if asked.proxy or asked.every else f"AND proxies <= {_FEW}"
        statement = (
            "SELECT id, time, sort, text, subject, proxy, first, revision, detail, rows "  # noqa: S608 - terms of this module
            f"FROM happened LEFT JOIN answers ON happening = id {few} "
            f"WHERE {' AND '.join(terms)} ORDER BY id DESC LIMIT {_CHUNK}"
        )
        with self._lock:
            self._flush()
            return self._link.execute(statement, values).fetchall()

    def _read(self, row: tuple[Any, ...], asked: Asked) -> Happening | None:
        """What a row says; None if it has the answers of proxies, and not of the one that is asked for."""
        answers: tuple[Answer, ...] | None = None
        if row[9] is not None:
            known = Answers(row[9])
            if asked.proxy:
                one = known.of(self._numbers.get(asked.proxy, 0))
                if one is None:
                    return None
                answers = (Answer(asked.proxy, *one),)
            else:
                each = (known.at(index) for index in range(len(known)))
                answers = tuple(Answer(self._names.get(number, "?"), seconds, how) for number, seconds, how in each)
        detail = None if row[8] is None else msgspec.json.decode(row[8])
        return Happening(*row[1:8], detail=detail, answers=answers)

    def _gathered(self, noted: Sequence[Happening]) -> Iterable[Happening]:
        """Many that say the same of proxies within a batch become one that names some of them, and numbers all."""
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
                rows = {
                    self.number(each.proxy): answered(self.number(each.proxy), each.time - one.time, How.ACKNOWLEDGED)
                    for each in found
                }
                yield msgspec.structs.replace(
                    one,
                    proxy="",
                    text=f"{len(names)} proxies: {one.text}",
                    detail={"count": len(names), "proxies": names[:_NAMED]},
                    rows=array("Q", rows.values()),
                )
