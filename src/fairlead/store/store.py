"""The store: documents by reference, one revision per commit, every version kept."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from fairlead.model.difference import meaning
from fairlead.model.ref import Ref
from fairlead.store.change import ALL, Change, Json, Marks, Operation, Part, Place, Version, Wanted
from fairlead.store.database import Database, Row
from fairlead.store.errors import Gone, StoreError
from fairlead.store.retention import Retention
from fairlead.store.transaction import Transaction

Documents = list[Json]
Subscriber = Callable[[Sequence[Change]], None]

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(dict).decode


class Listing(NamedTuple):
    """Documents, and the revision at which they are all there is."""

    items: Iterator[Json]
    revision: int


def _uuid() -> str:
    return str(uuid.uuid4())


class Store:
    """Versioned JSON documents in one SQLite file.

    Thread-safe: one lock, so one writer. A write takes about 0.2 ms beside what the disk takes, and nothing beside it
    where `synced` is False: then an event loop may write directly, and what must survive the machine is on the disk
    after `sync`. Subscribers are called after the commit, in commit order, on the writer's thread and under the lock:
    they should hand over and return. `clock` gives Unix seconds; `uid` makes object uids.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Callable[[], float] = time.time,
        uid: Callable[[], str] = _uuid,
        retention: Retention | None = None,
        synced: bool = True,
    ) -> None:
        self._retention = retention or Retention()
        self._clock = clock
        self._uid = uid
        self._lock = threading.RLock()
        self._database = Database(path, synced=synced)
        self._revision = self._database.counter("revision")
        self._horizon = self._database.counter("horizon")
        self._subscribers: dict[int, Subscriber] = {}
        self._undelivered: deque[tuple[Change, ...]] = deque()
        self._writing = self._delivering = False
        self._writes = 0
        self.compact()

    def close(self) -> None:
        """Release the file. The store cannot be used afterwards."""
        with self._lock:
            self._database.close()

    def sync(self) -> None:
        """Return when all that was committed before is on the disk: to be called beside an event loop, one at a time.

        Raises StoreUnusable.
        """
        self._database.sync()

    @property
    def written(self) -> int:
        """How many commits there were since it was opened: those of a revision, and others (`keep_places`)."""
        return self._database.written

    @property
    def revision(self) -> int:
        """The revision of the last commit; 0 in a new store."""
        return self._revision

    @property
    def oldest(self) -> int:
        """The oldest revision that can still be read."""
        return self._horizon

    # Reading

    def get(self, ref: Ref) -> Json | None:
        """The current document, or None."""
        with self._lock:
            found = self._database.live(ref)
        return None if found is None else _decode(found)

    def get_at(self, ref: Ref, revision: int) -> Json | None:
        """The document as it was at a revision, or None if it did not exist then. Raises Gone."""
        with self._lock:
            self._check(revision)
            found = self._database.version(ref, revision)
        return None if found is None else _decode(found)

    def list(self, group: str, kind: str, namespace: str | None = None, at: int | None = None) -> Documents:
        """The documents of a kind in order of namespace and name, now or at a revision. Raises Gone."""
        return list(self.listing(group, kind, namespace, at).items)

    def listing(
        self, group: str, kind: str, namespace: str | None = None, at: int | None = None, part: Part = ALL
    ) -> Listing:
        """Like `list`, or a part of it, with the revision that the answer belongs to. No document of another is read.

        Decoded as they are read: who looks for some only need not have all of them.
        """
        with self._lock:
            if at is None or at == self._revision:
                rows, revision = self._database.lives(group, kind, namespace, part), self._revision
            else:
                self._check(at)
                rows, revision = self._database.past(group, kind, namespace, at, part), at
        return Listing((_decode(row[2]) for row in rows), revision)

    def behind(self, group: str, kind: str, namespace: str | None, at: int, after: tuple[str, str]) -> int:
        """How many objects of a kind come behind (namespace, name) in a list of them at a revision."""
        with self._lock:
            if at == self._revision:
                return self._database.lives_count(group, kind, namespace, after)
            return self._database.past_count(group, kind, namespace, at, after)

    def mentioning(self, group: str, kind: str, text: str) -> Documents:
        """The current documents of a kind in whose JSON this text stands: others are not decoded."""
        with self._lock:
            rows = self._database.lives(group, kind, None)
        sought = text.encode()
        return [_decode(row[2]) for row in rows if sought in row[2]]

    def snapshot(self, at: int | None = None) -> tuple[dict[Ref, Json], int]:
        """Everything, now or at a revision, and that revision. Raises Gone."""
        with self._lock:
            if at is None:
                return {Ref(*row[:4]): _decode(row[4]) for row in self._database.all_lives()}, self._revision
            revision = at
            out: dict[Ref, Json] = {}
            for group, kind in self._database.kinds():
                self._check(revision)
                for namespace, name, document in self._database.past(group, kind, None, revision):
                    out[Ref(group, kind, namespace, name)] = _decode(document)
        return out, revision

    def history(self, ref: Ref) -> Sequence[Version]:
        """The versions that are kept, oldest first."""
        return list(self.versions(ref))

    def versions(self, ref: Ref) -> Iterator[Version]:
        """Like `history`; decoded as they are read, for there may be many."""
        with self._lock:
            rows = self._database.versions(ref)
        return (
            Version(row[0], row[1], None if row[2] is None else _decode(row[2]), *row[3:8], meant=bool(row[8]))
            for row in rows
        )

    def changes_since(self, revision: int, kind: tuple[str, str] | None = None) -> Sequence[Change]:
        """Every change after a revision, in order; of one (group, kind) if given. Raises Gone."""
        with self._lock:
            self._check(revision)
            rows = [] if revision == self._revision else [*self._database.changes(revision, kind)]
        return [_change(row) for row in rows]

    def commits(self, wanted: Wanted) -> Iterator[Change]:
        """The changes of the newest commits that are wanted, newest commit first; decoded as they are read."""
        with self._lock:
            rows = self._database.commits(wanted)
        return _changes(rows)

    def names(self, group: str, kind: str, namespace: str | None, prefix: str, most: int) -> list[tuple[str, str]]:
        """(namespace, name) of current objects whose names begin so, in order, at most so many."""
        with self._lock:
            return self._database.names(group, kind, namespace, prefix, most)

    def namespaces(self) -> list[str]:
        """The namespaces that there are, in order."""
        with self._lock:
            return self._database.namespaces()

    def integrity(self) -> str:
        """`ok`, or what of the file is damaged; reads all of it."""
        with self._lock:
            return self._database.integrity()

    def count(self) -> int:
        """How many objects there are."""
        with self._lock:
            return self._database.count()

    def require(self, revision: int) -> None:
        """Raise Gone if what there was at a revision cannot be read any more."""
        with self._lock:
            self._check(revision)

    def then(self, revision: int) -> dict[Ref, Json | None]:
        """What has changed since a revision, as it was then (None: it did not exist). Raises Gone."""
        out: dict[Ref, Json | None] = {}
        for one in self.changes_since(revision):
            out.setdefault(one.ref, one.old)
        return out

    def _check(self, revision: int) -> None:
        if revision < self._horizon or revision > self._revision:
            raise Gone(revision, self._horizon, self._revision)

    # Writing

    @contextmanager
    def transaction(
        self, *, author: str = "", message: str = "", via: str = "", command: str = ""
    ) -> Generator[Transaction]:
        """Writes with one revision. An exception inside undoes them all. Transactions do not nest."""
        with self._lock:
            if self._writing:
                raise StoreError("a transaction is open already")
            now = self._clock()
            self._writing = True
            try:
                self._database.begin()
                made = Transaction(self._database, self._revision + 1, now, self._uid)
                yield made
                meant = self._finish(made, (author, now, message, via, command))
            except BaseException:
                self._database.rollback()
                raise
            finally:
                self._writing = False
            if made.changes:
                self._undelivered.append(
                    tuple(
                        Change(made.revision, operation, ref, old, new, author, now, message, via, command, means)
                        for (operation, ref, old, new), means in zip(made.changes, meant, strict=True)
                    )
                )
                self._deliver()
                self._writes += len(made.changes)
                if self._writes >= self._retention.every:
                    self.compact()

    def _finish(self, made: Transaction, said: tuple[str, float, str, str, str]) -> list[bool]:
        """Commit; for each change whether it meant something beside status and bookkeeping."""
        made.changes = _folded(made.changes)
        if not made.changes:
            self._database.rollback()
            return []
        meant = [old is None or new is None or meaning(old) != meaning(new) for _, _, old, new in made.changes]
        for seq, (operation, ref, _, new) in enumerate(made.changes):
            document = None if new is None else _encode(new)
            self._database.record((made.revision, seq, *ref, operation, document, *said, meant[seq]))
        self._database.set_counter("revision", made.revision)
        self._database.commit()
        self._revision = made.revision
        return meant

    def create(self, ref: Ref, document: Json, *, author: str = "", message: str = "") -> Json:
        """Add an object; returns it as stored. Raises AlreadyExists."""
        with self.transaction(author=author, message=message) as made:
            return made.create(ref, document)

    def update(self, ref: Ref, document: Json, *, author: str = "", message: str = "") -> Json:
        """Replace an object; returns it as stored. Raises NotFound, Conflict."""
        with self.transaction(author=author, message=message) as made:
            return made.update(ref, document)

    def put(self, ref: Ref, document: Json, *, author: str = "", message: str = "") -> Json:
        """Create or replace an object; returns it as stored. Raises NotFound, Conflict."""
        with self.transaction(author=author, message=message) as made:
            return made.put(ref, document)

    def delete(
        self, ref: Ref, *, resource_version: str = "", uid: str = "", author: str = "", message: str = ""
    ) -> Json:
        """Remove an object; returns its last document. Raises NotFound, Conflict."""
        with self.transaction(author=author, message=message) as made:
            return made.delete(ref, resource_version=resource_version, uid=uid)

    # Places in files

    def keep_places(self, places: Iterable[Place]) -> None:
        """Remember where objects stand in files. It is about them and no part of them: there is no revision of it."""
        with self._lock:
            self._database.begin()
            try:
                for one in places:
                    self._database.keep_place(one.ref, (one.uid, one.generation, one.file, _encode(one.marks)))
                self._database.commit()
            except BaseException:
                self._database.rollback()
                raise

    def place(self, ref: Ref) -> Place | None:
        """Where an object stood in a file when it was last applied from one."""
        with self._lock:
            found = self._database.place(ref)
        if found is None:
            return None
        uid, generation, file, marks = found
        return Place(ref, uid, generation, file, msgspec.json.decode(marks, type=Marks))

    # Following

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback` with the changes of every commit from now on; returns what ends it."""
        with self._lock:
            key = max(self._subscribers, default=0) + 1
            self._subscribers[key] = callback

        def end() -> None:
            with self._lock:
                self._subscribers.pop(key, None)

        return end

    def _deliver(self) -> None:
        # A subscriber may write: its commit waits here until everyone has seen the one before.
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._undelivered:
                changes = self._undelivered.popleft()
                for callback in [*self._subscribers.values()]:
                    try:
                        callback(changes)
                    except Exception:
                        _log.exception("a subscriber of the store failed at revision %d", changes[0].revision)
        finally:
            self._delivering = False

    def compact(self, before: int | None = None) -> int:
        """Drop versions superseded at or before a revision (default: as retention says); returns how many."""
        with self._lock:
            self._writes = 0
            horizon = self._database.horizon_for(self._retention, self._clock()) if before is None else before
            horizon = min(horizon, self._revision)
            if horizon <= self._horizon:
                return 0
            self._database.begin()
            try:
                dropped = self._database.compact(horizon)
                self._database.commit()
            except BaseException:
                self._database.rollback()
                raise
            self._horizon = horizon
            return dropped


def _changes(rows: Sequence[Row]) -> Iterator[Change]:
    """From rows that are newest first: the older document of one is the newer one of the next of that object."""
    known: dict[Ref, tuple[object, Json]] = {}
    for row in rows:
        ref = Ref(*row[2:6])
        was, document = known.pop(ref, (b"", None))
        new = document if row[6] is not None and row[6] == was else None if row[6] is None else _decode(row[6])
        old = None if row[1] == "ADDED" or row[13] is None else _decode(row[13])
        if old is not None:
            known[ref] = (row[13], old)
        yield Change(row[0], row[1], ref, old, new, *row[7:12], meant=bool(row[12]))


def _change(row: Row) -> Change:
    """From a row of the database's changes."""
    return Change(
        row[0],
        row[1],
        Ref(*row[2:6]),
        None if row[1] == "ADDED" or row[13] is None else _decode(row[13]),
        None if row[6] is None else _decode(row[6]),
        *row[7:12],
        meant=bool(row[12]),
    )


def _folded(
    changes: Sequence[tuple[Operation, Ref, Json | None, Json | None]],
) -> list[tuple[Operation, Ref, Json | None, Json | None]]:
    """At most one change per object: what the whole transaction did to it."""
    out: dict[Ref, tuple[Json | None, Json | None]] = {}
    for _, ref, old, new in changes:
        first = out[ref][0] if ref in out else old
        out[ref] = (first, new)
    folded: list[tuple[Operation, Ref, Json | None, Json | None]] = []
    for ref, (old, new) in out.items():
        if old is None and new is None:
            continue
        operation: Operation = "ADDED" if old is None else "DELETED" if new is None else "MODIFIED"
        folded.append((operation, ref, old, new))
    return folded
