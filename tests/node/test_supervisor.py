"""The supervisor with real processes, an API in memory over HTTP, and a stand-in for the agent."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.model.launch import AgentConfig
from fairlead.node.api import Client
from fairlead.node.kubeconfig import Access
from fairlead.node.launch import Mesh
from fairlead.node.supervisor import NodeConfig, Supervisor
from tests.loopback import network

from .fake_api import FakeAPI, Json

AGENT = (sys.executable, str(Path(__file__).with_name("fake_agent.py")))
PATH = "/apis/fairlead.dev/v1alpha1/namespaces/shop/processes/"
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def process(name: str = "web", **spec: Any) -> Json:
    meta = {"name": name, "namespace": "shop", "generation": 1, "uid": "u"}
    body = {"command": SLEEPER, "capture": "explicit", "labels": {"app": name}, **spec}
    return {"apiVersion": "fairlead.dev/v1alpha1", "kind": "Process", "metadata": meta, "spec": body}


class Bench:
    """A node under test: its API, its state and its supervisor, which can be killed and started again."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.api = FakeAPI()
        self.block = f"{network()}.0.0/24"
        self.supervisor: Supervisor | None = None
        self.task: asyncio.Task[None] | None = None
        self.client: Client | None = None

    async def start(self) -> Supervisor:
        self.client = Client(Access(f"http://127.0.0.1:{self.api.port}"))
        mesh = Mesh("127.0.0.1:15012", "127.0.0.1:15013", "/nowhere/root.pem")
        config = NodeConfig(self.state, mesh, "n1", self.block, AGENT, samples="/samples")
        self.supervisor = Supervisor(config, self.client)
        self.task = asyncio.create_task(self.supervisor.run())
        return self.supervisor

    async def crash(self) -> None:
        """End the supervisor without letting it end anything."""
        assert self.task is not None and self.client is not None
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.client.close()
        self.supervisor = None

    def instances(self, name: str = "web") -> list[Json]:
        return self.api.objects[PATH + name].get("status", {}).get("instances", [])

    async def until(self, what: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = asyncio.get_running_loop().time() + seconds
        while not (found := what()):
            if self.task is not None and self.task.done():
                self.task.result()
            if asyncio.get_running_loop().time() > deadline:
                pytest.fail(f"never so: {self.api.objects}")
            await asyncio.sleep(0.02)
        return found

    async def ready(self, count: int, name: str = "web") -> list[Json]:
        def settled() -> bool:
            status = self.api.objects[PATH + name].get("status", {})
            return status.get("readyReplicas") == count == status.get("updatedReplicas") == status.get("replicas")

        await self.until(settled)
        return self.instances(name)


@asynccontextmanager
async def bench(state: Path) -> AsyncIterator[Bench]:
    one = Bench(state)
    await one.api.start()
    try:
        await one.start()
        yield one
    finally:
        one.api.broken = False
        if one.supervisor is None:
            await one.start()
        assert one.supervisor is not None and one.task is not None and one.client is not None
        await one.supervisor.stop(5)
        await asyncio.wait([one.task], timeout=10)
        await one.client.close()
        await one.api.stop()


def run(test: Callable[[Bench], Any], state: Path) -> None:
    async def whole() -> None:
        async with bench(state) as one:
            await test(one)

    asyncio.run(whole())


def test_replicas_start_register_and_leave(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        service = {"metadata": {"name": "reviews-api"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 9080}]}}
        await one.api.put("/api/v1/namespaces/shop/services/reviews-api", service)
        await one.api.put(
            PATH + "web",
            process(
                replicas=2,
                serviceAccountName="reviews",
                ports=[{"name": "http", "port": 8080, "appProtocol": "HTTP"}],
                args=["--listen", "$(HOST):$(PORT)", "$$(HOST)", "$(NOBODY)"],
                env=[{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}],
            ),
        )
        instances = await one.ready(2)
        assert [item["name"] for item in instances] == ["web-0", "web-1"]
        entries = one.api.of("workloadentries")
        assert entries["web-0"]["spec"] == {
            "address": instances[0]["address"],
            "labels": {
                "app": "web",
                "security.istio.io/tlsMode": "istio",
                "service.istio.io/workload-name": "web",
            },
            "ports": {"http": 8080},
            "serviceAccount": "reviews",
        }
        assert entries["web-0"]["status"]["conditions"][0]["status"] == "False", "healthy before its agent said so"
        assert entries["web-0"]["metadata"]["labels"]["fairlead.dev/process"] == "web"
        directory = tmp_path / "node/shop/web-0"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "token").stat().st_mode) == 0o600
        assert (directory / "token").read_text() in one.api.tokens
        config = msgspec.json.decode((directory / "agent.json").read_bytes(), type=AgentConfig)
        own = config.capture.app_address
        assert config.capture.mode == "explicit" and own != config.address
        assert config.command[3:] == ("--listen", f"{own}:8080", "$(HOST)", "$(NOBODY)")
        assert config.env["B"] == "12" and config.env["POD_NAME"] == "web-0"
        assert config.env["HTTP_PROXY"] == f"http://{config.capture.outbound_address}:15002"
        assert config.env["REVIEWS_API_SERVICE_HOST"] == config.capture.outbound_address
        assert config.env["REVIEWS_API_SERVICE_PORT"] == "9080"
        await one.until(lambda: "up" in (directory / "app.log").read_text())

        await one.api.remove(PATH + "web")
        await one.until(lambda: not one.api.of("workloadentries"))
        await one.until(lambda: not (directory / "token").exists())
        assert (directory / "app.log").read_text() == "up\n"

    run(check, tmp_path)


