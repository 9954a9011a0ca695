"""Capture rules in a real kernel with a real Envoy: what comes in and goes out passes through it. Needs root."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from fairlead.agent.proxy import find_envoy
from fairlead.cli.capture import capture
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.envoy.messages import parse
from fairlead.envoy.resource import CLUSTER, LISTENER
from fairlead.ir.view import View
from fairlead.model.launch import AppPort, Capture
from fairlead.model.yaml import parse_documents

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip")
PROXY_GROUP = 1337
_FILTERS = "type.googleapis.com/envoy.extensions.filters"
SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{sys.argv[1]} saw {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), H).serve_forever()
"""
ASK = """
import http.client, json, sys
link = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
link.request("GET", "/")
answer = link.getresponse()
if answer.status != 200:
    sys.exit("not yet")
through = answer.getheader("x-through") or (answer.getheader("x-fairlead-peer") and "envoy")
print(json.dumps([answer.read().decode(), through]))
"""
PLAIN = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: app}
spec: {mtls: {mode: DISABLE}}
"""
APP = AppPort(8080, "http")


def _listener(name: str, port: int, cluster: str) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "response_headers_to_add": [
                {"header": {"key": "x-through", "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}
            ],
        },
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "listener_filters": [
            {
                "name": "envoy.filters.listener.original_dst",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
                },
            }
        ],
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _cluster(name: str, source: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    if source:
        made["upstream_bind_config"] = {"source_address": {"address": source, "port_value": 0}}
    return made


class Pod:
    """A namespace with a veth to another one that stands for the rest of the world."""

    def __init__(self, directory: Path) -> None:
        tag = secrets.token_hex(3)
        self.name, self.world = f"fl-pod-{tag}", f"fl-world-{tag}"
        self.address, self.outside = "10.231.7.2", "10.231.7.1"
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        for one in (self.name, self.world):
            _ip("netns", "add", one)
            _ip("-n", one, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.world)
        for one, address in ((self.name, self.address), (self.world, self.outside)):
            _ip("-n", one, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", one, "link", "set", "eth0", "up")

    def start(self, where: str, *command: str, **more: Any) -> None:
        full = ("ip", "netns", "exec", where, *command)
        self._running.append(subprocess.Popen(full, stderr=subprocess.DEVNULL, **more))

    def envoy(self, compiled: Catalog | None = None) -> None:
        """With listeners and clusters that show which way a request went; what comes in as it is compiled, if given."""
        clusters = [_cluster("app", "127.0.0.6"), _cluster("out")]
        listeners = [_listener("outbound", 15001, "out")]
        if compiled is None:
            listeners.append(_listener("inbound", 15006, "app"))
        made = Bootstrap.FromString(
            parse(Bootstrap, {"static_resources": {"listeners": listeners, "clusters": clusters}})
        )
        if compiled is not None:
            made.static_resources.listeners.add().ParseFromString(compiled[LISTENER]["virtualInbound"].body)
            for name, one in compiled[CLUSTER].items():
                if name.startswith(("inbound", "Inbound")):
                    made.static_resources.clusters.add().ParseFromString(one.body)
        # Not as JSON: Envoy knows fields that the messages here lack.
        file = self._directory / "envoy.pb"
        file.write_bytes(made.SerializeToString())
        options = ("-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "error")
        self.start(self.name, find_envoy(""), *options, group=PROXY_GROUP)

    def ask(self, where: str, address: str, port: int, through: str = "") -> tuple[str, str | None]:
        """The answer and what it came through; asked again until there is one (that came `through` that)."""
        end = time.monotonic() + 20
        while True:
            command = ("ip", "netns", "exec", where, sys.executable, "-c", ASK, address, str(port))
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            if done.returncode == 0:
                text, passed = json.loads(done.stdout)
                if through in ("", passed):
                    return text, passed
            assert time.monotonic() < end, done.stderr or done.stdout
            time.sleep(0.1)

    def close(self) -> None:
        for one in self._running:
            one.kill()
            one.wait()
        for name in (self.name, self.world):
            subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(("ip", *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    try:
        made = Pod(tmp_path)
    except RuntimeError as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        yield made
    finally:
        made.close()


def test_what_comes_in_and_goes_out_passes_through_envoy(pod: Pod) -> None:
    chosen = (
        "inbound-ports-include=*",
        "inbound-ports-exclude=8081",
        "outbound-ip-ranges-include=*",
        "outbound-ports-exclude=9001",
        "exclude-interfaces=nowhere",
    )
    options = [part for one in chosen for part in ("--set", one)]
    done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
    assert done.exit_code == 0, done.output
    pod.envoy()
    for where, name, ports in ((pod.name, "app", (8080, 8081)), (pod.world, "world", (9000, 9001))):
        for port in ports:
            pod.start(where, sys.executable, "-c", SERVER, name, str(port))
    # In: from the rest of the world to the application, by the proxy's own address; not the port that is left out.
    assert pod.ask(pod.world, pod.address, 8080) == ("app saw 127.0.0.6", "inbound")
    assert pod.ask(pod.world, pod.address, 8081) == (f"app saw {pod.outside}", None)
    # Out: what the application calls; not the port that is left out, nor its own loopback.
    assert pod.ask(pod.name, pod.outside, 9000) == (f"world saw {pod.address}", "outbound")
    assert pod.ask(pod.name, pod.outside, 9001) == (f"world saw {pod.address}", None)
    assert pod.ask(pod.name, "127.0.0.1", 8080) == ("app saw 127.0.0.1", None)
    # Applied again with less: the tables are replaced.
    done = CliRunner().invoke(capture, ["rules", "--set", "inbound-ports-include=8081", "--apply", pod.name])
    assert done.exit_code == 0, done.output
    assert pod.ask(pod.world, pod.address, 8080) == (f"app saw {pod.outside}", None)
    assert pod.ask(pod.world, pod.address, 8081) == ("app saw 127.0.0.6", "inbound")


def test_the_application_sees_the_callers_address_with_tproxy(pod: Pod) -> None:
    chosen = ("inbound-ports-include=*", "outbound-ip-ranges-include=*", "inbound-interception-mode=TPROXY")
    options = [part for one in chosen for part in ("--set", one)]
    done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
    assert done.exit_code == 0, done.output
    # The routing that is the host's to make: packets with the mark are this namespace's own.
    _ip("-n", pod.name, "rule", "add", "fwmark", "1337", "lookup", "133")
    _ip("-n", pod.name, "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "133")
    model = MeshModel()
    load(model, parse_documents(PLAIN, "plain.yaml"))
    capturing = Capture("redirect", transparent=True)
    pod.envoy(model.compile(View("sidecar", "app", addresses=(pod.address,), ports=(APP,), capture=capturing)))
    pod.start(pod.name, sys.executable, "-c", SERVER, "app", "8080")
    pod.start(pod.world, sys.executable, "-c", SERVER, "world", "9000")
    pod.start(pod.name, sys.executable, "-c", SERVER, "other", "8081")
    # Where nothing listens, TPROXY leaves connections alone: at first they come without Envoy.
    assert pod.ask(pod.world, pod.address, 8080, "envoy") == (f"app saw {pod.outside}", "envoy")
    assert pod.ask(pod.world, pod.address, 8081) == (f"other saw {pod.outside}", "envoy")
    assert pod.ask(pod.name, pod.outside, 9000) == (f"world saw {pod.address}", "outbound")


@pytest.mark.parametrize(
    "chosen",
    [
        ("inbound-ports-include=80,90", "inbound-interception-mode=TPROXY", "enable-ipv6=true", "drop-invalid=true"),
        ("redirect-dns=true", "capture-all-dns=true", "enable-ipv6=true"),
        (
            "redirect-dns=true",
            "dns-servers-v4=127.0.0.53",
            "owner-groups-include=0,202",
            "exclude-interfaces=a",
        ),
        ("outbound-ip-ranges-include=10.0.0.0/8,2001:db8::/32", "outbound-ip-ranges-exclude=10.1.0.0/16"),
    ],
)
def test_the_kernel_takes_every_sort_of_rule(pod: Pod, chosen: tuple[str, ...]) -> None:
    options = [part for one in chosen for part in ("--set", one)]
    done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
    assert done.exit_code == 0, done.output


def test_settings_that_mean_nothing_are_refused_with_the_nearest_name() -> None:
    for chosen, said in (
        ("inbound-port-include=80", "Did you mean 'inboundPortsInclude'"),
        ("inbound-ports-include=80,x", "'x' is not a port"),
        ("outbound-ip-ranges-include=10.0.0.0", "is not a network"),
        ("exclude-interfaces=a;b", "is not the name of a network interface"),
        ("proxy-uid=1337 counter drop", "is not a number or a name"),
        ("host-ipv4-loopback-cidr=192.168.1.1/24", "is not within 127.0.0.0/8"),
        ("host-ipv4-loopback-cidr=127.0.0.1/7", "is not within 127.0.0.0/8"),
        ("owner-groups-include=" + ",".join(map(str, range(65))), "65 groups are more than 64"),
    ):
        done = CliRunner().invoke(capture, ["rules", "--set", chosen])
        assert done.exit_code == 1
        assert said in done.output
        assert "FL2600" in done.output


def test_annotations_of_a_pod_add_to_what_the_injector_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(
        """
