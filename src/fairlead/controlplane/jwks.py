"""Keeps the keys that RequestAuthentications ask for: fetched, refreshed, remembered across restarts.

A failure keeps the last good keys; it becomes a condition of the objects and, through the engine, a diagnostic.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from fairlead.controlplane.conditions import Outcome, set_condition
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.fetching import FetchError
from fairlead.controlplane.keeping import Keepers, Remembered
from fairlead.ir.authn import JWKS, JWKS_WANTED, Jwks
from fairlead.model.ref import NamespacedName, Ref
from fairlead.store.errors import StoreError
from fairlead.store.store import Store

_log = logging.getLogger(__name__)
REFRESH = 20 * 60.0
"""Seconds between two fetches that succeed."""
FIRST_RETRY = 1.0
_LONGEST_RETRY = 5 * 60.0
_LONGEST_PATIENCE = 60.0
_AT_ONCE = 16
CONDITION = "KeysFetched"

Fetch = Callable[[str, float], Awaitable[str]]
"""(URI, seconds) to the key set; raises FetchError."""


class _Wish(msgspec.Struct, frozen=True):
    """Who wants the keys at one URI, and how long the most patient of them would wait (seconds)."""

    timeout: float
    policies: tuple[NamespacedName, ...]


class KeyKeeper:
    """Watches what the mesh wants and writes what it finds into the engine's table of keys. Lives on the event loop.

    `path` is the file in which good keys survive a restart.
    """

    def __init__(self, feed: Feed, store: Store, fetch: Fetch, path: Path, refresh: float = REFRESH) -> None:
        self._feed = feed
        self._store = store
        self._fetch = fetch
        self._remembered = Remembered(path, "keys")
        self._refresh = refresh
        self._known: dict[str, str] = {}
        self._wishes: dict[str, _Wish] = {}
        self._keepers = Keepers(self._keep)
        self._tried: dict[str, asyncio.Event] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def start(self, patience: float = 5.0) -> None:
        """Begin. Returns when everything that is wanted was tried once, at the latest after `patience` seconds.

        Proxies that connect before that would be told to refuse tokens for a moment.
        """
        self._known = self._remembered.read()
        self._feed.listen(lambda _: self._look())
        self._look()
        waiting = [asyncio.ensure_future(one.wait()) for one in self._tried.values()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=patience)
            for one in late:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def stop(self) -> None:
        """Fetch no longer."""
        await self._keepers.stop()

    def _look(self) -> None:
        """Take up what is newly wanted, and drop what is wanted no longer."""
        wishes = self._wanted()
        if wishes == self._wishes:
            return
        before, self._wishes = self._wishes, wishes
        for uri in self._keepers.drop(wishes.keys()):
            self._tried.pop(uri, None)
            self._feed.put(JWKS, uri, None)
            if self._known.pop(uri, None) is not None:
                self._remembered.write(self._known)
        for uri, wish in wishes.items():
            if uri not in self._keepers:
                if uri in self._known:
                    self._feed.put(JWKS, uri, Jwks(self._known[uri]))
                self._tried[uri] = asyncio.Event()
                self._keepers.take(uri)
            elif set(wish.policies) - set(before[uri].policies) and self._tried[uri].is_set():
                self._tell(uri)

    def _wanted(self) -> dict[str, _Wish]:
        found: dict[str, _Wish] = {}
        for key, wanted in self._feed.model.engine.items(JWKS_WANTED):
            old = found.get(key.uri)
            # Bounded, as only so many are fetched at once and the others wait for them.
            timeout = max(min(wanted.timeout, _LONGEST_PATIENCE), old.timeout if old is not None else 0.0)
            found[key.uri] = _Wish(timeout, tuple(dict.fromkeys((*(old.policies if old else ()), key.policy))))
        return found

    async def _keep(self, uri: str) -> None:
        retry = FIRST_RETRY
        while True:
            problem = await self._once(uri)
            if problem:
                pause, retry = retry, min(retry * 2, _LONGEST_RETRY, self._refresh)
            else:
                pause, retry = self._refresh, FIRST_RETRY
            # Many meshes ask one issuer: not all at the same second.
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load, hides nothing

    async def _once(self, uri: str) -> str:
        """Fetch, and say what came of it; the problem, or ""."""
        problem = ""
        try:
            async with self._gate:
                keys = await self._fetch(uri, self._wishes[uri].timeout)
        except FetchError as error:
            problem = str(error)
        else:
            if self._known.get(uri) != keys:
                self._known[uri] = keys
                self._remembered.write(self._known)
        found = Jwks(self._known.get(uri, ""), problem)
        if self._feed.put(JWKS, uri, found):
            (_log.warning if problem else _log.info)("keys of %s: %s", uri, problem or "fetched")
        if uri in self._tried:
            self._tried[uri].set()
        self._tell(uri)
        return problem

    def _tell(self, uri: str) -> None:
        """Say of each object that wants these keys how far all its keys are known."""
        engine = self._feed.model.engine
        told: dict[Ref, Outcome] = {}
        for policy in self._wishes[uri].policies:
            found = {one: engine.get(JWKS, one) for one, wish in self._wishes.items() if policy in wish.policies}
            wrong = [f"{one}: {known.problem}" for one, known in sorted(found.items()) if known and known.problem]
            reason = "FetchFailed" if wrong else "Fetched"
            told[Ref("security.istio.io", "RequestAuthentication", *policy)] = Outcome(
                not wrong, reason, "; ".join(wrong)
            )
        try:
            set_condition(self._store, CONDITION, told)
        except StoreError as error:
            _log.warning("condition %s of %d objects: %s", CONDITION, len(told), error)