def test_a_changed_spec_replaces_one_replica_at_a_time(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process(replicas=2))
        before = {item["pid"] for item in await one.ready(2)}
        lows: list[int] = []
        assert one.supervisor is not None
        supervisor = one.supervisor

        async def watch() -> None:
            while True:
                (status,) = supervisor.status().values()
                lows.append(status.ready_replicas)
                assert status.replicas <= 3
                await asyncio.sleep(0.005)

        watcher = asyncio.create_task(watch())
        document = one.api.objects[PATH + "web"]
        document["metadata"]["annotations"] = {"fairlead.dev/restarted-at": "now"}
        await one.api.put(PATH + "web", document)
        await one.until(lambda: not before & {item.get("pid") for item in one.instances()})
        after = await one.ready(2)
        watcher.cancel()
        assert min(lows) >= 2, "fewer ready replicas than wanted during the replacement"
        assert len(after) == 2
        assert set(one.api.of("workloadentries")) == {item["name"] for item in after}

    run(check, tmp_path)


def test_a_replica_that_never_gets_ready_stops_the_replacement(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process())
        (old,) = await one.ready(1)
        document = one.api.objects[PATH + "web"]
        document["spec"]["env"] = [{"name": "READY_AFTER", "value": "3600"}]
        await one.api.put(PATH + "web", document)
        await one.until(lambda: len(one.instances()) == 2)
        await asyncio.sleep(0.5)
        assert old["pid"] in {item["pid"] for item in one.instances() if item.get("ready")}
        document["spec"].pop("env")
        await one.api.put(PATH + "web", document)
        assert [item["pid"] for item in await one.ready(1)] == [old["pid"]]

    run(check, tmp_path)


def test_a_crash_loop_backs_off_and_says_so(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process(command=[sys.executable, "-c", "raise SystemExit(3)"]))
        await one.until(lambda: any(item.get("restarts", 0) >= 1 for item in one.instances()))
        await one.until(lambda: any(item.get("state") == "Waiting" for item in one.instances()))
        await one.until(lambda: not one.api.of("workloadentries"))
        (condition,) = one.api.objects[PATH + "web"]["status"]["conditions"]
        assert condition["reason"] in ("CrashLoopBackOff", "Starting")
        assert one.instances()[0]["lastExit"] == "exit 3"

    run(check, tmp_path)


def test_a_defect_of_the_node_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fairlead.node import replica

    def broken(*_: object, **__: object) -> None:
        raise TypeError("not a port")

    monkeypatch.setattr(replica, "agent_config", broken)

    async def test(one: Bench) -> None:
        await one.api.put(PATH + "web", process())

        def said() -> list[str]:
            return [at["message"] for at in one.instances() if "failed to start it" in at.get("message", "")]

        assert "TypeError: not a port" in (await one.until(said))[0]
        monkeypatch.undo()
        await one.ready(1)

    run(test, tmp_path)


