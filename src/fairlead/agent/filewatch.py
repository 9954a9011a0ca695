"""Looks at the files of secrets that configurations name, again and again, and tells what is wrong with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from fairlead.agent import secretfiles

SECONDS = 1.0
"""From one look at the files' dates to the next."""

log = logging.getLogger("files")


class FileWatch:
    """`tell` hears what is wrong with a secret's files ("": nothing), `wanted` says of which it still matters.

    `base` is the directory in which Envoy runs: what is not an absolute path begins there.
    """

    def __init__(self, base: Path, tell: Callable[[str, str], None], wanted: Callable[[], Iterable[str]]) -> None:
        self._base = base
        self._tell = tell
        self._wanted = wanted
        self._seen: dict[str, tuple[tuple[object, ...], str]] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self.changed: Callable[[], None] = lambda: None
        """Called when files have been replaced, have come or have gone."""

    def look(self, name: str) -> None:
        """Look at a secret's files now, and watch them from now on."""
        task = asyncio.create_task(self._look(name), name="secret's files")
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def close(self) -> None:
        """Look no more."""
        tasks = [*self._looking, *([self._watching] if self._watching is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, name: str) -> None:
        await self._judge(name)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="files of secrets")

    async def _judge(self, name: str) -> None:
        """Look, and tell what was found. In a thread: a host's disk may be far away."""
        # The date comes first: what changes after it is looked at again.
        stamp = await asyncio.to_thread(secretfiles.stamp, name, self._base)
        before = self._seen.get(name)
        if before is not None and before[0] == stamp:
            self._tell(name, before[1])
            return
        try:
            said = await asyncio.to_thread(secretfiles.problem, name, self._base)
        except Exception as error:
            # A configuration waits for an answer.
            log.exception("%s cannot be looked at", name)
            said = f"its files cannot be looked at: {error!r}"
        self._seen[name] = (stamp, said)
        if said and (before is None or before[1] != said):
            log.error("%s", said)
        elif not said and before is not None:
            log.info("%s: %s", name, "put right" if before[1] else "replaced")
        self._tell(name, said)
        if before is not None:
            self.changed()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            wanted = set(self._wanted())
            self._seen = {name: seen for name, seen in self._seen.items() if name in wanted}
            if not wanted:
                return
            for name in sorted(wanted):
                await self._judge(name)
