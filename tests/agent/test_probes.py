"""Each kind of probe against something real."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from fairlead.agent import netns
from fairlead.agent.probes import ProbeConfigError, ProbeFailure, Prober, Target, check
from fairlead.model.probe import Exec, GRPCCheck, HTTPGet, HTTPHeader, Probe, TCPSocket
from tests.agent.world import until
from tests.loopback import free_port

Reply = Callable[[str], bytes]


def target(tmp_path: Path, namespace: str = "", **ports: int) -> Target:
    return Target("127.0.0.1", namespace, ports, str(tmp_path), dict(os.environ), "")


def ok(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def serving(reply: Reply, work: Callable[[int], Awaitable[None]]) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(reply(head))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        await work(server.sockets[0].getsockname()[1])


def failing(probe: Probe, where: Target, why: str) -> None:
    with pytest.raises(ProbeFailure, match=why):
        asyncio.run(check(probe, where))


@pytest.mark.parametrize(
    ("status", "healthy"), [("200 OK", True), ("302 Found", True), ("404 No", False), ("503 No", False)]
)
def test_http(tmp_path: Path, status: str, healthy: bool) -> None:
    heads: list[str] = []

    def reply(head: str) -> bytes:
        heads.append(head.lower())
        return ok(b"x", status)

    async def work(port: int) -> None:
        get = HTTPGet(port="web", path="health", http_headers=(HTTPHeader("X-A", "b"),))
        if healthy:
            await check(Probe(http_get=get), target(tmp_path, web=port))
        else:
            with pytest.raises(ProbeFailure, match=f"answered {status[:3]}"):
                await check(Probe(http_get=get), target(tmp_path, web=port))
        assert heads[0].startswith("get /health http/1.1") and "x-a: b" in heads[0] and "host: 127.0.0.1" in heads[0]

    asyncio.run(serving(reply, work))


def test_closed_port_and_unknown_port(tmp_path: Path) -> None:
    port = free_port()
    failing(Probe(tcp_socket=TCPSocket(port)), target(tmp_path), f"TCP port {port}")
    failing(Probe(http_get=HTTPGet(port)), target(tmp_path), "refused")
    with pytest.raises(ProbeConfigError, match="named ports: web"):
        asyncio.run(check(Probe(tcp_socket=TCPSocket("wab")), target(tmp_path, web=1)))


def test_exec(tmp_path: Path) -> None:
    asyncio.run(check(Probe(exec=Exec(("true",)), timeout_seconds=5), target(tmp_path)))
    failing(Probe(exec=Exec(("sh", "-c", "exit 3")), timeout_seconds=5), target(tmp_path), "exited with 3")
    failing(Probe(exec=Exec(("no-such-command",)), timeout_seconds=5), target(tmp_path), "exited with 127")
    failing(Probe(exec=Exec(("sleep", "60")), timeout_seconds=0.5), target(tmp_path), "no answer within")


@pytest.mark.parametrize("inside", [False, True])
def test_grpc(tmp_path: Path, inside: bool) -> None:
    """Inside a namespace gRPC goes over a Unix socket; the namespace of this test is its own."""

    async def answer(body: bytes, context: Any) -> bytes:
        return b"\x08\x01" if b"good" in body else b"\x08\x02"

    async def run() -> None:
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        where = target(tmp_path, "/proc/self/ns/net" if inside else "")
        await check(Probe(grpc=GRPCCheck(port, "good"), timeout_seconds=5), where)
        with pytest.raises(ProbeFailure, match="not SERVING"):
            await check(Probe(grpc=GRPCCheck(port, "bad"), timeout_seconds=5), where)
        await server.stop(0)

    if inside and os.geteuid() != 0:
        pytest.skip("entering a network namespace needs root")
    asyncio.run(run())


def test_thresholds(tmp_path: Path) -> None:
    state = {"status": "200 OK"}
    told: list[tuple[bool, str]] = []

    async def work(port: int) -> None:
        probe = Probe(http_get=HTTPGet(port), period_seconds=0.02, failure_threshold=3, success_threshold=2)
        prober = Prober(probe, target(tmp_path), lambda *what: told.append(what), healthy=False)
        running = asyncio.create_task(prober.run())
        await until(lambda: told == [(True, "")], "healthy")
        state["status"] = "500 No"
        await until(lambda: len(told) == 2, "unhealthy")
        assert told[1][0] is False and "answered 500" in told[1][1]
        state["status"] = "200 OK"
        await until(lambda: len(told) == 3, "healthy again")
        running.cancel()

    asyncio.run(serving(lambda _: ok(b"", state["status"]), work))


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"fl{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.decode().strip()}")
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield f"/var/run/netns/{name}"
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.root
def test_inside_a_namespace(tmp_path: Path, namespace: str) -> None:
    async def run() -> None:
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", Path(namespace).name, sys.executable, "-m", "http.server", "8000",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        probe = Probe(http_get=HTTPGet(8000), timeout_seconds=2)

        async def passes() -> bool:
            try:
                await check(probe, target(tmp_path, namespace))
            except ProbeFailure:
                return False
            return True

        await until(passes, "the server inside answers")
        with pytest.raises(OSError, match=r"(?i)no such file"):
            await netns.connect("/var/run/netns/no-such", "127.0.0.1", 1)
        process.kill()
        await process.wait()

    asyncio.run(run())
