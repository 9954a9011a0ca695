"""Compiled listeners in a real Envoy, with real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from listener_facts import World, gateway, host, l4, mesh, policy, router, routes, server, sidecar, to
from live_envoy import Credentials, all_to, application, ask, envoy, get, local, to_address
from tests.loopback import free_port

from fairlead.envoy.pack import pack
from fairlead.envoy.upstreamtls import DETECTED_MESH_ALPN, mesh_tls
from fairlead.ir.gateway import ServerTls
from fairlead.ir.host import HostPort
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import L4Match
from fairlead.model.launch import AppPort, Capture
from fairlead.node.capture.namespace import Namespaces

pytestmark = pytest.mark.e2e

W, A, O = "127.66.0.77", "127.66.64.77", "127.66.128.77"  # noqa: E741 - the workload, application and outbound addresses


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("mesh"))


@contextlib.contextmanager
def serving(tmp_path: Path, credentials: Credentials, mode: str) -> Iterator[dict[str, int]]:
    """A sidecar with one port of each kind, and the applications behind it."""
    ports = {name: free_port(W) for name in ("http", "tcp", "auto")}
    protocols = {"http": "http", "tcp": "tcp", "auto": ""}
    declared = tuple(AppPort(number, "", protocols[name]) for name, number in ports.items())
    view = sidecar(Capture("explicit", app_address=A, outbound_address=O), addresses=(W,), ports=declared)
    world = World(policy(mode), mesh(protocol_detection_timeout=1.0))  # type: ignore[arg-type]
    made = local(world.listener(view, "virtualInbound"), credentials)
    clusters = [to_address(f"inbound|{one}||", A, one) for one in ports.values()]
    with contextlib.ExitStack() as stack:
        for name, number in ports.items():
            stack.enter_context(application(A, number, http_=name != "tcp"))
        stack.enter_context(envoy([made], clusters, tmp_path))
        yield ports


def test_permissive_serves_mesh_plain_text_and_nobody_without_a_certificate(
    tmp_path: Path, credentials: Credentials
) -> None:
    http1 = credentials.client("istio-http/1.1", "istio", "http/1.1")
    bare = credentials.client("istio-http/1.1", "istio", "http/1.1", certificate=False)
    tcp = credentials.client("istio-peer-exchange", "istio")
    with serving(tmp_path, credentials, "PERMISSIVE") as ports:
        plain = get(W, ports["http"])
        assert plain is not None
        assert "x-forwarded-client-cert" not in plain
        named = get(W, ports["http"], http1)
        assert named is not None
        assert "URI=spiffe://cluster.local/ns/default/sa/caller" in named["x-forwarded-client-cert"]
        assert get(W, ports["http"], bare) is None
        assert ask(W, ports["tcp"], b"hello\n") == b"echo hello\n"
        assert ask(W, ports["tcp"], b"hello\n", tcp) == b"echo hello\n"
        assert get(W, ports["auto"]) is not None
        detected = get(W, ports["auto"], http1)
        assert detected is not None
        assert "x-forwarded-client-cert" in detected
        opaque = get(W, ports["auto"], tcp)
        assert opaque is not None
        assert "x-forwarded-client-cert" not in opaque, "bytes are forwarded as they are"
        assert ask(W, 15006, b"hello\n") == b""


def test_strict_serves_the_mesh_only(tmp_path: Path, credentials: Credentials) -> None:
    with serving(tmp_path, credentials, "STRICT") as ports:
        assert get(W, ports["http"]) is None
        assert ask(W, ports["tcp"], b"hello\n") == b""
        assert get(W, ports["auto"]) is None
        assert get(W, ports["http"], credentials.client("istio-http/1.1")) is not None
        assert ask(W, ports["tcp"], b"hello\n", credentials.client("istio")) == b"echo hello\n"
        assert get(W, ports["auto"], credentials.client("istio-http/1.1")) is not None


def test_disabled_serves_plain_text(tmp_path: Path, credentials: Credentials) -> None:
    with serving(tmp_path, credentials, "DISABLE") as ports:
        assert get(W, ports["http"]) is not None
        assert get(W, ports["http"], credentials.client("istio-http/1.1")) is None
        assert ask(W, ports["tcp"], b"hello\n") == b"echo hello\n"


def test_a_detected_port_keeps_http_and_bytes_apart_through_mesh_tls(tmp_path: Path, credentials: Credentials) -> None:
    """One cluster serves both; the listener tells the server which of the two it detected."""
    called, web, echo = free_port(O), free_port(W), free_port(W)
    name = "auto.default.svc.cluster.local"
    world = World(host(name, (called, Protocol.AUTO)), mesh(protocol_detection_timeout=1.0))
    caller = sidecar(Capture("explicit", app_address=A, outbound_address=O), addresses=(W,))
    cluster = f"outbound|{called}||{name}"
    context = UpstreamTlsContext()
    socket = mesh_tls((), "auto", DETECTED_MESH_ALPN)
    assert socket.typed_config.Unpack(context)
    credentials.local(context)
    socket.typed_config.CopyFrom(pack(context))
    outbound = local(world.listener(caller, f"{O}_{called}"), routes={str(called): all_to(str(called), cluster)})
    serves = (AppPort(web, "", ""), AppPort(echo, "", ""))
    servers = World(policy("STRICT"), mesh(protocol_detection_timeout=1.0))
    callee = sidecar(Capture("explicit", app_address=A, outbound_address=O), addresses=(W,), ports=serves)
    inbound = local(servers.listener(callee, "virtualInbound"), credentials)
    behind = [to_address(f"inbound|{one}||", A, one) for one in (web, echo)]
    with application(A, web, http_=True), application(A, echo, http_=False):
        for number, speaks_http in ((web, True), (echo, False)):
            clusters = [to_address(cluster, W, number, socket), *behind]
            with envoy([outbound, inbound], clusters, tmp_path):
                if speaks_http:
                    seen = get(O, called)
                    assert seen is not None
                    assert "sa/server" in seen["x-forwarded-client-cert"]
                else:
                    assert ask(O, called, b"hello\n") == b"echo hello\n"


def test_explicit_tcp_goes_to_its_host(tmp_path: Path) -> None:
    called, real = free_port(O), free_port(A)
    world = World(host("db.default.svc.cluster.local", (called, Protocol.TCP)))
    view = sidecar(Capture("explicit", app_address=A, outbound_address=O), addresses=(W,))
    made = world.listener(view, f"{O}_{called}")
    to_db = to_address(f"outbound|{called}||db.default.svc.cluster.local", A, real)
    with application(A, real, http_=False), envoy([made], [to_db], tmp_path):
        assert ask(O, called, b"hello\n") == b"echo hello\n"


def test_gateway_passes_tls_through_by_name_and_ends_its_own(
    tmp_path: Path, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_PEER", "me")
    port, ended, behind = free_port(), free_port(), free_port(W)
    world = World(
        gateway(
            "gw",
            server(port, Protocol.TLS, "*.example.com", tls=ServerTls("PASSTHROUGH"), bind="127.0.0.1"),
            server(
                ended,
                Protocol.HTTPS,
                "web.example.com",
                name="https",
                tls=ServerTls("SIMPLE", credential_names=("cert",)),
                bind="127.0.0.1",
            ),
        ),
        routes(
            "vs",
            ["a.example.com"],
            gateways=["istio-system/gw"],
            tls=[l4(to(("app.default.svc.cluster.local", 443)), L4Match(("a.example.com",)))],
        ),
    )
    view = router()
    cluster = "outbound|443||app.default.svc.cluster.local"
    served = {f"https.{ended}.https.gw.istio-system.127.0.0.1": all_to("r", "plain")}
    listeners = [local(one, credentials, served) for one in world.all(view)]
    app = sidecar(Capture("explicit", app_address=A, outbound_address=O), addresses=(W,), ports=(
        AppPort(behind, "", "http"),))  # fmt: skip
    inbound = local(World(policy("STRICT")).listener(app, "virtualInbound"), credentials)
    clusters = [
        to_address(cluster, W, behind),
        to_address("plain", A, behind),
        to_address(f"inbound|{behind}||", A, behind),
    ]
    request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with application(A, behind, http_=True), envoy([*listeners, inbound], clusters, tmp_path):
        mtls = credentials.client("istio-http/1.1")
        assert ask("127.0.0.1", port, request, mtls, "a.example.com").startswith(b"HTTP/1.1 200")
        assert ask("127.0.0.1", port, request, mtls, "b.example.com") == b""
        plain = credentials.client(certificate=False)
        forged = request.replace(b"host: x", b"host: x\r\nX-Fairlead-Peer: forged")
        answer = ask("127.0.0.1", ended, forged, plain, "web.example.com", whole=True)
        assert answer.startswith(b"HTTP/1.1 200")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"x-fairlead-peer" not in head.lower(), "nobody outside learns who serves"
        assert json.loads(body)["x-fairlead-peer"] == "me", "nobody outside speaks for a workload"
        assert b"server: istio-envoy" in answer
        assert ask("127.0.0.1", ended, request, plain, "other.example.com") == b""


ENTER = (
    "import ctypes,os,sys\nfd=os.open(sys.argv[1],os.O_RDONLY)\nassert ctypes.CDLL(None).setns(fd,0x40000000)==0\n"
    "os.execv(sys.executable,[sys.executable,*sys.argv[2:]])"
)
CALL = """
import socket, sys
for address, port, text in (("10.96.0.1", 80, b"GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n"),
                            ("10.96.0.2", 5432, b"hello\\n"), ("127.66.0.99", 1234, b"unknown\\n")):
    with socket.create_connection((address, port), timeout=5) as s:
        try:
            s.sendall(text)
            print(repr(s.recv(100)[:12]))
        except ConnectionResetError:
            print("b''")
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_namespace_is_captured_by_the_virtual_listener(tmp_path: Path) -> None:
    """Redirected connections reach listeners that are bound nowhere, or fall through to what lets nothing pass."""
    spaces = Namespaces(tmp_path, "127.66.0.0/16")
    name = spaces.name("default", "listeners-0")
    asyncio.run(spaces.create(name))
    try:
        path = spaces.path(name)
        web, db = free_port(A), free_port(A)
        world = World(
            host("web.default.svc.cluster.local", (80, Protocol.HTTP), addresses=["10.96.0.1"]),
            host("db.default.svc.cluster.local", HostPort(5432, "tcp", Protocol.TCP), addresses=["10.96.0.2"]),
            mesh(outbound_policy="REGISTRY_ONLY"),
        )
        view = sidecar(Capture("netns", netns=path), addresses=(W,))
        found = [one for one in world.all(view) if one.name != "virtualInbound"]
        assert [one.name for one in found] == ["0.0.0.0_80", "10.96.0.2_5432", "virtualOutbound"]
        listeners = [local(one, routes={"80": all_to("80", "web")}) for one in found]
        clusters = [
            to_address("web", A, web),
            to_address("outbound|5432||db.default.svc.cluster.local", A, db),
        ]
        enter = [sys.executable, "-c", ENTER, path, "-c", CALL]
        with (
            application(A, web, http_=True),
            application(A, db, http_=False),
            envoy(listeners, clusters, tmp_path / "envoy"),
        ):
            said = subprocess.run(enter, capture_output=True, text=True, timeout=60, check=True)
    finally:
        asyncio.run(spaces.remove(name))
    assert said.stdout.splitlines() == ["b'HTTP/1.1 200'", "b'echo hello\\n'", "b''"]
