"""The store: concurrency control, revisions, history, compaction, following."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.ref import Ref
from fairlead.store import (
    AlreadyExists,
    Change,
    Conflict,
    Gone,
    NotFound,
    Place,
    Retention,
    Store,
    StoreError,
    StoreUnusable,
)

A = Ref("example.dev", "Thing", "default", "a")
B = Ref("example.dev", "Thing", "other", "b")


class Clock:
    """A clock that the test turns."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    numbers = count(1)
    made = Store(tmp_path / "store.db", clock=clock, uid=lambda: f"uid-{next(numbers)}")
    yield made
    made.close()


def thing(size: int = 1, **meta: Any) -> dict[str, Any]:
    return {"apiVersion": "example.dev/v1", "kind": "Thing", "metadata": meta, "spec": {"size": size}}


def test_create_sets_the_stores_own_metadata(store: Store) -> None:
    made = store.create(A, thing(resourceVersion="", uid="forged", labels={"x": "y"}))
    assert made["metadata"] == {
        "name": "a",
        "namespace": "default",
        "labels": {"x": "y"},
        "uid": "uid-1",
        "creationTimestamp": "2023-11-14T22:13:20Z",
        "generation": 1,
        "resourceVersion": "1",
    }
    assert store.get(A) == made
    with pytest.raises(AlreadyExists):
        store.create(A, thing())
    assert store.revision == 1


def test_generation_follows_the_spec_only(store: Store) -> None:
    made = store.create(A, thing())
    made["metadata"]["labels"] = {"x": "y"}
    made["status"] = {"ready": True}
    made = store.update(A, made)
    assert (made["metadata"]["generation"], made["metadata"]["resourceVersion"]) == (1, "2")
    made["spec"]["size"] = 2
    assert store.update(A, made)["metadata"]["generation"] == 2


def test_a_write_that_changes_nothing_makes_no_revision(store: Store) -> None:
    seen: list[Change] = []
    store.create(A, thing())
    store.subscribe(seen.extend)
    assert store.update(A, thing())["metadata"]["resourceVersion"] == "1"
    assert store.put(A, thing())["metadata"]["resourceVersion"] == "1"
    assert store.revision == 1
    assert not seen
    assert len(store.history(A)) == 1


def test_optimistic_concurrency(store: Store) -> None:
    first = store.create(A, thing())
    store.update(A, thing(2))
    first["spec"]["size"] = 3
    with pytest.raises(Conflict) as caught:
        store.update(A, first)
    assert caught.value.field == "resourceVersion"
    with pytest.raises(Conflict):
        store.delete(A, resource_version="1")
    with pytest.raises(Conflict):
        store.delete(A, uid="someone-else")
    store.delete(A, resource_version="2", uid="uid-1")
    with pytest.raises(NotFound):
        store.delete(A)
    with pytest.raises(NotFound):
        store.update(A, thing())
    assert store.get(A) is None


def test_the_past_can_be_read(store: Store) -> None:
    store.create(A, thing(1))
    store.create(B, thing(1))
    store.update(A, thing(2), author="ann", message="bigger")
    store.delete(A)
    assert [one["metadata"]["name"] for one in store.list("example.dev", "Thing", at=2)] == ["a", "b"]
    assert [one["metadata"]["name"] for one in store.list("example.dev", "Thing")] == ["b"]
    assert store.list("example.dev", "Thing", "default") == []
    assert [one["spec"]["size"] for one in store.list("example.dev", "Thing", "default", at=3)] == [2]
    at_two = store.get_at(A, 2)
    assert at_two is not None
    assert at_two["spec"] == {"size": 1}
    assert store.get_at(A, 4) is None
    assert [(one.revision, one.operation) for one in store.history(A)] == [
        (1, "ADDED"),
        (3, "MODIFIED"),
        (4, "DELETED"),
    ]
    assert (store.history(A)[1].author, store.history(A)[1].message) == ("ann", "bigger")
    documents, revision = store.snapshot(3)
    assert (set(documents), revision) == ({A, B}, 3)
    with pytest.raises(Gone):
        store.get_at(A, 5)


def test_a_transaction_has_one_revision_or_none(store: Store) -> None:
    commits: list[Sequence[Change]] = []
    store.subscribe(commits.append)
    with store.transaction(author="ann") as made:
        made.create(A, thing())
        made.create(B, thing())
        made.update(A, thing(2))
    assert store.revision == 1
    assert [[(one.operation, one.ref) for one in changes] for changes in commits] == [[("ADDED", A), ("ADDED", B)]]
    with pytest.raises(NotFound), store.transaction() as made:
        made.delete(A)
        made.update(Ref("example.dev", "Thing", "x", "missing"), thing())
    assert store.get(A) is not None
    with store.transaction() as made:
        made.create(Ref("example.dev", "Thing", "x", "short"), thing())
        made.delete(Ref("example.dev", "Thing", "x", "short"))
    assert store.revision == 1
    with pytest.raises(StoreError), store.transaction(), store.transaction():
        pass


def test_changes_since_give_old_and_new(store: Store) -> None:
    store.create(A, thing(1))
    store.update(A, thing(2))
    store.delete(A)
    changes = store.changes_since(0)
    assert [one.operation for one in changes] == ["ADDED", "MODIFIED", "DELETED"]
    sizes = [(one.old and one.old["spec"]["size"], one.new and one.new["spec"]["size"]) for one in changes]
    assert sizes == [(None, 1), (1, 2), (2, None)]
    assert store.changes_since(3) == []
    with pytest.raises(Gone):
        store.changes_since(4)


