"""Replicas are replaced one after the other under load: no request fails."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from fairlead.agent import http
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER
from fairlead.model.probe import HTTPGet, Probe
from tests.agent.test_agent import APP
from tests.agent.world import (
    AgentProcess,
    Authority,
    ControlPlane,
    cluster,
    config,
    http_listener,
    opener,
    running,
    tls,
    until,
)
from tests.loopback import free_port

pytestmark = pytest.mark.e2e


class Replicas:
    """Two servers and one client; the client's endpoints follow what the servers report."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.plane = plane
        (directory / "app.py").write_text(APP)
        self.ports = {"a": free_port(), "b": free_port()}
        self.client_port = free_port()
        self.servers = {name: self._server(directory, name) for name in self.ports}
        eds = {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}}
        outbound = {
            "name": "web",
            "type": "EDS",
            "edsClusterConfig": eds,
            "connectTimeout": "1s",
            "transportSocket": tls("Upstream"),
            "commonLbConfig": {"healthyPanicThreshold": {"value": 0}},
        }
        plane.put("client", CLUSTER, outbound)
        plane.put("client", LISTENER, http_listener("out", self.client_port, "web", "OUTBOUND"))
        self.client = AgentProcess(config(plane, directory, "client"), directory)
        self.publish()

    def _server(self, directory: Path, name: str) -> AgentProcess:
        app = free_port()
        chain = {"transportSocket": tls("Downstream")}
        self.plane.put(name, CLUSTER, cluster("inbound|80||", app))
        self.plane.put(
            name, LISTENER, http_listener("virtualInbound", self.ports[name], "inbound|80||", "INBOUND", chain=chain)
        )
        command = (sys.executable, str(directory / "app.py"), str(app), str(directory / "never"))
        probe = Probe(http_get=HTTPGet(app, "/health"), period_seconds=0.2)
        return AgentProcess(config(self.plane, directory, name, command=command, readiness=probe), directory)

    def healthy(self, name: str) -> bool:
        said = [problem for proxy, problem in self.plane.health if proxy == name]
        return bool(said) and said[-1] == ""

    def publish(self) -> None:
        def endpoint(port: int) -> dict[str, Any]:
            return {"endpoint": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": port}}}}

        found = [endpoint(port) for name, port in self.ports.items() if self.healthy(name)]
        self.plane.put("client", ENDPOINT, {"clusterName": "web", "endpoints": [{"lbEndpoints": found}]})

    async def follow(self) -> None:
        known = 0
        while True:
            if len(self.plane.health) != known:
                known = len(self.plane.health)
                self.publish()
            await asyncio.sleep(0.02)


def test_rolling_restart_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            replicas = Replicas(plane, tmp_path)
            following = asyncio.create_task(replicas.follow())
            async with running(*replicas.servers.values(), replicas.client):
                await until(lambda: all(map(replicas.healthy, replicas.ports)), "both healthy")
                done: list[int] = []
                failed: list[str] = []
                stop = asyncio.Event()

                async def load(path: str) -> None:
                    while not stop.is_set():
                        try:
                            answer = await http.fetch(opener(replicas.client_port), path, seconds=10)
                        except http.HTTPFailure as error:
                            failed.append(str(error))
                            continue
                        (done if answer.status == 200 else failed).append(
                            answer.status if answer.status == 200 else f"{answer.status} {answer.body!r}"  # type: ignore[arg-type]
                        )
                        await asyncio.sleep(0.005)

                async def served() -> bool:
                    return (await http.fetch(opener(replicas.client_port), "/")).status == 200

                await until(served, "the first request")
                loads = [asyncio.create_task(load(path)) for path in ("/", "/", "/", "/slow", "/slow")]
                for name, server in replicas.servers.items():
                    assert await server.stop() == 0
                    await server.start()
                    await until(server.ready, f"{name} is back")
                    await until(lambda name=name: replicas.healthy(name), f"{name} healthy")
                stop.set()
                await asyncio.gather(*loads)
                assert not failed, failed[:5]
                assert len(done) > 200
            following.cancel()

    asyncio.run(run())
