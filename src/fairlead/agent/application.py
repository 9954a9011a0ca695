"""The application as a child: started when the proxy serves, restarted when it is no longer alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from fairlead.agent import process
from fairlead.agent.backoff import Backoff
from fairlead.model.launch import AgentConfig

log = logging.getLogger("app")


class Application:
    """Runs the configured command."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._child: process.Child | None = None
        self._log = process.RotatingLog(Path(config.app_log)) if config.app_log else None
        self._revive = False
        self._stopping = asyncio.Event()
        self._backoff = Backoff(1, 60)
        self.env: Mapping[str, str] = {**os.environ, **config.env}
        self.restarts = 0

    @property
    def pid(self) -> int:
        """The application's process id, 0 if it does not run."""
        return self._child.pid if self._child is not None and self._child.running else 0

    async def run(self) -> int:
        """Run it to its end; the exit status (128 + N for signal N). Raises OSError if it cannot be started."""
        while True:
            inside = self._config.capture.mode == "netns"
            self._child = await process.start(
                self._config.command,
                env=self.env,
                cwd=self._config.working_dir or None,
                netns=self._config.capture.netns if inside else "",
                output=self._log,
            )
            log.info("the application runs as process %d", self._child.pid)
            code = await self._child.wait()
            if not self._revive or self._stopping.is_set():
                return code
            self._revive = False
            self.restarts += 1
            delay = self._backoff.next()
            log.warning("starting the application again in %.1f s", delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
                return code

    async def revive(self, reason: str, grace: float) -> None:
        """The liveness probe failed: end the application and start it again."""
        if self._child is None or self._revive:
            return
        log.error("the application is not alive (%s): ending it", reason)
        self._revive = True
        await self._child.stop(grace)

    async def stop(self, grace: float) -> None:
        """End it for good: SIGTERM, after `grace` seconds SIGKILL."""
        self._stopping.set()
        if self._child is not None and self._child.running:
            await self._child.stop(grace)
