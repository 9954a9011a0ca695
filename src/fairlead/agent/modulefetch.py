"""Keeps at it until a module is there: tries, tells, waits longer and tries again, as long as the module is wanted."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.agent.backoff import Backoff
from fairlead.agent.modules import Failed, Module, Outcome, Ready
from fairlead.agent.ociimage import ModuleError

if TYPE_CHECKING:
    from fairlead.agent.modulestore import ModuleStore

HOLD_SECONDS = 8.0
"""How long a configuration waits for its modules; less than Envoy's 15 s for a configuration that it discovers."""
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
MAX_WANTED = 64
INSECURE = "WASM_INSECURE_REGISTRIES"
"""The agent's variable (Istio's, too) that names registries without trusted TLS, separated by commas."""

log = logging.getLogger("modules")


class ModuleFetch:
    """Fetches into `directory`; `tell` hears every outcome, `wanted` says whether a module is still needed."""

    def __init__(
        self, directory: Path, tell: Callable[[Module, Outcome], None], wanted: Callable[[Module], bool]
    ) -> None:
        self._directory = directory
        self._tell = tell
        self._wanted = wanted
        self._store: ModuleStore | None = None
        self._tasks: dict[Module, asyncio.Task[None]] = {}

    def fetch(self, module: Module) -> None:
        """Begin, or begin anew, to get a module."""
        for one in [one for one in self._tasks if one == module or not self._wanted(one)]:
            self._tasks.pop(one).cancel()
        task = self._tasks[module] = asyncio.create_task(self._obtain(module))
        task.add_done_callback(lambda done: self._ended(module, done))

    async def close(self) -> None:
        """End all tries."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, module: Module, task: asyncio.Task[None]) -> None:
        if self._tasks.get(module) is task:
            del self._tasks[module]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fetching %s failed: %r", module.url, error)
            self._tell(module, Failed(type(error).__name__))

    async def _obtain(self, module: Module) -> None:
        if len(self._tasks) > MAX_WANTED:
            self._tell(module, Failed(f"more than {MAX_WANTED} modules are being fetched"))
        backoff = Backoff(FIRST_SECONDS, LONGEST_SECONDS)
        late = Failed(f"not there after {HOLD_SECONDS:g} s; the fetch goes on")
        timer = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._tell, module, late)
        try:
            while self._wanted(module):
                try:
                    path = await self._opened().get(module)
                except (ModuleError, OSError) as error:
                    timer.cancel()
                    delay = backoff.next()
                    log.warning("cannot fetch %s: %s; next try in %.1f s", module.url, error, delay)
                    self._tell(module, Failed(str(error)))
                    await asyncio.sleep(delay)
                    continue
                self._tell(module, Ready(path))
                return
        finally:
            timer.cancel()

    def _opened(self) -> ModuleStore:
        if self._store is None:
            # The HTTP client is several megabytes that only workloads with such modules need.
            from fairlead.agent.fetching import Fetcher
            from fairlead.agent.modulestore import ModuleStore

            insecure = frozenset(one.strip() for one in os.environ.get(INSECURE, "").split(",") if one.strip())
            self._store = ModuleStore(self._directory, Fetcher(insecure))
        return self._store
