"""Feeds committed documents to the compiled mesh, and tells who must hear of it.

The first change after a pause goes through at once; changes that come while others are compiled and pushed are merged
(`pacing`), so that a burst costs a few passes and not one a change.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import msgspec

from fairlead.compiler.model import MeshModel
from fairlead.compiler.publish import Changes
from fairlead.controlplane.pacing import Pacing
from fairlead.controlplane.stages import Stages
from fairlead.inc import Table
from fairlead.ir.view import View
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object
from fairlead.model.ref import Ref
from fairlead.store.change import Change
from fairlead.store.store import Store

_log = logging.getLogger(__name__)
_SOON = 0.002
"""Seconds by which a pass may be early: timers are no more exact."""


class Pass(msgspec.Struct, frozen=True):
    """What one pass did: changed resources of each view, and the objects whose meaning was edited.

    `edited` has the generation of each object that was created or whose spec changed; 0 where it was deleted. `since`
    is when the oldest of the changes was committed (`time.monotonic`). `commits` has the newest change of each object
    that went through.
    """

    changed: dict[View, Changes]
    edited: dict[Ref, int]
    since: float
    commits: Mapping[Ref, Change] = {}


Listener = Callable[[Pass], None]


class Feed:
    """Store to model, on one event loop."""

    def __init__(self, store: Store, model: MeshModel) -> None:
        self._store = store
        self.model = model
        self.revision = 0
        """The newest revision that is compiled: what proxies are compared with."""
        self._newest = 0
        self.invalid: dict[Ref, list[Problem]] = {}
        self.passes = 0
        self.stages = Stages()
        self._taken_at = 0.0
        self._pending: dict[Ref, dict[str, Any] | None] = {}
        self._edited: dict[Ref, int] = {}
        self._commits: dict[Ref, Change] = {}
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled: asyncio.Handle | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._pacing = Pacing()
        self.spent: Callable[[], float] = lambda: 0.0
        """Tells how much processor time pushes have taken since the start (seconds)."""

    def start(self) -> None:
        """Load everything that is stored, then follow. Proxies are served only after this: never a partial push."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._store.subscribe(self._committed)
        documents, self.revision = self._store.snapshot()
        self._apply(dict(documents))

    def stop(self) -> None:
        """Follow no longer."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each pass with what it did."""
        self._listeners.append(listener)

    def put(self, table: Table[Any, Any], key: Hashable, value: object | None) -> bool:
        """Write a row of an input table that does not come from objects (None: remove it); False if nothing changed."""
        engine = self.model.engine
        with engine.transaction():
            changed = engine.delete(table, key) if value is None else engine.put(table, key, value)
        if changed:
            self._schedule()
        return changed

    def flush(self) -> None:
        """Compile what is pending now."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        begun = time.monotonic()
        pending, self._pending = self._pending, {}
        edited, self._edited = self._edited, {}
        commits, self._commits = self._commits, {}
        self.passes += 1
        if pending:
            self.stages.observe("queue", begun - self._taken_at)
            self._apply(pending)
        self.revision = max(self.revision, self._newest)
        times = [time.monotonic()]
        changed = self.model.publisher.refresh(lambda: times.append(time.monotonic()))
        made = Pass(changed, edited, self._taken_at if pending else begun, commits)
        compared = time.monotonic()
        lowered, emitted = times[0], times[-1]
        self.stages.observe("lower", lowered - begun)
        self.stages.observe("emit", emitted - lowered)
        self.stages.observe("diff", compared - emitted)
        for listener in self._listeners:
            try:
                listener(made)
            except Exception:
                # A defect in one listener must not keep the others from their proxies.
                _log.exception("a listener failed at revision %d", self.revision)
        ended = time.monotonic()
        self.stages.observe("deliver", ended - compared)
        self._pacing.passed(begun, ended, self.spent())

    def becoming(self, documents: Mapping[Ref, dict[str, Any] | None]) -> dict[View, Changes]:
        """Make it so as if these documents were stored (None: deleted), without telling anybody; what open views had.

        For a copy of this process that nobody is served by (`aside`): it is not taken back. Raises ValueError where a
        document cannot be read.
        """
        changed, deleted = self._readable(documents)
        self.model.apply(changed, deleted)
        return self.model.publisher.refresh()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the feed has not been started")
        return self._loop

    def _committed(self, changes: Iterable[Change]) -> None:
        self._running().call_soon_threadsafe(self._take, tuple(changes))

    def _take(self, changes: tuple[Change, ...]) -> None:
        if not self._pending:
            self._taken_at = time.monotonic()
        for change in changes:
            self._pending[change.ref] = change.new
            self._commits[change.ref] = change
            self._newest = max(self._newest, change.revision)
            generation = _generation(change.new)
            if generation != _generation(change.old) or change.old is None:
                self._edited[change.ref] = generation
        self._schedule()

    def _schedule(self) -> None:
        self._pacing.changed(time.monotonic())
        if self._scheduled is None and self._unsubscribe is not None:
            self._wait()

    def _wait(self) -> None:
        """Have the next pass made when it is due."""
        left = self._pacing.due(self.spent()) - time.monotonic()
        self._scheduled = self._running().call_later(max(left, 0.0), self._turn)

    def _turn(self) -> None:
        """A pass was due when this was asked for; what has come since may have put it off."""
        if self._pacing.due(self.spent()) - time.monotonic() > _SOON:
            self._wait()
        else:
            self.flush()

    def _apply(self, documents: dict[Ref, dict[str, Any] | None]) -> None:
        changed, deleted, invalid = self._read(documents)
        for ref in documents:
            self.invalid.pop(ref, None)
        # They were admitted once, by another version of Fairlead: their last meaning stays, and they are named.
        self.invalid.update(invalid)
        for ref, problems in invalid.items():
            _log.warning("%s is stored but not valid: %s", ref, "; ".join(one.message for one in problems))
        self.model.apply(changed, deleted)

    def _readable(self, documents: Mapping[Ref, dict[str, Any] | None]) -> tuple[list[Object[Any]], list[Ref]]:
        changed, deleted, invalid = self._read(documents)
        if invalid:
            raise ValueError("; ".join(f"{ref}: {one.message}" for ref, said in invalid.items() for one in said))
        return changed, deleted

    def _read(
        self, documents: Mapping[Ref, dict[str, Any] | None]
    ) -> tuple[list[Object[Any]], list[Ref], dict[Ref, list[Problem]]]:
        """Objects that are to be put, those that are to go, and what is wrong with those that cannot be read."""
        changed: list[Object[Any]] = []
        deleted: list[Ref] = []
        invalid: dict[Ref, list[Problem]] = {}
        for ref, document in documents.items():
            if document is None:
                deleted.append(ref)
                continue
            obj, problems = self.model.kinds.read(document, ref.namespace or "default")
            if obj is None:
                invalid[ref] = problems
            else:
                changed.append(obj)
        return changed, deleted, invalid


def _generation(document: dict[str, Any] | None) -> int:
    """Counts changes of the spec; 0 where there is no object."""
    return 0 if document is None else int(document["metadata"].get("generation") or 1)
