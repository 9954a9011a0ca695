"""The agent as a process with real Envoy and a small control plane."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster

from fairlead.agent import http
from fairlead.envoy.resource import CLUSTER, LISTENER
from fairlead.envoy.upstreamtls import origin_tls
from fairlead.ir.traffic import ClientTls
from fairlead.model.launch import AppPort
from fairlead.model.probe import HTTPGet, Probe
from tests.agent.world import (
    AgentProcess,
    Authority,
    ControlPlane,
    cluster,
    config,
    http_listener,
    opener,
    running,
    until,
)
from tests.loopback import free_port

pytestmark = pytest.mark.e2e

APP = """
import http.server, sys, time, os, signal
port = int(sys.argv[1])
flag = sys.argv[2]
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow": time.sleep(1.5)
        if self.path == "/exit": os._exit(7)
        if self.path == "/kill": os.kill(os.getpid(), signal.SIGKILL)
        code = 500 if self.path == "/health" and os.path.exists(flag) else 200
        body = b"pid %d" % os.getpid()
        self.send_response(code); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))
http.server.ThreadingHTTPServer.request_queue_size = 64
print("hello from the application", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), H).serve_forever()
"""


class Site:
    """One agent with an inbound listener before its application."""

    def __init__(self, plane: ControlPlane, directory: Path, **more: object) -> None:
        self.app_port, self.port = free_port(), free_port()
        self.flag = directory / "sick"
        script = directory / "app.py"
        script.write_text(APP)
        self.plane = plane
        command = (sys.executable, str(script), str(self.app_port), str(self.flag))
        self.agent = AgentProcess(
            config(
                plane, directory, "web", command=command, app_log=str(directory / "app.log"),
                ports=(AppPort(self.app_port, "http"),), **more,
            ),
            directory,
        )  # fmt: skip
        plane.put("web", CLUSTER, cluster("inbound|80||", self.app_port))
        plane.put("web", LISTENER, http_listener("virtualInbound", self.port, "inbound|80||", "INBOUND"))

    async def get(self, path: str = "/", seconds: float = 5) -> http.Response:
        return await http.fetch(opener(self.port), path, seconds=seconds)

    async def serves(self) -> bool:
        try:
            return (await self.get()).status == 200
        except http.HTTPFailure:
            return False


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_serves_and_ends_with_the_applications_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            site = Site(plane, tmp_path, status_port=(status := free_port()))
            async with running(site.agent):
                await until(site.serves, "served")
                assert plane.issued == ["token"]
                assert plane.health[-1] == ("web", "")
                assert "hello from" in (tmp_path / "app.log").read_text()
                directory = tmp_path / "web"
                assert directory.stat().st_mode & 0o777 == 0o700
                for name in ("identity.pem", "bootstrap.json"):
                    assert (directory / name).stat().st_mode & 0o777 == 0o600
                assert (await http.fetch(opener(status), "/healthz/ready")).status == 200
                page = (await http.fetch(opener(status), "/stats/prometheus")).body.decode()
                assert "fairlead_agent_certificate_expiry_seconds" in page and "envoy_server_live" in page
                assert (await http.fetch(opener(status), "/quitquitquit", method="POST")).status == 405
                assert b"virtualInbound" in (await site.agent.get("/config_dump")).body
                for _ in range(50):
                    await site.get()
                with capsys.disabled():
                    sys.stdout.write(f"\nagent RSS {site.agent.rss():.1f} MB\n")
                assert site.agent.rss() <= 60
                state = await site.agent.status()
                with pytest.raises(http.HTTPFailure):
                    answer = await site.get("/exit")
                    if answer.status == 503:
                        raise http.HTTPFailure("upstream reset")
                assert await site.agent.wait() == 7
                assert not alive(state["pid_envoy"])

    asyncio.run(run())


def test_death_of_the_agent_leaves_no_orphan(tmp_path: Path) -> None:
    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            site = Site(plane, tmp_path)
            async with running(site.agent):
                state = await site.agent.status()
                await until(site.serves, "served")
                assert await site.agent.stop(signal.SIGKILL) == -9
                pids = (state["pid_envoy"], state["pid_application"])
                await until(lambda: not any(alive(pid) for pid in pids), "Envoy and application ended")

    asyncio.run(run())


def test_restart_without_control_plane(tmp_path: Path) -> None:
    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            site = Site(plane, tmp_path)
            async with running(site.agent):
                await until(site.serves, "served")
                await until((tmp_path / "web/config/Listener.pb").exists, "cached")
                await plane.stop()
                assert await site.serves()
                before = (await site.agent.status())["pid_envoy"]
                os.kill(before, signal.SIGKILL)

                async def renewed() -> bool:
                    return (await site.agent.status())["pid_envoy"] not in (0, before) and await site.agent.ready()

                await until(renewed, "Envoy is back from the cache")
                assert await site.serves()
                await site.agent.stop()

            site.agent.log.rename(tmp_path / "first.log")
            async with running(site.agent):
                await until(site.serves, "agent and Envoy start from disk")
                assert not (await site.agent.status())["xds"]["connected"]
                plane.sent.clear()
                plane.put("web", CLUSTER, cluster("another", 1))
                await plane.start()

                async def caught_up() -> bool:
                    return (await site.agent.status())["xds"]["resources"].get("Cluster") == 2

                await until(caught_up, "the control plane's news")
                assert plane.sent == [("web", "another")], "only the difference flows"
                assert plane.issued == ["token"]

    asyncio.run(run())


def test_restart_without_control_plane_and_without_a_file(tmp_path: Path) -> None:
    """What needs the file is left out until it is there; the rest serves."""

    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            site = Site(plane, tmp_path)
            roots = tmp_path / "roots.pem"
            roots.write_bytes(plane.authority.root_pem)
            filed = Cluster(name="filed", type=Cluster.STATIC)
            filed.load_assignment.cluster_name = "filed"
            filed.connect_timeout.seconds = 1
            filed.transport_socket.CopyFrom(origin_tls(ClientTls("SIMPLE", ca_certificates=str(roots)), http2=False))
            plane.put("web", CLUSTER, cluster("inbound|80||", site.app_port), filed)

            async def has() -> bool:
                return b"filed::" in (await site.agent.get("/clusters")).body

            async with running(site.agent):
                await until(has, "the cluster")
                await until((tmp_path / "web/config/Cluster.pb").exists, "cached")
                await plane.stop()
                await site.agent.stop()
            site.agent.log.rename(tmp_path / "first.log")
            roots.rename(tmp_path / "away.pem")
            async with running(site.agent):
                await until(site.serves, "the rest")
                state = await site.agent.status()
                assert f"filed: {roots}: there is no such file" in state["xds"]["last_refusal"]
                assert not await has()
                (tmp_path / "away.pem").rename(roots)
                await until(has, "the cluster, from the cache")
                assert await site.agent.ready()

    asyncio.run(run())


def test_certificate_renews_with_itself(tmp_path: Path) -> None:
    async def run() -> None:
        async with ControlPlane(Authority(), lifetime=16) as plane:
            site = Site(plane, tmp_path)
            async with running(site.agent):
                first = (await site.agent.status())["certificate"]["serial"]
                (tmp_path / "token").unlink()
                await until(lambda: len(plane.issued) > 1, "renewal")
                assert plane.issued[1] == "certificate"

                async def changed() -> bool:
                    return (await site.agent.status())["certificate"]["serial"] != first

                await until(changed, "new certificate in use")

    asyncio.run(run())


def test_drain_finishes_what_is_in_flight(tmp_path: Path) -> None:
    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            probe = Probe(http_get=HTTPGet(port="http", path="/health"), period_seconds=0.2)
            site = Site(plane, tmp_path, readiness=probe)
            async with running(site.agent):
                await until(lambda: ("web", "") in plane.health, "healthy by the probe")
                slow = asyncio.create_task(site.get("/slow"))
                await asyncio.sleep(0.3)
                stopping = asyncio.create_task(site.agent.stop())
                await until(lambda: plane.health[-1] == ("web", "draining"), "withdrawn")
                assert (await site.get()).status == 200, "new connections are served until callers know"
                assert (await slow).status == 200
                assert await stopping == 0

    asyncio.run(run())


def test_probes_withdraw_and_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            get = HTTPGet(port="http", path="/health")
            site = Site(
                plane,
                tmp_path,
                readiness=Probe(http_get=get, period_seconds=0.1, failure_threshold=2),
                liveness=Probe(http_get=get, period_seconds=0.3, failure_threshold=5),
            )
            async with running(site.agent):
                await until(lambda: ("web", "") in plane.health, "healthy")
                pid = (await site.agent.status())["pid_application"]
                site.flag.touch()
                await until(lambda: "answered 500" in plane.health[-1][1], "unhealthy")

                async def restarted() -> bool:
                    return (await site.agent.status())["pid_application"] not in (0, pid)

                await until(restarted, "restarted by liveness")
                site.flag.unlink()
                await until(lambda: plane.health[-1] == ("web", ""), "healthy again")
                assert (await site.agent.get("/quitquitquit", "POST")).status == 200
                assert await site.agent.wait() == 0

    asyncio.run(run())
