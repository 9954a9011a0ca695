"""Capture: rules as data, and a real namespace through which real Envoy carries real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.node.capture.namespace import CaptureError, Namespaces
from fairlead.node.capture.netlink import expressions
from fairlead.node.capture.plan import Rule, network_plan

ENVOY = Path(sys.executable).parent / "envoy"


def test_dns_to_loopback_is_taken_before_loopback_is_left_alone() -> None:
    rules = network_plan("127.66.0.0/16").chains[0].rules
    first_accept = next(at for at, rule in enumerate(rules) if rule.action == "accept")
    assert {(rule.protocol, rule.port) for rule in rules[:first_accept] if rule.port} == {("udp", 53), ("tcp", 53)}
    assert any(rule.network == "127.66.0.0/16" and rule.action == "redirect" for rule in rules[:first_accept])


def test_an_application_that_serves_dns_keeps_its_loopback() -> None:
    rules = network_plan("127.66.0.0/16", own_dns=True).chains[0].rules
    first_accept = next(at for at, rule in enumerate(rules) if rule.action == "accept")
    assert not [rule for rule in rules[:first_accept] if rule.port]


def test_a_rule_becomes_conditions_and_one_action() -> None:
    names = [one["attrs"][0][1] for one in expressions(Rule("redirect", "tcp", "10.0.0.0/8", 80, 15001))]
    assert names == ["meta", "cmp", "payload", "bitwise", "cmp", "payload", "cmp", "immediate", "redir"]


INSIDE = """
import json, socket, sys
def ask(host, port, text=b"GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n"):
    try:
        with socket.create_connection((host, port), timeout=5) as s:
            s.sendall(text)
            out = b""
            while True:
                part = s.recv(4096)
                if not part:
                    return out.decode()
                out += part
    except OSError as error:
        return f"error {error.errno}"
def dns(host):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((host, 53))
    s.send(b"question")
    return s.recv(100).decode()
def stray():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect(("198.51.100.1", 9))
    try:
        s.send(b"x"); s.recv(10)
    except OSError as error:
        return f"error {error.errno}"
def v6():
    s = socket.socket(socket.AF_INET6)
    s.settimeout(5)
    try:
        s.connect(("2001:db8::1", 80))
    except OSError as error:
        return f"error {error.errno}"
print(json.dumps({"vip": ask("10.96.0.1", 80), "peer": ask("127.66.0.9", 9080), "self": ask("127.0.0.1", 1),
  "dns": dns("10.0.0.2"), "dns_lo": dns("127.0.0.53"), "stray": stray(), "v6": v6()}))
"""
ENTER = (
    "import ctypes,os,sys\nfd=os.open(sys.argv[1],os.O_RDONLY)\nassert ctypes.CDLL(None).setns(fd,0x40000000)==0\n"
    "os.execv(sys.executable,[sys.executable,*sys.argv[2:]])"
)
APP = """
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("app saw " + self.client_address[0]).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), H).serve_forever()
"""


@contextlib.contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def hcm(prefix: str, action: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
            "HttpConnectionManager",
            "stat_prefix": prefix,
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }
            ],
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}]
            },
        },
    }


def bootstrap(path: str, port: int) -> dict[str, Any]:
    """Two listeners: outbound inside the namespace, which tells what it saw, and inbound in the host's."""
    told = {
        "direct_response": {
            "status": 200,
            "body": {"inline_string": "placeholder"},
        },
        "response_headers_to_add": [{"header": {"key": "x-original", "value": "%DOWNSTREAM_LOCAL_ADDRESS%"}}],
    }
    inside = {"socket_address": {"address": "127.0.0.1", "port_value": 15001, "network_namespace_filepath": path}}
    any_inside = {"socket_address": {"address": "127.0.0.1", "port_value": 0, "network_namespace_filepath": path}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "outbound",
                    "address": inside,
                    "listener_filters": [
                        {
                            "name": "envoy.filters.listener.original_dst",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3."
                                "OriginalDst"
                            },
                        }
                    ],
                    "filter_chains": [{"filters": [hcm("out", told)]}],
                },
                {
                    "name": "inbound",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [hcm("in", {"route": {"cluster": "app"}})]}],
                },
            ],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "upstream_bind_config": {
                        "source_address": any_inside["socket_address"],
                    },
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {
                                        "endpoint": {
                                            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}
                                        }
                                    }
                                ]
                            }
                        ],
                    },
                }
            ],
        },
    }


