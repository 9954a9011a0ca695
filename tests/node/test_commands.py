"""`fairlead run` with a stand-in for the agent, and `fairlead logs`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fairlead.agent.bootstrap import metadata
from fairlead.cli.node import logs, node, run
from fairlead.ir.proxystart import ANNOTATION, StartLayer, StartLayers
from fairlead.kinds.process import KIND
from fairlead.kinds.process.spec import ProcessPort, ProcessSpec
from fairlead.model.entry import EntrySpec
from fairlead.model.group import GroupMetadata, GroupSpec
from fairlead.model.launch import AgentConfig
from fairlead.model.object import Metadata, Object
from fairlead.model.probe import Probe, TCPSocket
from fairlead.node.addresses import Block
from fairlead.node.api import ApiError, Client
from fairlead.node.foreground import Foreground, RunRequest, as_member, parse_port
from fairlead.node.kubeconfig import Access
from fairlead.node.launch import Mesh, Place, agent_config, template

from .fake_api import FakeAPI

AGENT = (sys.executable, str(Path(__file__).with_name("fake_agent.py")))


async def foreground(state: Path, command: list[str], account: str = "default") -> tuple[int, FakeAPI, list[str]]:
    api = FakeAPI()
    seen: list[str] = []
    await api.start()
    try:
        async with Client(Access(f"http://127.0.0.1:{api.port}")) as client:
            mesh = Mesh("127.0.0.1:1", "127.0.0.1:2", "/nowhere")
            runner = Foreground(state, mesh, client, AGENT, "/samples", "127.91.7.0/24")
            spec = ProcessSpec(
                command=tuple(command),
                capture="explicit",
                ports=(ProcessPort(9080, "http"),),
                labels={"app": "tool"},
                service_account_name=account,
            )
            task = asyncio.create_task(runner.run(RunRequest("tool", "shop", spec)))
            while not task.done():
                seen += [name for name in api.of("workloadentries") if name not in seen]
                await asyncio.sleep(0.01)
            status, _ = await task
            return status, api, seen
    finally:
        await api.stop()


def test_run_registers_passes_the_status_on_and_cleans_up(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    code = f"import os; open({str(proof)!r}, 'w').write(os.environ['POD_NAMESPACE'] + os.environ['PORT']); os._exit(7)"
    status, api, seen = asyncio.run(foreground(tmp_path, [sys.executable, "-c", code]))
    assert status == 7
    assert proof.read_text() == "shop9080"
    assert len(seen) == 1 and seen[0].startswith("tool-")
    assert not api.of("workloadentries")
    assert not list((tmp_path / "node/shop").iterdir())


def test_run_without_an_account_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="nobody"):
        asyncio.run(foreground(tmp_path, ["true"], "nobody"))
    assert not list((tmp_path / "node/shop").iterdir())


def test_ports_as_words() -> None:
    assert parse_port("http:9080") == ProcessPort(9080, "http")
    assert parse_port("9080") == ProcessPort(9080)
    for text in ("http", "http:0", "http:99999", ""):
        with pytest.raises(ValueError, match="is not a port"):
            parse_port(text)


def test_commands_fail_with_one_sentence(tmp_path: Path) -> None:
    runner = CliRunner()
    for command, arguments in (
        (node, ["--state", str(tmp_path)]),
        (run, ["--state", str(tmp_path), "--", "true"]),
        (run, ["--state", str(tmp_path), "-l", "novalue", "--", "true"]),
        (run, ["--state", str(tmp_path), "-p", "http:x", "--", "true"]),
        (run, ["--state", str(tmp_path), "-p", "htpp:80", "-p", "80", "--", "true"]),
        (logs, ["--state", str(tmp_path), "web"]),
    ):
        result = runner.invoke(command, arguments)
        assert result.exit_code in (1, 2), result.output
        assert "Error: " in result.output and "Traceback" not in result.output


def test_logs(tmp_path: Path) -> None:
    for replica, text in (("web-0", "zero\nnull\n"), ("web-1", "one\n"), ("website-0", "other\n")):
        directory = tmp_path / "node/shop" / replica
        directory.mkdir(parents=True)
        (directory / "app.log").write_text(text)
        (directory / "proxy.log").write_text("envoy\n")

    def shown(*arguments: str) -> str:
        result = CliRunner().invoke(logs, ["--state", str(tmp_path), "-n", "shop", *arguments])
        return result.output

    assert shown("web") == "[web-0] zero\n[web-0] null\n[web-1] one\n"
    assert shown("web", "--replica", "0", "--tail", "1") == "null\n"
    assert shown("web-1") == "one\n"
    assert shown("web", "--proxy", "--replica", "1") == "envoy\n"
    assert "did you mean web?" in shown("wep")


def test_the_command_module_is_light() -> None:
    code = "import sys, fairlead.cli.node; print(sorted({'aiohttp', 'rich', 'asyncio', 'msgspec'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_member_of_a_group_takes_everything_from_it() -> None:
    template = EntrySpec(labels={"app": "a"}, service_account="sa", ports={"http": 80, "tcp": 81})
    group = GroupSpec(template, GroupMetadata(labels={"tier": "x"}), Probe(tcp_socket=TCPSocket(80)))
    spec = ProcessSpec(command=("true",), ports=(ProcessPort(80, "mine"),))
    made = as_member(RunRequest("true", "shop", spec, "web"), group)
    assert made.name == "web"
    assert (made.spec.labels, made.spec.service_account_name) == ({"app": "a", "tier": "x"}, "sa")
    assert made.spec.ports == (ProcessPort(80, "mine"), ProcessPort(81, "tcp"))
    assert made.spec.readiness_probe == Probe(tcp_socket=TCPSocket(80))


def test_a_member_is_not_told_twice_who_it_is(tmp_path: Path) -> None:
    said = ["--state", str(tmp_path), "--workload-group", "web", "-l", "a=b", "--", "true"]
    result = CliRunner().invoke(run, said)
    assert result.exit_code == 2 and "leave them out" in result.output


def test_a_replica_starts_its_proxy_as_annotation_and_objects_say() -> None:
    def process(**annotations: str) -> Object[ProcessSpec]:
        meta = Metadata(name="web", namespace="shop", annotations=annotations)
        return Object(KIND.ref("shop", "web"), meta, ProcessSpec(command=("true",)))

    place = Place(Block("127.91.8.0/24").addresses(1), "/nowhere", "explicit")
    mesh = Mesh("127.0.0.1:1", "127.0.0.1:2", "/nowhere")
    said = process(**{ANNOTATION: "{concurrency: 4, proxyMetadata: {ISTIO_META_A: own, B: own}}"})
    start = StartLayers(StartLayer(2, {"B": "mesh", "C": "mesh"}), StartLayer(None, {"ISTIO_META_A": "object"}))
    config = agent_config(said, "web-0", place, mesh, start=start)
    assert config.concurrency == 4
    assert config.proxy_env == {"ISTIO_META_A": "object", "B": "own", "C": "mesh"}
    assert metadata(config)["A"] == "object" and "B" not in metadata(config)
    plain = agent_config(process(), "web-0", place, mesh)
    assert plain.status_port == 15020
    assert msgspec.json.decode(msgspec.json.encode(plain), type=AgentConfig) == plain, "as the agent reads it"
    assert (plain.concurrency, plain.proxy_env) == (1, {})
    assert agent_config(process(), "web-0", place, mesh, start=StartLayers(StartLayer(0))).concurrency == 0
    assert template(said) != template(process())
    own = "{terminationDrainDuration: 5s, statusPort: 15055, readinessProbe: {tcpSocket: {port: 80}}}"
    told = agent_config(process(**{ANNOTATION: own}), "web-0", place, mesh)
    assert (told.drain_seconds, told.status_port, told.readiness) == (5, 15055, Probe(tcp_socket=TCPSocket(80)))
    given = ProcessSpec().termination_grace_period_seconds
    longer = agent_config(process(**{ANNOTATION: "terminationDrainDuration: 10h"}), "web-0", place, mesh)
    assert (longer.drain_seconds, longer.status_port, plain.status_port) == (given, 15020, 15020)
    assert [msgspec.json.decode(msgspec.json.encode(one), type=AgentConfig) for one in (plain, told)] == [plain, told]
