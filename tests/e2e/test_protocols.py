"""Protocols that need more than requests and answers: WebSocket, gRPC-Web, servers that speak first."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import socket
import struct
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from tests.e2e.apps import App
from tests.e2e.conftest import World
from tests.e2e.mesh import STATUS_PORT, eventually, request
from tests.e2e.test_security import peer
from tests.e2e.test_services import settings
from tests.loopback import free_port

GRPC, SPEAKS = 18087, 19306
REDIS, MONGO = 19379, 19017
GRPC_WEB, EDGE = 18097, 18098
SERVICES = f"""
apiVersion: v1
kind: Service
metadata: {{name: greeter, namespace: app}}
spec:
  selector: {{app: echo, version: v1}}
  ports:
    - {{name: grpc, port: {GRPC}}}
    - {{name: mysql, port: {SPEAKS}}}
    - {{name: redis, port: {REDIS}}}
    - {{name: db, port: {MONGO}, appProtocol: mongo}}
---
apiVersion: v1
kind: Service
metadata: {{name: headless, namespace: app}}
spec:
  clusterIP: None
  selector: {{app: echo, version: v1}}
  ports:
    - {{name: redis, port: {REDIS + 100}, targetPort: {REDIS}}}
    - {{name: mysql, port: {SPEAKS + 100}, targetPort: {SPEAKS}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: protocols, namespace: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
    - {{port: {{number: {GRPC_WEB}, name: grpc-web, protocol: GRPC-WEB}}, bind: GATEWAY, hosts: [web.test]}}
    - {{port: {{number: {EDGE}, name: http, protocol: HTTP}}, bind: GATEWAY, hosts: [socket.test]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: protocols, namespace: app}}
spec:
  hosts: [web.test, socket.test]
  gateways: [edge/protocols]
  http:
    - match: [{{port: {GRPC_WEB}}}]
      route: [{{destination: {{host: greeter, port: {{number: {GRPC}}}}}}}]
    - route: [{{destination: {{host: echo, port: {{number: 18080}}}}}}]
"""


class _Shout(grpc.GenericRpcHandler):
    """Answers /test.Shout/Upper with the message in capitals, and fails for an empty one.

    Sometimes is unavailable as often as `failures` says; Slow takes its time.
    """

    failures = 0

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.removeprefix("/test.Shout/")

        def upper(message: bytes, context: grpc.ServicerContext) -> bytes:
            if not message:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "nothing said")
            if method == "Sometimes" and _Shout.failures:
                _Shout.failures -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            if method == "Slow":
                time.sleep(2)
            return message.upper()

        known = method in ("Upper", "Sometimes", "Slow")
        return grpc.unary_unary_rpc_method_handler(upper) if known else None


@pytest.fixture(scope="module")
def protocols(world: World) -> Iterator[World]:
    server = grpc.server(futures.ThreadPoolExecutor(2), (_Shout(),))
    server.add_insecure_port(f"{world.echo1.app}:{GRPC}")
    server.start()
    app = App("speaks-first", world.echo1.app).serve_greeting(SPEAKS).serve_raw(REDIS, MONGO)
    try:
        with world.mesh.config(SERVICES):
            yield world
    finally:
        server.stop(0).wait()
        app.close()


def talk(address: str, port: int, host: str, frame: bytes) -> tuple[str, bytes]:
    """Open a WebSocket and send a frame; the instance behind it, and what came back."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /chat HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    with socket.create_connection((address, port), timeout=10) as stream, stream.makefile("rb") as answer:
        stream.sendall(head.encode())
        status = answer.readline()
        assert b" 101 " in status, status
        headers: dict[str, str] = {}
        while line := answer.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        digest = hashlib.sha1((key + guid).encode(), usedforsecurity=False).digest()
        assert headers["sec-websocket-accept"] == base64.b64encode(digest).decode()
        stream.sendall(frame)
        return headers["x-instance"], answer.read(len(frame))


def test_websocket_through_sidecars_and_through_a_gateway(protocols: World) -> None:
    frame = b"\x81\x85" + b"mask" + bytes(a ^ b for a, b in zip(b"hello", b"maskm", strict=True))
    for address, port, host in (
        (protocols.client.out, 18080, "echo:18080"),
        (protocols.gateway.address, EDGE, "socket.test"),
    ):
        instance, back = talk(address, port, host, frame)
        assert (instance in ("echo-1", "echo-2"), back) == (True, frame)


def frames(body: bytes) -> dict[int, bytes]:
    """The frames of a gRPC-Web body by their flags: 0 for a message, 128 for the trailers."""
    found: dict[int, bytes] = {}
    while body:
        flags, size = struct.unpack_from(">BI", body)
        found[flags], body = body[5 : 5 + size], body[5 + size :]
    return found


def over_web(world: World, message: bytes) -> dict[int, bytes]:
    """The frames that a browser's call is answered with."""
    headers = {"host": "web.test", "content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    link = http.client.HTTPConnection(world.gateway.address, GRPC_WEB, timeout=10)
    with contextlib.closing(link):
        link.request("POST", "/test.Shout/Upper", struct.pack(">BI", 0, len(message)) + message, headers)
        answer = link.getresponse()
        assert (answer.status, answer.headers["content-type"]) == (200, "application/grpc-web+proto")
        return frames(answer.read())


def test_grpc_web_at_a_gateway_becomes_grpc(protocols: World) -> None:
    found = eventually(lambda: over_web(protocols, b"hello"))
    assert found[0] == b"HELLO"
    assert b"grpc-status:0" in found[128].replace(b" ", b"")
    # One message each way, as the gateway and the sidecar of the server count them.
    calls = 'destination_service_name="greeter"'
    peer = 'source_workload="gateway"'
    for at, reporter, labels in (
        (protocols.gateway.address, "source", (calls, 'destination_workload="echo-1"')),
        (protocols.echo1.address, "destination", (peer, "/ns/edge/sa/", 'destination_workload="echo-1"')),
    ):
        for family in ("istio_request_messages_total", "istio_response_messages_total"):
            start = f'{family}{{reporter="{reporter}"'

            def counted(at: str = at, start: str = start, labels: tuple[str, ...] = labels) -> int:
                page = request(at, STATUS_PORT, "/stats/prometheus").text.splitlines()
                found = [one for one in page if one.startswith(start) and all(label in one for label in labels)]
                return len(found) == 1 and int(found[0].rpartition(" ")[2])

            assert eventually(counted, family) >= 1


@pytest.mark.parametrize("port", [SPEAKS, SPEAKS + 100], ids=["service", "headless"])
def test_a_server_may_speak_first(protocols: World, port: int) -> None:
    def greeted() -> str:
        with (
            socket.create_connection((protocols.client.out, port), timeout=5) as stream,
            stream.makefile("rb") as got,
        ):
            greeting = got.readline().decode().strip()
            stream.sendall(b"select 1\n")
            return f"{greeting}; {got.readline().decode().strip()}"

    with protocols.mesh.config(peer("default", "{mtls: {mode: STRICT}}")):
        assert eventually(greeted) == "welcome to speaks-first; speaks-first select 1"


@pytest.mark.parametrize(
    ("port", "command"),
    [
        # As clients write them: neither ends as a line of HTTP would, and one is no text at all.
        (REDIS, b"*1\r\n$4\r\nPING\r\n"),
        (REDIS + 100, b"*1\r\n$4\r\nPING\r\n"),
        (MONGO, b"\x10\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff\xd4\x07\x00\x00\n"),
    ],
    ids=["redis", "redis headless", "mongo"],
)
def test_databases_are_forwarded_as_they_speak(protocols: World, port: int, command: bytes) -> None:
    def answered() -> bytes:
        with socket.create_connection((protocols.client.out, port), timeout=5) as stream:
            stream.sendall(command)
            lines = command.splitlines(keepends=True)
            return b"".join(_read(stream, len(b"raw " + one)) for one in lines)

    with protocols.mesh.config(peer("default", "{mtls: {mode: STRICT}}")):
        assert eventually(answered) == b"".join(b"raw " + one for one in command.splitlines(keepends=True))


def _read(stream: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := stream.recv(size - len(got))):
        got += more
    return got


def test_another_name_for_a_host_inside_and_outside(protocols: World) -> None:
    names = """
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: app}
spec: {type: ExternalName, externalName: %s, ports: [{name: http, port: %d}]}
"""
    world, outside = protocols, free_port()
    app = App("outside", "127.0.0.1").serve_http(outside)
    inside = names % ("known", "echo.app.svc.cluster.local", 18080)
    try:
        with world.mesh.config(inside + "---\n" + names % ("outer", "localhost", outside)):
            found = eventually(lambda: (one := world.client.get("known:18080", proxied=True)).status == 200 and one)
            assert found.instance in ("echo-1", "echo-2")
            assert "sa/echo" in found.body["headers"]["x-forwarded-client-cert"]
            found = eventually(
                lambda: (one := world.client.get(f"outer:{outside}", proxied=True)).status == 200 and one
            )
            assert found.instance == "outside" and "x-forwarded-client-cert" not in found.body["headers"]
    finally:
        app.close()


def test_a_client_keeps_its_instance_where_the_service_says_so(protocols: World) -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: kept, namespace: app}
spec:
  selector: {app: echo}
  sessionAffinity: ClientIP
  ports: [{name: http, port: 18081}, {name: tcp, port: 19000}]
"""
    with protocols.mesh.config(text):
        for way in (
            lambda: protocols.client.get("kept:18081").instance,
            lambda: protocols.client.get("kept.app.svc.cluster.local:18081", proxied=True).instance,
        ):
            assert len({way() for _ in range(16)}) == 1


def test_http_1_0_is_served_where_nobody_parses_it(protocols: World) -> None:
    def status(port: int) -> bytes:
        with socket.create_connection((protocols.client.out, port), timeout=10) as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with stream.makefile("rb") as answer:
                return answer.read()

    assert eventually(lambda: status(18080)).startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    # What is not known to be HTTP/1.1 or 2 is forwarded as it is.
    found = eventually(lambda: status(17000))
    assert b" 200 " in found.partition(b"\r\n")[0]
    assert b"x-envoy" not in found


@pytest.mark.parametrize(
    "caller",
    [
        'principals: ["old.domain/ns/app/sa/client"]',
        "trustDomains: [old.domain], serviceAccounts: [app/client]",
        "trustDomains: [old.domain], notTrustDomains: [else.where], namespaces: [app]",
    ],
)
def test_policies_with_the_former_trust_domain_hold(protocols: World, caller: str) -> None:
    """A mesh that has moved: its policies still name the old trust domain, its identities the new one."""
    moved = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: moved, namespace: app}}
spec: {{rules: [{{from: [{{source: {{{caller}}}}}]}}]}}
"""
    with protocols.mesh.config(moved):
        eventually(lambda: protocols.client.get("echo:18080").status == 403, "no alias, no access")
        with protocols.mesh.config(settings("trustDomainAliases: [old.domain]")):
            eventually(lambda: protocols.client.get("echo:18080").status == 200, "the alias stands for the mesh")
            assert protocols.outsider.get("echo.app.svc.cluster.local:18080").status == 403


DETECTED = """
apiVersion: v1
kind: Service
metadata: {name: detected, namespace: app}
spec:
  selector: {app: echo, version: v1}
  ports: [{name: unknown, port: %d, targetPort: %d}]
"""


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT"])
def test_a_server_speaks_first_on_a_port_of_unknown_protocol_when_detection_has_waited(
    protocols: World, mode: str
) -> None:
    port = SPEAKS + 200

    def greeted() -> str:
        with (
            socket.create_connection((protocols.client.out, port), timeout=10) as stream,
            stream.makefile("rb") as got,
        ):
            greeting = got.readline().decode().strip()
            stream.sendall(b"select 1\n")
            return f"{greeting}; {got.readline().decode().strip()}"

    wanted = settings("protocolDetectionTimeout: 500ms") + "---\n" + DETECTED % (port, SPEAKS)
    with protocols.mesh.config(wanted + peer("default", f"{{mtls: {{mode: {mode}}}}}")):
        assert eventually(greeted) == "welcome to speaks-first; speaks-first select 1"


SHOUTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter, namespace: app}
spec:
  hosts: [greeter]
  http:
    - match: [{uri: {prefix: /test.Shout/Slow}}]
      timeout: 300ms
      route: [{destination: {host: greeter, port: {number: PORT}}}]
    - retries: {attempts: 3, retryOn: unavailable}
      route: [{destination: {host: greeter, port: {number: PORT}}}]
""".replace("PORT", str(GRPC))


def test_grpc_keeps_its_statuses_and_is_tried_again_by_them(protocols: World) -> None:
    def call(method: str, message: bytes) -> tuple[grpc.StatusCode, bytes]:
        with grpc.insecure_channel(f"{protocols.client.out}:{GRPC}", [("grpc.default_authority", "greeter")]) as link:
            try:
                return grpc.StatusCode.OK, link.unary_unary(f"/test.Shout/{method}")(message, timeout=10)
            except grpc.RpcError as error:
                return error.code(), error.details().encode()

    assert eventually(lambda: call("Upper", b"hello")) == (grpc.StatusCode.OK, b"HELLO")
    assert call("Upper", b"") == (grpc.StatusCode.INVALID_ARGUMENT, b"nothing said")
    assert call("Nothing", b"")[0] is grpc.StatusCode.UNIMPLEMENTED
    with protocols.mesh.config(SHOUTED):
        _Shout.failures = 2
        assert call("Sometimes", b"again") == (grpc.StatusCode.OK, b"AGAIN")
        assert _Shout.failures == 0
        # Envoy's own answer in gRPC's terms, and not the one that comes later.
        assert call("Slow", b"late") == (grpc.StatusCode.UNAVAILABLE, b"upstream request timeout")