def test_subscribers_see_commits_in_order_even_if_one_writes(store: Store) -> None:
    seen: list[tuple[str, int]] = []

    def writer(changes: Sequence[Change]) -> None:
        if changes[0].ref == A and changes[0].operation == "ADDED":
            store.create(B, thing())
            raise RuntimeError("a subscriber's failure stays its own")

    store.subscribe(writer)
    end = store.subscribe(lambda changes: seen.extend((one.ref.name, one.revision) for one in changes))
    store.create(A, thing())
    assert seen == [("a", 1), ("b", 2)]
    end()
    store.delete(A)
    assert len(seen) == 2


def test_what_a_caller_alters_is_not_stored(store: Store) -> None:
    document = thing()
    made = store.create(A, document)
    made["spec"]["size"] = 9
    document["spec"]["size"] = 9
    found = store.get(A)
    assert found is not None
    assert found["spec"]["size"] == 1


def test_compaction_keeps_what_is_current_and_what_is_newer(store: Store) -> None:
    for size in range(1, 6):
        store.put(A, thing(size))
    store.create(B, thing())
    store.delete(B)
    assert store.compact(3) == 2
    assert [one.revision for one in store.history(A)] == [3, 4, 5]
    at_three = store.get_at(A, 3)
    assert at_three is not None
    assert at_three["spec"]["size"] == 3
    for stale in (lambda: store.get_at(A, 2), lambda: store.changes_since(2), lambda: store.list("e", "T", at=2)):
        with pytest.raises(Gone) as caught:
            stale()
        assert caught.value.oldest == 3
    assert store.changes_since(3)[0].old == at_three
    store.compact(7)
    assert store.history(B) == []
    assert [one.revision for one in store.history(A)] == [5]
    assert set(store.snapshot()[0]) == {A}


@pytest.mark.parametrize(
    "keep",
    [Retention(rows=3, every=1), Retention(bytes=1500, every=1), Retention(seconds=25, every=1)],
    ids=["rows", "bytes", "age"],
)
def test_history_is_bounded(tmp_path: Path, clock: Clock, keep: Retention) -> None:
    store = Store(tmp_path / "store.db", clock=clock, retention=keep)
    store.create(B, thing())
    for size in range(20):
        clock.now += 10
        store.put(A, thing(size))
    assert 1 <= len(store.history(A)) <= 5
    assert store.history(A)[-1].revision == store.revision
    assert store.get(B) is not None
    assert store.snapshot()[0].keys() == {A, B}
    oldest = store.oldest
    store.close()
    again = Store(tmp_path / "store.db", clock=clock, retention=keep)
    assert again.oldest >= oldest > 0
    assert again.get(A) is not None
    again.close()


def test_threads_share_a_store(store: Store) -> None:
    def write(at: int) -> None:
        for number in range(25):
            store.create(Ref("example.dev", "Thing", f"n{at}", str(number)), thing())

    threads = [threading.Thread(target=write, args=(at,)) for at in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert store.revision == 100
    assert len(store.list("example.dev", "Thing")) == 100


def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StoreUnusable, match="in use by another process"):
        Store(tmp_path / "store.db")
    (tmp_path / "noise.db").write_bytes(b"not a database, but long enough to look like one" * 50)
    with pytest.raises(StoreUnusable, match="damaged or not a database"):
        Store(tmp_path / "noise.db")
    with pytest.raises(StoreUnusable, match="cannot open"):
        Store(tmp_path / "noise.db" / "below" / "store.db")
    assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o600


def test_places_are_about_objects_and_no_part_of_them(store: Store) -> None:
    made = store.create(A, thing())
    heard: list[Sequence[Change]] = []
    store.subscribe(heard.append)
    place = Place(A, made["metadata"]["uid"], 1, "shop.yaml", ((("spec",), 4, 1), (("spec", "size"), 5, 3)))
    store.keep_places([place, Place(B, "u", 1, "b.yaml")])
    assert store.place(A) == place and store.place(B) == Place(B, "u", 1, "b.yaml")
    assert store.revision == 1 and not heard and store.get(A) == made and len(store.history(A)) == 1
    again = Place(A, "uid-1", 2, "other.yaml")
    store.keep_places([again])
    assert store.place(A) == again
    store.delete(A)
    assert store.place(A) is None


OLDER = {
    1: (
        "DROP TABLE place",
        "DROP INDEX history_meant",
        *(f"ALTER TABLE history DROP COLUMN {one}" for one in ("via", "command", "meant")),
    ),
    2: ("DROP TABLE place",),
}
"""What makes a file as an older layout had it."""


@pytest.mark.parametrize("layout", [1, 2])
def test_a_file_of_an_older_layout_is_taken_over(tmp_path: Path, layout: int) -> None:
    path = tmp_path / "store.db"
    store = Store(path)
    made = store.create(A, thing())
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as link:
        for statement in (*OLDER[layout], f"PRAGMA user_version={layout}"):
            link.execute(statement)
    store = Store(path)
    assert store.get(A) == made and [one.revision for one in store.history(A)] == [1]
    assert store.place(A) is None
    store.keep_places([Place(A, "u", 1, "a.yaml")])
    store.close()
    with closing(sqlite3.connect(path)) as link:
        assert link.execute("PRAGMA user_version").fetchone() == (3,)
    store = Store(path)
    assert store.place(A) == Place(A, "u", 1, "a.yaml")
    store.close()
