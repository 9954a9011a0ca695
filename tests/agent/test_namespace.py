"""An application in its own network namespace, with its agent and Envoy outside."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead.agent import http
from fairlead.agent.messages import Host
from fairlead.cli.capture import capture
from fairlead.envoy.resource import CLUSTER, LISTENER
from fairlead.model.launch import Capture
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
from tests.node.pod import PROXY_GROUP, Pod

pytestmark = [pytest.mark.e2e, pytest.mark.root]

APP = """
import http.server, os, socket
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.readlink("/proc/self/ns/net").encode()
        if self.path == "/resolve":
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
            query = b"\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x07reviews\\x00\\x00\\x01\\x00\\x01"
            s.sendto(query, ("127.0.0.1", 15053)); body = socket.inet_ntoa(s.recv(512)[-4:]).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), H).serve_forever()
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"fl{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.decode().strip()}")
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield f"/var/run/netns/{name}"
    subprocess.run(["ip", "netns", "del", name], check=True)


def test_application_in_a_namespace(tmp_path: Path, namespace: str) -> None:
    outside = str(Path("/proc/self/ns/net").readlink())

    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            (tmp_path / "app.py").write_text(APP)
            plane.table = {"reviews.shop.svc.cluster.local": Host(("10.9.8.7",), "Kubernetes", "reviews", "shop")}
            source = {"address": "127.0.0.1", "portValue": 0, "networkNamespaceFilepath": namespace}
            bind = {"upstreamBindConfig": {"sourceAddress": source}}
            plane.put("inner", CLUSTER, cluster("inbound|80||", 8080, **bind))
            port = free_port()
            plane.put("inner", LISTENER, http_listener("virtualInbound", port, "inbound|80||", "INBOUND"))
            agent = AgentProcess(
                config(
                    plane,
                    tmp_path,
                    "inner",
                    capture=Capture(mode="netns", netns=namespace),
                    command=(sys.executable, str(tmp_path / "app.py")),
                    readiness=Probe(http_get=HTTPGet(8080), period_seconds=0.2),
                ),
                tmp_path,
            )
            async with running(agent):
                await until(lambda: ("inner", "") in plane.health, "ready by a probe inside the namespace")
                inside = (await http.fetch(opener(port), "/")).body.decode()
                assert inside.startswith("net:[") and inside != outside

                async def resolved() -> bool:
                    return (await http.fetch(opener(port), "/resolve")).body == b"10.9.8.7"

                await until(resolved, "a short mesh name resolves inside")
                sys.stdout.write(f"agent RSS with DNS {agent.rss():.1f} MB\n")
                assert agent.rss() <= 60
                assert await agent.stop() == 143

    asyncio.run(run())


QUESTION = """
import sys
import dns.message, dns.query
kind, server, way = sys.argv[1:]
reply = getattr(dns.query, way)(dns.message.make_query("reviews.shop.", kind), server, timeout=2)
print(*(one.to_text() for found in reply.answer for one in found))
"""


def answered(kind: str, way: str) -> str:
    """What the application is told that asks a nameserver that nobody has."""
    server = {"A": "192.0.2.53", "AAAA": "2001:db8::53"}[kind]
    command = (sys.executable, "-c", QUESTION, kind, server, way)
    done = subprocess.run(command, capture_output=True, text=True, group=0, timeout=20, check=False)
    return done.stdout.strip()


def captured(directory: str) -> None:
    """An agent in a network namespace whose rules send questions for names to it, unless its own group asks."""

    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            addresses = ("10.9.8.7", "fd00:9::7")
            plane.table = {"reviews.shop.svc.cluster.local": Host(addresses, "Kubernetes", "reviews", "shop")}
            plane.put("vm", CLUSTER, cluster("inbound|80||", 8080))
            plane.put("vm", LISTENER, http_listener("virtualInbound", free_port(), "inbound|80||", "INBOUND"))
            said = config(
                plane,
                Path(directory),
                "vm",
                capture=Capture(mode="redirect"),
                more_addresses=("fd00:1::1",),
                proxy_env={"ISTIO_META_DNS_CAPTURE": "true"},
            )
            agent = AgentProcess(said, Path(directory))
            async with running(agent):
                for kind, address in (("A", "10.9.8.7"), ("AAAA", "fd00:9::7")):
                    for way in ("udp", "tcp"):

                        async def told(kind: str = kind, way: str = way, address: str = address) -> bool:
                            return await asyncio.to_thread(answered, kind, way) == address

                        await until(told, f"{kind} is answered by {way}")
                assert await agent.stop() == 0

    asyncio.run(run())


def test_questions_that_rules_of_the_host_redirect(tmp_path: Path) -> None:
    try:
        pod = Pod(tmp_path, 4, 6)
    except RuntimeError as error:
        pytest.skip(f"no network namespaces with IPv6 here: {error}")
    try:
        chosen = ("redirect-dns=true", "capture-all-dns=true", "enable-ipv6=true")
        options = [part for one in chosen for part in ("--set", one)]
        done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
        assert done.exit_code == 0, done.output
        inside = f"from tests.agent.test_namespace import captured; captured({str(tmp_path)!r})"
        command = ("ip", "netns", "exec", pod.name, sys.executable, "-c", inside)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=150, group=PROXY_GROUP, check=False)
        assert ended.returncode == 0, ended.stderr
    finally:
        pod.close()
