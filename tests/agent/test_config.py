"""What a user sees when the configuration or the place is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from msgspec.structs import replace

from fairlead.agent import files
from fairlead.agent.bootstrap import bootstrap, encode, node_id, patched, variables
from fairlead.agent.identity import Identity, further_roots
from fairlead.agent.process import Lines, RotatingLog
from fairlead.agent.proxy import Proxy
from fairlead.agent.sds import secrets
from fairlead.agent.status import takes_gzip
from fairlead.ca.authority import open_authority
from fairlead.cli.agent import agent
from fairlead.envoy.messages import parse
from fairlead.envoy.peer import Workload
from fairlead.ir.proxystart import StartLayer, StartLayers, annotation_problems, effective, read_annotation
from fairlead.model.launch import AgentConfig, BootstrapPatch, ProxySettings
from fairlead.model.path import ROOT

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
    both = bootstrap(replace(config, more_addresses=("fd00::9",)))["node"]
    assert both["metadata"]["INSTANCE_IPS"] == "127.66.0.9,fd00::9"


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


PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
SETTINGS = """
statusPort: 15021
drainDuration: 7s
terminationDrainDuration: 4s
fileFlushInterval: 250ms
fileFlushMinSizeKb: 16
extraStatTags: [tenant]
proxyStatsMatcher:
  {inclusionPrefixes: ["http.{pod_ip}_"], inclusionSuffixes: [cx_total], inclusionRegexps: [".*retry.*"]}
