"""What a user sees when the configuration or the place is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from msgspec.structs import replace

from fairlead.agent import files
from fairlead.agent.bootstrap import bootstrap, node_id, patched
from fairlead.agent.process import Lines, RotatingLog
from fairlead.cli.agent import agent
from fairlead.envoy.messages import parse
from fairlead.model.launch import AgentConfig, BootstrapPatch

GOOD = {
    "name": "web-0",
    "namespace": "shop",
    "service_account": "web",
    "directory": "/nowhere",
    "xds_address": "127.0.0.1:1",
    "join_address": "127.0.0.1:2",
    "root_cert_file": "/nowhere/root.pem",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"directory": "here"}, "directory: 'here' must be an absolute path"),
        ({"capture": {"mode": "netns"}}, "capture.netns"),
        ({"status_port": "x"}, "status_port"),
        ({"xds_address": ""}, "must not be empty"),
    ],
)
def test_wrong_configuration(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({**GOOD, **change}))
    result = CliRunner().invoke(agent, ["--config", str(path)])
    assert result.exit_code == 2
    assert said in result.output and "Traceback" not in result.output


def test_second_agent_in_a_directory_is_refused(tmp_path: Path) -> None:
    held = files.lock(tmp_path / "agent.lock")
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({**GOOD, "directory": str(tmp_path)}))
    result = CliRunner().invoke(agent, ["--config", str(path)])
    assert result.exit_code == 1
    assert "another agent runs in this directory" in result.output
    assert held > 0


def test_node_is_istios() -> None:
    config = AgentConfig(**{**GOOD, "address": "127.66.0.9", "locality": "r/z", "labels": {"app": "web"}})
    assert node_id(config) == "sidecar~127.66.0.9~web-0.shop~shop.svc.cluster.local"
    node = bootstrap(config)["node"]
    assert node["locality"] == {"region": "r", "zone": "z"} and node["cluster"] == "web.shop"
    assert node["metadata"]["INTERCEPTION_MODE"] == "NONE" and node["metadata"]["INSTANCE_IPS"] == "127.66.0.9"


def test_bootstrap_is_patched_as_istio_does() -> None:
    layer = {"layered_runtime": {"layers": [{"name": "own", "static_layer": {"a": "b"}}]}}
    said: list[tuple[dict[str, object], dict[str, object]]] = [
        (layer, {}),
        ({"stats_flush_interval": "7s", "stats_config": {"use_all_default_tags": True}}, {"version": r"^\d"}),
        ({"stats_flush_interval": "9s"}, {"version": "nothing"}),
        ({"stats_flush_interval": "9s"}, {"metadata": (("NAME", "other"),)}),
        ({"bootstrap_extensions": [{"name": "only"}]}, {"metadata": (("NAME", "web-0"),), "replace_lists": True}),
    ]
    patches = tuple(BootstrapPatch(parse(Bootstrap, value), **more) for value, more in said)  # type: ignore[arg-type]
    plain = AgentConfig(**GOOD)
    made = patched(replace(plain, bootstrap=patches))
    assert [one["name"] for one in made["layered_runtime"]["layers"]] == ["static", "admin", "own"]
    assert made["stats_flush_interval"] == "7s" and made["stats_config"]["use_all_default_tags"] is True
    assert len(made["stats_config"]["stats_tags"]) == len(bootstrap(plain)["stats_config"]["stats_tags"])
    assert made["bootstrap_extensions"] == [{"name": "only"}]
    assert patched(plain) == bootstrap(plain)
    assert patched(replace(plain, bootstrap=patches[2:4])) == bootstrap(plain)


def test_log_is_bounded(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "app.log", size=100, keep=3)
    for number in range(50):
        log(b"line %03d of the application\n" % number)
    log.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["app.log", "app.log.1", "app.log.2"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert b"line 049" in (tmp_path / "app.log").read_bytes()


def test_lines() -> None:
    found: list[str] = []
    lines = Lines(found.append)
    for chunk in (b"a\nb", b"c\n", b"x" * 70000, b"\n"):
        lines(chunk)
    assert found == ["a", "bc", "x" * 70000, ""]


def test_deep_directories_have_sockets(tmp_path: Path) -> None:
    import socket

    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(files.socket_path(deep, "a.sock"))
    assert (deep / "a.sock").is_socket()
