"""Readiness and liveness of the application, with Kubernetes' semantics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import msgspec

from fairlead.agent import http, messages, netns, process
from fairlead.agent.certificates import UnaryCall
from fairlead.agent.files import socket_path, unlink
from fairlead.model.launch import AgentConfig
from fairlead.model.probe import Exec, GRPCCheck, HTTPGet, Probe, TCPSocket

EAGER_SECONDS = 0.25
MAX_PROBE_BODY = 1024 * 1024


class ProbeFailure(Exception):
    """The application is not well; the text says what was seen."""


class ProbeConfigError(Exception):
    """A probe names a port that the application does not have."""


class Target(msgspec.Struct, frozen=True):
    """Where the application is: its address, network namespace, ports by name, directory for sockets, environment."""

    address: str
    netns: str
    ports: Mapping[str, int]
    directory: str
    env: Mapping[str, str]
    cwd: str

    @staticmethod
    def of(config: AgentConfig, env: Mapping[str, str]) -> Target:
        """The target that a configuration describes."""
        inside = config.capture.mode == "netns"
        return Target(
            address="127.0.0.1" if inside else config.capture.app_address,
            netns=config.capture.netns if inside else "",
            ports={port.name: port.port for port in config.ports if port.name},
            directory=config.directory,
            env=env,
            cwd=config.working_dir,
        )

    def port(self, port: int | str) -> int:
        """The number of a port. Raises ProbeConfigError."""
        if isinstance(port, int):
            return port
        if port in self.ports:
            return self.ports[port]
        if port.isdigit():
            return int(port)
        known = ", ".join(sorted(self.ports)) or "none"
        raise ProbeConfigError(
            f"a probe names port {port!r}, which the application does not have (named ports: {known})"
        )


async def check(probe: Probe, target: Target) -> None:
    """One check. Raises ProbeFailure."""
    try:
        async with asyncio.timeout(probe.timeout_seconds):
            if probe.http_get is not None:
                await _http(probe.http_get, target, probe.timeout_seconds)
            elif probe.tcp_socket is not None:
                await _tcp(probe.tcp_socket, target)
            elif probe.grpc is not None:
                await _grpc(probe.grpc, target)
            elif probe.exec is not None:
                await _exec(probe.exec, target)
    except TimeoutError:
        raise ProbeFailure(f"no answer within {probe.timeout_seconds:g} s") from None
    except OSError as error:
        raise ProbeFailure(error.strerror or str(error)) from None


async def _http(get: HTTPGet, target: Target, seconds: float) -> None:
    port = target.port(get.port)
    host = get.host or target.address
    context = None
    if get.scheme.upper() == "HTTPS":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    async def opener() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = await netns.connect(target.netns, host, port)
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname="" if context else None)

    headers = [(one.name, one.value) for one in get.http_headers]
    if not any(name.lower() == "host" for name, _ in headers):
        headers.insert(0, ("host", f"{host}:{port}"))
    headers.append(("user-agent", "fairlead-probe"))
    path = get.path if get.path.startswith("/") else f"/{get.path}"
    try:
        answer = await http.fetch(opener, path, headers=tuple(headers), seconds=seconds, limit=MAX_PROBE_BODY)
    except http.HTTPFailure as error:
        raise ProbeFailure(f"GET {path} on port {port}: {error}") from None
    if not 200 <= answer.status < 400:
        raise ProbeFailure(f"GET {path} on port {port} answered {answer.status}")


async def _tcp(tcp: TCPSocket, target: Target) -> None:
    port = target.port(tcp.port)
    try:
        (await netns.connect(target.netns, tcp.host or target.address, port)).close()
    except OSError as error:
        raise ProbeFailure(f"TCP port {port}: {os.strerror(error.errno) if error.errno else error}") from None


async def _grpc(probe: GRPCCheck, target: Target) -> None:
    where = f"{target.address}:{probe.port}"
    async with contextlib.AsyncExitStack() as stack:
        if target.netns:
            where = await stack.enter_async_context(_bridge(target, probe.port))
        options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0), ("grpc.default_authority", "localhost")]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(where, options=options))
        call = cast("UnaryCall", channel.unary_unary(messages.HEALTH_CHECK))
        try:
            status = messages.health_status(await call(messages.health_request(probe.service)))
        except grpc.aio.AioRpcError as error:
            raise ProbeFailure(f"gRPC health on port {probe.port}: {error.code().name} {error.details()}") from None
    if status != messages.SERVING:
        raise ProbeFailure(f"gRPC health of {probe.service or 'the server'} on port {probe.port} is not SERVING")


@contextlib.asynccontextmanager
async def _bridge(target: Target, port: int) -> AsyncGenerator[str]:
    """gRPC makes its own sockets, so one inside a namespace is reached through a Unix socket of ours."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            sock = await netns.connect(target.netns, target.address, port)
        except OSError:
            writer.close()
            return
        inner_reader, inner_writer = await asyncio.open_connection(sock=sock)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    path = socket_path(Path(target.directory), f"probe-{port}.sock")
    server = await asyncio.start_unix_server(connected, path)
    try:
        yield f"unix:{path}"
    finally:
        server.close()
        unlink(path)


async def _exec(probe: Exec, target: Target) -> None:
    child = await process.start(
        probe.command, env=target.env, cwd=target.cwd or None, netns=target.netns, output=lambda _: None
    )
    try:
        code = await child.wait()
    except asyncio.CancelledError:
        await child.stop(0)
        raise
    if code:
        raise ProbeFailure(f"{probe.command[0]} exited with {code}")


class Prober:
    """Checks for as long as it runs; tells `changed(healthy, reason)` when thresholds are crossed.

    With `rearm` (liveness) every crossing is told, because each one restarts the application.
    """

    def __init__(
        self, probe: Probe, target: Target, changed: Callable[[bool, str], None], *, healthy: bool, rearm: bool = False
    ) -> None:
        self._probe = probe
        self._target = target
        self._changed = changed
        self._healthy = healthy
        self._rearm = rearm

    async def run(self) -> None:
        """Until cancelled. Raises ProbeConfigError at once if the probe cannot work."""
        probe = self._probe
        successes = failures = 0
        ever = self._healthy
        await asyncio.sleep(probe.initial_delay_seconds)
        while True:
            try:
                await check(probe, self._target)
                successes, failures, reason = successes + 1, 0, ""
            except ProbeFailure as failure:
                successes, failures, reason = 0, failures + 1, str(failure)
            if not self._healthy and successes >= probe.success_threshold:
                self._healthy = True
                self._changed(True, "")
            elif self._healthy and failures >= probe.failure_threshold:
                self._healthy = self._rearm
                self._changed(False, reason)
                failures = 0
                if self._rearm:  # the application starts anew, and its initial delay with it
                    await asyncio.sleep(probe.initial_delay_seconds)
            ever = ever or self._healthy
            # Until it is well for the first time it is asked more often, so that a start is not rounded up.
            await asyncio.sleep(probe.period_seconds if ever else min(probe.period_seconds, EAGER_SECONDS))