kind: Pod
metadata:
  annotations:
    istio.io/reroute-virtual-interfaces: eth1
    traffic.sidecar.istio.io/kubevirtInterfaces: eth2
    traffic.sidecar.istio.io/excludeInboundPorts: "8080, 15020"
    traffic.sidecar.istio.io/excludeOutboundPorts: 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
"""
    )
    done = CliRunner().invoke(capture, ["rules", "-f", str(file), "--format", "iptables"])
    lines = done.output.splitlines()
    first = ",".join(str(port) for port in range(1, 16))
    assert "-A ISTIO_INBOUND -p tcp -m multiport --dports 8080,15020,15090,15021 -j RETURN" in lines
    assert [line for line in lines if line.startswith("-I PREROUTING")] == [
        "-I PREROUTING 1 -i eth1 -j RETURN",
        "-I PREROUTING 1 -i eth1 -j ISTIO_REDIRECT",
    ]
    assert [line for line in lines if line.startswith("-A ISTIO_OUTPUT -p") and "-o lo" not in line] == [
        f"-A ISTIO_OUTPUT -p tcp -m multiport --dports {first} -j RETURN",
        f"-A ISTIO_OUTPUT -p udp -m multiport --dports {first} -j RETURN",
        "-A ISTIO_OUTPUT -p tcp --dport 16 -j RETURN",
        "-A ISTIO_OUTPUT -p udp --dport 16 -j RETURN",
    ]
