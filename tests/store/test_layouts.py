"""Files of earlier layouts are opened, with all that they hold, and written on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fairlead.model.ref import Ref
from fairlead.store import Store, StoreUnusable
from fairlead.store.change import Wanted
from fairlead.store.timeline import Asked, Happening, Timeline

THING = Ref("example.dev", "Thing", "default", "a")
DOCUMENT = '{"metadata": {"name": "a", "namespace": "default", "uid": "u", "creationTimestamp": "", %s}, "spec": {}}'
STORES = {
    1: """
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counter VALUES ('revision', 2), ('horizon', 0);
CREATE TABLE live (
    grp TEXT, kind TEXT, namespace TEXT, name TEXT, revision INTEGER NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (grp, kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE history (
    revision INTEGER, seq INTEGER, grp TEXT, kind TEXT, namespace TEXT, name TEXT,
    operation TEXT NOT NULL, document BLOB, author TEXT NOT NULL, time REAL NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (revision, seq)
);
CREATE INDEX history_of ON history (grp, kind, namespace, name, revision);
PRAGMA application_id=1179403346;
PRAGMA user_version=1
""",
    2: """
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counter VALUES ('revision', 2), ('horizon', 0);
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
PRAGMA application_id=1179403346;
PRAGMA user_version=2
""",
}
HAPPENED = """
CREATE TABLE happened (id INTEGER PRIMARY KEY, time REAL NOT NULL, sort TEXT NOT NULL, subject TEXT NOT NULL,
    proxy TEXT NOT NULL, first INTEGER NOT NULL, revision INTEGER NOT NULL, text TEXT NOT NULL, detail BLOB);
CREATE INDEX happened_time ON happened (time);
CREATE INDEX happened_push ON happened (revision) WHERE sort = 'push';
INSERT INTO happened VALUES (7, 1700000000.0, 'push', 'revision 3', '', 3, 3, '1 Cluster to 1 proxy',
    '{"seconds": {"web-1.shop": 0.5}, "groups": {"sidecar shop": 1}}');
PRAGMA application_id=1179407436;
"""
TIMELINES = {
    0: HAPPENED,
    1: HAPPENED
    + """
CREATE TABLE proxies (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, seen REAL NOT NULL);
CREATE TABLE answers (happening INTEGER PRIMARY KEY, proxies INTEGER NOT NULL, rows BLOB NOT NULL);
PRAGMA user_version=1
""",
}


def _made(path: Path, script: str) -> sqlite3.Connection:
    link = sqlite3.connect(path)
    link.executescript(script)
    return link


@pytest.mark.parametrize("layout", STORES)
def test_a_store_of_each_layout_is_read_and_written(tmp_path: Path, layout: int) -> None:
    link = _made(tmp_path / "store.db", STORES[layout])
    for revision, generation in ((1, '"generation": 1'), (2, '"generation": 2')):
        document = DOCUMENT % f'"resourceVersion": "{revision}", {generation}'
        columns = "revision, seq, grp, kind, namespace, name, operation, document, author, time, message"
        values = (revision, 0, *THING, "ADDED" if revision == 1 else "MODIFIED", document, "ann", 1.7e9, "why")
        link.execute(f"INSERT INTO history ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    link.execute("INSERT INTO live VALUES (?, ?, ?, ?, 2, ?)", (*THING, document))
    link.commit()
    link.close()
    store = Store(tmp_path / "store.db", clock=lambda: 1.7e9 + 60)
    try:
        assert store.revision == 2 and (store.get(THING) or {})["metadata"]["generation"] == 2
        assert [(one.revision, one.author, one.message) for one in store.history(THING)] == [
            (1, "ann", "why"),
            (2, "ann", "why"),
        ]
        store.put(THING, {"spec": {"size": 2}, "metadata": {}}, author="bob")
        assert [one.author for one in store.commits(Wanted())] == ["bob", "ann", "ann"]
    finally:
        store.close()


@pytest.mark.parametrize("layout", TIMELINES)
def test_a_timeline_of_each_layout_is_read_and_written(tmp_path: Path, layout: int) -> None:
    _made(tmp_path / "timeline.db", TIMELINES[layout]).close()
    for names in (["joined"], ["joined", "left"]):
        timeline = Timeline(tmp_path / "timeline.db", clock=lambda: 1.7e9 + 60)
        timeline.note(Happening(1.7e9 + 1, names[-1], "it is", proxy="web-1.shop"))
        found = timeline.listing(Asked())
        timeline.close()
        assert [one.sort for _, one in found] == ["push", *names]
        assert found[0][0] == 7 and (found[0][1].detail or {})["seconds"] == {"web-1.shop": 0.5}


def test_what_a_newer_program_wrote_is_refused_with_what_to_do(tmp_path: Path) -> None:
    _made(tmp_path / "timeline.db", f"{TIMELINES[1]}; PRAGMA user_version=99").close()
    _made(tmp_path / "store.db", f"{STORES[2]}; PRAGMA user_version=99").close()
    for name, opened in (("timeline.db", Timeline), ("store.db", Store)):
        with pytest.raises(StoreUnusable, match=f"{name} was written by a newer Fairlead .layout 99"):
            opened(tmp_path / name)
    _made(tmp_path / "other.db", "CREATE TABLE other (name TEXT)").close()
    with pytest.raises(StoreUnusable, match="is not a timeline: move it away"):
        Timeline(tmp_path / "other.db")