def test_restart_policies(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        once = {"restartPolicy": "Never"}
        await one.api.put(PATH + "good", process("good", command=[sys.executable, "-c", "pass"], **once))
        await one.api.put(PATH + "bad", process("bad", command=[sys.executable, "-c", "raise SystemExit(1)"], **once))
        await one.until(lambda: [item.get("state") for item in one.instances("good")] == ["Completed"])
        await one.until(lambda: [item.get("state") for item in one.instances("bad")] == ["Failed"])
        await one.crash()
        await one.start()
        assert one.supervisor is not None
        await one.until(one.supervisor.synced.is_set)
        await asyncio.sleep(0.3)
        states = {key.name: status.instances[0].state for key, status in one.supervisor.status().items()}
        assert states == {"good": "Completed", "bad": "Failed"}

    run(check, tmp_path)


def test_agents_outlive_the_node_and_are_taken_over(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process(replicas=2))
        before = {item["name"]: item for item in await one.ready(2)}
        await one.crash()
        for item in before.values():
            os.kill(item["pid"], 0)
        # With its application: nobody else would end that.
        os.killpg(before["web-1"]["pid"], signal.SIGKILL)
        await one.start()
        await one.until(lambda: any(item.get("restarts") for item in one.instances()))
        after = {item["name"]: item for item in await one.ready(2)}
        assert after["web-0"]["pid"] == before["web-0"]["pid"]
        assert after["web-1"]["pid"] != before["web-1"]["pid"]
        assert {name: item["address"] for name, item in after.items()} == {
            name: item["address"] for name, item in before.items()
        }

    run(check, tmp_path)


def test_the_api_may_be_away(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process())
        (before,) = await one.ready(1)
        await one.crash()
        one.api.broken = True
        async with one.api.changed:
            one.api.changed.notify_all()
        supervisor = await one.start()
        os.killpg(before["pid"], signal.SIGKILL)

        def back() -> bool:
            status = next(iter(supervisor.status().values()), None)
            return status is not None and status.ready_replicas == 1 and status.instances[0].pid != before["pid"]

        await one.until(back)
        one.api.broken = False
        one.api.objects["/apis/networking.istio.io/v1/namespaces/shop/workloadentries/ghost-0"] = {
            "metadata": {"name": "ghost-0", "namespace": "shop", "labels": {"fairlead.dev/node": "n1"}}
        }
        await one.until(lambda: "ghost-0" not in one.api.of("workloadentries"))
        assert "web-0" in one.api.of("workloadentries")

    run(check, tmp_path)


def test_an_expired_watch_is_listed_again(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process())
        await one.ready(1)
        await one.api.stop()
        one.api.revision += 100
        one.api.compacted = one.api.revision
        one.api.log.clear()
        await one.api.start()
        await one.api.put(PATH + "second", process("second"))
        await one.ready(1, "second")

    run(check, tmp_path)


def test_a_missing_service_account_is_named(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process(serviceAccountName="nobody"))
        await one.until(lambda: any(item.get("message") for item in one.instances()))
        (condition,) = one.api.objects[PATH + "web"]["status"]["conditions"]
        assert condition["reason"] == "CannotStart"
        assert "no service account nobody in namespace shop" in condition["message"]
        one.api.accounts.add(("shop", "nobody"))
        await one.ready(1)
        assert [item.get("restarts", 0) for item in one.instances()] == [0], "nothing ran before"

    run(check, tmp_path)


def test_processes_of_other_nodes_are_left_alone(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "named", process("named", node="n2"))
        await one.api.put(PATH + "claimed", {**process("claimed"), "status": {"node": "n2"}})
        await one.api.put(PATH + "web", process())
        await one.ready(1)
        assert one.api.objects[PATH + "web"]["status"]["node"] == "n1"
        assert set(one.api.of("workloadentries")) == {"web-0"}

    run(check, tmp_path)


def test_gateways_and_bare_programs(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        gateway = {**process("edge"), "spec": {"proxy": "router", "labels": {"istio": "ingressgateway"}}}
        await one.api.put(PATH + "edge", gateway)
        bare = process("bare", proxy="none", capture="auto", ports=[{"port": 7000}])
        await one.api.put(PATH + "bare", bare)
        (edge,) = await one.ready(1, "edge")
        (plain,) = await one.ready(1, "bare")
        config = msgspec.json.decode((tmp_path / "node/shop/edge-0/agent.json").read_bytes(), type=AgentConfig)
        assert (config.proxy_type, config.entry, config.command) == ("router", "", ())
        assert config.address == edge["address"]
        entries = one.api.of("workloadentries")
        assert set(entries) == {"bare-0"} and "serviceAccount" not in entries["bare-0"]["spec"]
        environment = Path(f"/proc/{plain['pid']}/environ").read_bytes().split(b"\0")  # noqa: ASYNC240
        assert f"HOST={plain['address']}".encode() in environment

    run(check, tmp_path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_auto_takes_a_network_namespace_and_gives_it_back(tmp_path: Path) -> None:
    async def check(one: Bench) -> None:
        await one.api.put(PATH + "web", process(capture="auto", ports=[{"port": 8080}]))
        (instance,) = await one.ready(1)
        assert instance["capture"] == "netns"
        config = msgspec.json.decode((tmp_path / "node/shop/web-0/agent.json").read_bytes(), type=AgentConfig)
        namespace = Path(config.capture.netns)
        assert config.capture.mode == "netns" and namespace.is_absolute()
        assert namespace.exists()  # noqa: ASYNC240
        assert config.env["HOST"] == "0.0.0.0" and "HTTP_PROXY" not in config.env
        await one.crash()
        await one.start()
        await one.until(lambda: one.supervisor is not None and one.supervisor.synced.is_set())
        assert namespace.exists(), "a namespace in use was swept"  # noqa: ASYNC240
        await one.api.remove(PATH + "web")
        await one.until(lambda: not namespace.exists())

    run(check, tmp_path)
