"""Watches: the store's changes, handed from the writer's thread to any number of streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from fairlead.apiserver.refusal import Refusal, expired
from fairlead.apiserver.selectors import Predicate
from fairlead.ir.kind import Kind
from fairlead.store import Change, Gone, Store

Json = dict[str, Any]

QUEUE = 10_000
"""Commits that a slow watcher may lie behind before it is told to begin again."""

BOOKMARK_SECONDS = 30.0
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_encode = msgspec.json.encode


class Hub:
    """Hands every commit to the open watches, in order, on the event loop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._queues: dict[tuple[str, str], set[asyncio.Queue[Sequence[Change] | None]]] = {}
        self._end: Callable[[], None] | None = None
        self.revision = store.revision
        """Up to here every change has been put into the queues."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the store. Call on the loop."""

        def hand_over(changes: Sequence[Change]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._fan, changes)

        self._end = self.store.subscribe(hand_over)
        self.revision = self.store.revision

    def stop(self) -> None:
        """End every watch."""
        if self._end is not None:
            self._end()
            self._end = None
        for queues in self._queues.values():
            for queue in queues:
                _force(queue)

    def _fan(self, changes: Sequence[Change]) -> None:
        by_kind: dict[tuple[str, str], list[Change]] = {}
        for change in changes:
            by_kind.setdefault((change.ref.group, change.ref.kind), []).append(change)
        for key, some in by_kind.items():
            for queue in self._queues.get(key, ()):
                if queue.full():
                    _force(queue)
                else:
                    queue.put_nowait(some)
        self.revision = max(self.revision, changes[-1].revision)

    @contextmanager
    def open(self, kind: Kind[Any]) -> Any:
        """A queue that gets the changes of a kind, one entry per commit; None ends it."""
        queue: asyncio.Queue[Sequence[Change] | None] = asyncio.Queue(QUEUE)
        queues = self._queues.setdefault((kind.group, kind.kind), set())
        queues.add(queue)
        try:
            yield queue
        finally:
            queues.discard(queue)


def _force(queue: asyncio.Queue[Sequence[Change] | None]) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


class Watch(msgspec.Struct, frozen=True):
    """What a client wants to follow. `show` makes the printed form (version, table) of documents."""

    kind: Kind[Any]
    namespace: str | None
    selects: Predicate | None
    show: Callable[[Json], Json]
    show_bookmark: Callable[[Json], Json]
    since: int | None = None
    initial: bool = False
    bookmarks: bool = False
    seconds: float = 1800


def begin(hub: Hub, watch: Watch) -> AsyncIterator[bytes]:
    """The stream of events, one JSON line each. Raises Refusal (410) at once where `since` is not kept any more."""
    store = hub.store
    if watch.since is not None and not store.oldest <= watch.since <= store.revision:
        raise expired(Gone(watch.since, store.oldest, store.revision))
    return _stream(hub, watch)


async def _stream(hub: Hub, watch: Watch) -> AsyncIterator[bytes]:
    with hub.open(watch.kind) as queue:
        seen, first = _first(hub, watch)
        if first:
            yield first
        end = time.monotonic() + watch.seconds
        next_bookmark = time.monotonic() + BOOKMARK_SECONDS
        while True:
            now = time.monotonic()
            if now >= end:
                break
            try:
                async with asyncio.timeout(min(end, next_bookmark) - now):
                    changes = await queue.get()
            except TimeoutError:
                next_bookmark = time.monotonic() + BOOKMARK_SECONDS
                if watch.bookmarks:
                    # Nothing waits in the queue, so this watch has seen everything that the hub has.
                    seen = max(seen, hub.revision)
                    yield _bookmark(watch, seen)
                continue
            if changes is None:
                yield _line("ERROR", Refusal(410, "the watch ended: list again and watch from there").status())
                break
            changes = [one for one in changes if one.revision > seen]
            lines = _events(watch, changes)
            if changes:
                seen = changes[-1].revision
            if lines:
                yield lines


def _first(hub: Hub, watch: Watch) -> tuple[int, bytes]:
    """The revision up to which the client knows everything after these lines."""
    store, kind = hub.store, watch.kind
    if watch.since is None or watch.initial:
        items, revision = store.listing(kind.group, kind.kind, watch.namespace)
        wanted = [one for one in items if watch.selects is None or watch.selects(one)]
        lines = b"".join(_line("ADDED", watch.show(one)) for one in wanted)
        if watch.initial and watch.bookmarks:
            lines += _bookmark(watch, revision, ended=True)
        return revision, lines
    revision = store.revision
    try:
        changes = store.changes_since(watch.since, (kind.group, kind.kind))
    except Gone as error:
        return revision, _line("ERROR", expired(error).status())
    # A commit of another thread may have come between the two: then it is among the changes already.
    return max(revision, changes[-1].revision if changes else 0), _events(watch, changes)


def _bookmark(watch: Watch, revision: int, *, ended: bool = False) -> bytes:
    meta: Json = {"resourceVersion": str(revision), "creationTimestamp": None}
    if ended:
        meta["annotations"] = {_INITIAL_EVENTS_END: "true"}
    document = {"apiVersion": watch.kind.api_version, "kind": watch.kind.kind, "metadata": meta}
    return _line("BOOKMARK", watch.show_bookmark(document))


def _events(watch: Watch, changes: Iterable[Change]) -> bytes:
    """Events as the watcher's selection sees them: an object that leaves it is deleted, one that enters is added."""
    out: list[bytes] = []
    for change in changes:
        if watch.namespace is not None and change.ref.namespace != watch.namespace:
            continue
        old = change.old if change.old is not None and _selected(watch, change.old) else None
        new = change.new if change.new is not None and _selected(watch, change.new) else None
        if new is not None:
            out.append(_line("ADDED" if old is None else "MODIFIED", watch.show(new)))
        elif old is not None:
            # A deletion carries its own revision, so that a client can go on from it.
            meta = {**old["metadata"], "resourceVersion": str(change.revision)}
            out.append(_line("DELETED", watch.show({**old, "metadata": meta})))
    return b"".join(out)


def _selected(watch: Watch, document: Json) -> bool:
    return watch.selects is None or watch.selects(document)


def _line(event: str, document: Json) -> bytes:
    return _encode({"type": event, "object": document}) + b"\n"
