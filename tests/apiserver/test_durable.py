"""An answer to a change goes out when the change is on the disk; the disk is waited for beside the event loop."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.types import Message

from fairlead.apiserver import ADMIN_GROUP, Admission, User
from fairlead.apiserver.app import Api
from fairlead.compiler.registry import registry
from fairlead.model.ref import Ref
from fairlead.store import Place, Store, StoreUnusable

PATH = "/api/v1/namespaces/default/configmaps"


class Slow(Store):
    """A store whose disk can be held up."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, synced=False)
        self.may = threading.Event()
        self.asked = threading.Semaphore(0)
        self.syncs = 0
        self.fails = False

    def sync(self) -> None:
        self.syncs += 1
        self.asked.release()
        assert self.may.wait(10)
        if self.fails:
            raise StoreUnusable("cannot write store.db: No space left on device")
        super().sync()


class Everybody:
    def authenticate(self, token: str) -> User | None:
        return User("test", (ADMIN_GROUP,))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Slow]:
    made = Slow(tmp_path / "store.db")
    yield made
    made.may.set()
    made.close()


class Answer(NamedTuple):
    status: int
    document: Any


class Client:
    """Asks the application without sockets."""

    def __init__(self, store: Store) -> None:
        admission = Admission(store, registry())
        admission.bootstrap()
        self._app = Api(admission, Everybody()).asgi

    async def ask(self, method: str, path: str, body: object = None, query: bytes = b"") -> Answer:
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": json.dumps(body).encode() if body else b"", "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        headers = [(b"authorization", b"Bearer x"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
        await self._app(scope, receive, send)
        text = b"".join(one.get("body", b"") for one in messages[1:])
        return Answer(messages[0]["status"], json.loads(text))

    async def post(self, name: str, query: bytes = b"") -> Answer:
        return await self.ask("POST", PATH, document(name), query)

    async def get(self, name: str) -> int:
        return (await self.ask("GET", f"{PATH}/{name}")).status


def document(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


async def asked(store: Slow) -> None:
    assert await asyncio.to_thread(store.asked.acquire, timeout=10)


def test_the_answer_waits_for_the_disk_and_reads_do_not(store: Slow) -> None:
    async def run() -> None:
        api = Client(store)
        writing = asyncio.create_task(api.post("one"))
        await asked(store)
        assert await api.get("one") == 200
        assert not writing.done()
        store.may.set()
        assert (await writing).status == 201

    asyncio.run(run())


def test_those_who_come_meanwhile_share_the_next_turn(store: Slow) -> None:
    async def run() -> None:
        api = Client(store)
        first = asyncio.create_task(api.post("first"))
        await asked(store)
        others = [asyncio.create_task(api.post(f"other-{at}")) for at in range(20)]
        # All are committed as soon as each has had its turn.
        done, _ = await asyncio.wait(others, timeout=0.01)
        while not done and await api.get("other-19") != 200:
            done, _ = await asyncio.wait(others, timeout=0.01)
        assert not any(one.done() for one in (first, *others))
        store.may.set()
        assert {one.status for one in await asyncio.gather(first, *others)} == {201}
        # What ran when they came may not have had them.
        assert store.syncs == 2

    asyncio.run(run())


def test_a_disk_that_fails_is_told(store: Slow) -> None:
    store.fails = True
    store.may.set()
    answer = asyncio.run(Client(store).post("one"))
    assert answer.status == 500
    assert answer.document["message"] == (
        "the change may be lost when this machine fails, the disk did not take it: "
        "cannot write store.db: No space left on device"
    )


def test_a_commit_without_a_revision_is_waited_for_too(store: Slow) -> None:
    async def run() -> None:
        api = Client(store)
        await api.post("one")
        before = store.syncs, store.revision
        store.keep_places([Place(Ref("", "ConfigMap", "default", "one"), "u", 1, "mesh.yaml")])
        # Whatever is asked next that may change something: its answer tells that all before is on the disk.
        assert (await api.post("one")).status == 409
        assert (store.syncs, store.revision) == (before[0] + 1, before[1])

    store.may.set()
    asyncio.run(run())


def test_what_changes_nothing_does_not_ask_the_disk(store: Slow) -> None:
    async def run() -> None:
        api = Client(store)
        await api.post("one")
        assert (await api.post("one")).status == 409
        assert (await api.post("two", b"dryRun=All")).status == 201
        assert store.syncs == 1

    store.may.set()
    asyncio.run(run())


def test_the_log_is_what_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store.db", synced=False)
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr("fairlead.store.database.os.fdatasync", note)
    store.sync()
    assert synced == ["store.db-wal"]

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fairlead.store.database.os.fdatasync", fail)
    with pytest.raises(StoreUnusable, match=r"store\.db: Input/output error"):
        store.sync()
    store.close()