@pytest.mark.e2e
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_envoy_carries_a_captured_application_both_ways(tmp_path: Path) -> None:
    spaces = Namespaces(tmp_path, "127.66.0.0/16")
    assert asyncio.run(spaces.refused()) == ""
    name = spaces.name("shop", "web-0")
    asyncio.run(spaces.create(name))
    scratch = Path(tempfile.mkdtemp())
    try:
        path = spaces.path(name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = bootstrap(path, port)
        (scratch / "envoy.json").write_text(json.dumps(config))
        answer = subprocess.Popen(
            [sys.executable, "-c", ENTER, path, "-c", DNS],
            stdout=subprocess.PIPE,
            text=True,
        )
        app = subprocess.Popen([sys.executable, "-c", ENTER, path, "-c", APP])
        log = (scratch / "envoy.log").open("w")
        envoy = subprocess.Popen(
            [str(ENVOY), "-c", str(scratch / "envoy.json"), "--use-dynamic-base-id", "--concurrency", "1"],
            stderr=log,
        )
        with log, ended(answer), ended(app), ended(envoy):
            assert answer.stdout is not None and answer.stdout.readline() == "ready\n"
            for _ in range(200):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as reply:
                        inbound = reply.read().decode()
                        break
                except OSError:
                    assert envoy.poll() is None, (scratch / "envoy.log").read_text()[-2000:]
                    time.sleep(0.05)
            else:
                pytest.fail((scratch / "envoy.log").read_text()[-2000:])
            assert inbound == "app saw 127.0.0.1"
            said = subprocess.run(
                [sys.executable, "-c", ENTER, path, "-c", INSIDE],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            seen = json.loads(said.stdout)
    finally:
        shutil.rmtree(scratch)
        asyncio.run(spaces.remove(name))
    assert "x-original: 10.96.0.1:80" in seen["vip"]
    assert "x-original: 127.66.0.9:9080" in seen["peer"]
    assert seen["self"] == "error 111"
    assert seen["dns"] == seen["dns_lo"] == "answer"
    assert seen["stray"] in ("error 1", "error 111")
    assert seen["v6"] == "error 101"
    assert not Path(path).exists()


DNS = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 15053))
print("ready", flush=True)
while True:
    _, peer = s.recvfrom(100)
    s.sendto(b"answer", peer)
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_sweep_removes_only_this_nodes_leftovers(tmp_path: Path) -> None:
    async def check() -> None:
        mine, other = Namespaces(tmp_path / "a", "127.66.0.0/16"), Namespaces(tmp_path / "b", "127.66.0.0/16")
        names = [mine.name("n", "kept-0"), mine.name("n", "stale-0"), other.name("n", "foreign-0")]
        try:
            for spaces, name in zip((mine, mine, other), names, strict=True):
                await spaces.create(name)
            assert await mine.sweep({names[0]}) == [names[1]]
            assert [os.path.exists(mine.path(name)) for name in names]  # noqa: ASYNC240, PTH110 == [True, False, True]
        finally:
            for name in names:
                await mine.remove(name)

    asyncio.run(check())


def test_failure_is_one_sentence(tmp_path: Path) -> None:
    spaces = Namespaces(tmp_path, "127.66.0.0/16")
    with pytest.raises(CaptureError, match="network namespace no/such/place: "):
        asyncio.run(spaces.create("no/such/place"))