runtimeValues: {envoy.reloadable_features.x: "false", re2.max_program_size.error_level: "", own.limit: "7"}
connectionSettings: {globalDownstreamConnectionLimit: 500}
envoyMetricsService: {address: "metrics.example:15000", tcpKeepalive: {time: 5s}, tlsSettings: {mode: %s}}
statsdUdpAddress: 127.0.0.1:9125
meshId: blue
tracingServiceName: CANONICAL_NAME_AND_NAMESPACE
"""


SINGLE = {
    "prometheus.istio.io/merge-metrics": "false",
    "sidecar.istio.io/componentLogLevel": "upstream:debug,http:trace",
    "sidecar.istio.io/extraStatTags": "tenant",
    "sidecar.istio.io/logLevel": "error",
    "sidecar.istio.io/statsEvictionInterval": "20s",
    "sidecar.istio.io/statsFlushInterval": "2s",
    "sidecar.istio.io/statsHistogramBuckets": '{"istiocustom": [1, 5.5, 10]}',
    "status.sidecar.istio.io/port": "15022",
    "resource.opentelemetry.io/service.name": "own, name",
}


@pytest.mark.parametrize("mode", ["DISABLE", "SIMPLE", "ISTIO_MUTUAL"])
def test_real_envoy_starts_with_all_that_a_workload_says(tmp_path: Path, mode: str) -> None:
    annotations = {"proxy.istio.io/config": SETTINGS % mode, **SINGLE}
    assert not list(annotation_problems(annotations, ROOT))
    semantic = StartLayer(settings=ProxySettings(semantic_names=True))
    config = AgentConfig(
        **{**GOOD, "address": "127.66.0.9", "labels": {"app": "web"}, "directory": str(tmp_path)},
        proxy=effective(StartLayers(general=semantic), annotations).settings,
    )
    assert (config.proxy.merge_metrics, config.proxy.status_port) == (False, 15022)
    told = variables(config, Workload.of("web", "shop", {}, ""))
    assert told["OTEL_RESOURCE_ATTRIBUTES"] == (
        "service.name=own__name,service.namespace=shop,service.instance.id=shop.web-0"
    )
    assert told["DD_SERVICE"] == "web.shop"
    made = bootstrap(config)
    stats, node = made["stats_config"], made["node"]
    kept = stats["stats_matcher"]["inclusion_list"]["patterns"]
    assert kept[-3:] == [{"prefix": "http.127.66.0.9_"}, {"suffix": "cx_total"}, {"safe_regex": {"regex": ".*retry.*"}}]
    assert stats["stats_tags"][-1] == {"tag_name": "tenant", "regex": r"(tenant=\.=(.*?);\.)"}
    layer = made["layered_runtime"]["layers"][0]["static_layer"]
    assert layer == {"envoy.reloadable_features.x": False, "own.limit": "7"}
    limit = made["overload_manager"]["resource_monitors"][0]["typed_config"]["max_active_downstream_connections"]
    assert (limit, node["cluster"], node["metadata"]["MESH_ID"]) == (500, "web.shop", "blue")
    assert (made["stats_flush_interval"], made["stats_eviction_interval"]) == ("2s", "20s")
    assert stats["histogram_bucket_settings"] == [{"match": {"prefix": "istiocustom"}, "buckets": [1, 5.5, 10]}]
    proxy = Proxy(config)
    options = " ".join(proxy._command())
    assert "--log-level error --component-log-level misc:error,upstream:debug,http:trace" in options
    assert "--drain-time-s 7 --file-flush-interval-msec 250 --file-flush-min-size-kb 16" in options
    (tmp_path / "bootstrap.json").write_bytes(encode(made))
    run = subprocess.run(
        [*proxy._command(), "--mode", "validate"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("sidecar.istio.io/logLevel", "loud", "FL3300"),
        ("sidecar.istio.io/componentLogLevel", "upstream", "FL3300"),
        ("sidecar.istio.io/statsHistogramBuckets", '{"a": [2, 1]}', "FL3300"),
        ("sidecar.istio.io/statsInclusionRegexps", "(?=x)", "FL3300"),
        ("sidecar.istio.io/statsEvictionInterval", "7s", "FL3300"),
        ("status.sidecar.istio.io/port", "0", "FL3300"),
        ("sidecar.istio.io/proxyCPU", "100m", "FL0100"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306", "FL0100"),
        ("sidecar.istio.io/logLevels", "debug", "FL0103"),
        ("sidecar.istio.io/statsInclusionPrefixes", "http.,tcp.", ""),
        ("example.org/anything", "", ""),
    ],
)
def test_annotations_of_pods_work_or_are_named(name: str, text: str, code: str) -> None:
    found = list(annotation_problems({name: text}, ROOT))
    assert [(one.path[-1], one.code) for one in found] == ([(name, code)] if code else [])


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("statsdUdpAddress: statsd:9125", "statsdUdpAddress"),
        ("proxyStatsMatcher: {inclusionRegexps: ['(?=x)']}", "proxyStatsMatcher.inclusionRegexps[0]"),
        ("extraStatTags: ['a b']", "extraStatTags[0]"),
        ("caCertificatesPem: [nonsense]", "caCertificatesPem[0]"),
        ("envoyMetricsService: {address: metrics}", "envoyMetricsService.address"),
        ("envoyMetricsService: {address: 'm:1', tlsSettings: {mode: MUTUAL}}", "envoyMetricsService.tlsSettings"),
        ("statusPort: 70000", "statusPort"),
    ],
)
def test_what_envoy_would_not_start_with_is_refused(text: str, where: str) -> None:
    said, problems = read_annotation(text)
    assert said is None and [str(one.path) for one in problems] == [where]


def test_further_roots_are_for_peers_only(tmp_path: Path) -> None:
    root = open_authority(tmp_path / "ca", "cluster.local", lambda: datetime.now(UTC)).root_pem
    given = ProxySettings(mesh_certificates=(root, PEM), ca_certificates=(root,))
    roots = further_roots(given)
    assert roots.count(b"BEGIN CERTIFICATE") == 1 and roots.decode().strip() == root.strip()
    own = Identity(b"", b"", b"OWN", 0, 0, "1")
    shown = secret_pb2.Secret.FromString(secrets(own, roots)["ROOTCA"].resource.value)
    assert shown.validation_context.trusted_ca.inline_bytes == b"OWN" + roots and own.roots == b"OWN"


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip;q=0.00, br", False),
        ("br", False),
    ],
)
def test_compression_is_for_those_who_take_it(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


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


def test_an_interruption_ends_an_agent_that_waits_for_its_control_plane(tmp_path: Path) -> None:
    config = tmp_path / "agent.json"
    roots, token = tmp_path / "roots.pem", tmp_path / "token"
    roots.write_text("")
    token.write_text("t")
    given = {**GOOD, "directory": str(tmp_path), "root_cert_file": str(roots), "token_file": str(token)}
    config.write_text(json.dumps(given))
    words = [sys.executable, "-m", "fairlead.cli.main", "agent", "--config", str(config)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = running.stderr.readline()
        assert "no new certificate" in said, said
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait(20) == 0 and "ended with status 0" in rest and "Traceback" not in rest, rest
