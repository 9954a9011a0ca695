"""Unix sockets wherever an object may name one, and Ingresses: what they say is what requests meet."""

from __future__ import annotations

import http.client
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually, request
from tests.loopback import free_port

REFUSED = "listener_manager.lds.update_rejected"


class _Answer(BaseHTTPRequestHandler):
    """Answers with the host that was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = str(self.headers["host"]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        pass


class _Listening(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of an application."""
    path = tmp_path_factory.mktemp("app") / "app.sock"
    with _Listening(str(path), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


def dial(path: str) -> socket.socket:
    """A connection to a socket; a name that begins with @ is one in the abstract namespace."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    try:
        made.connect(f"\0{path[1:]}" if path.startswith("@") else path)
    except OSError:
        made.close()
        raise
    return made


def ask(path: str, host: str) -> tuple[int, str, str]:
    """A request over a socket: status, the instance that answered, and the text."""
    link = http.client.HTTPConnection(host)
    link.sock = dial(path)
    try:
        link.request("GET", "/", headers={"host": host})
        answer = link.getresponse()
        return answer.status, answer.headers.get("x-instance", ""), answer.read().decode()
    finally:
        link.close()


def test_an_application_calls_through_sockets(world: World, tmp_path: Path) -> None:
    """Egress listeners: requests name their host and port, bytes go to the one host that there is."""
    name = f"@{tmp_path.name}-{free_port()}"
    text = f"""
apiVersion: v1
kind: Service
metadata: {{name: lines, namespace: app}}
spec: {{selector: {{app: echo, version: v2}}, ports: [{{name: tcp, port: 19000}}]}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: sockets, namespace: app}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - port: {{protocol: HTTP, name: http}}
    bind: unix://{tmp_path}/http.sock
    hosts: [./echo.app.svc.cluster.local]
  - port: {{protocol: TCP, name: tcp}}
    bind: unix://{name}
    hosts: [./lines.app.svc.cluster.local]
  - hosts: ["*/barrier.test"]
  outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}
"""
    with world.mesh.config(text):
        found = eventually(lambda: ask(f"{tmp_path}/http.sock", "echo:18080"), "an answer over the socket")
        assert (found[0], found[1][:5]) == (200, "echo-")
        assert ask(f"{tmp_path}/http.sock", "echo.app.svc.cluster.local:18081")[0] == 200
        assert ask(f"{tmp_path}/http.sock", "second.app:18080")[0] == 502, "not imported at this socket"
        with dial(name) as stream:
            stream.sendall(b"hello\n")
            assert stream.recv(100) == b"echo-2 hello\n"
        assert world.client.get("echo.app:18080", proxied=True).status == 502, "seen at the socket only"


def test_a_gateway_listens_on_a_socket(world: World, tmp_path: Path) -> None:
    text = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: socket, namespace: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{name: one, protocol: HTTP}}, bind: "unix://{tmp_path}/one.sock", hosts: [one.example]}}
  - {{port: {{name: two, protocol: TCP}}, bind: "unix://{tmp_path}/two.sock", hosts: ["*"]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: socket, namespace: app}}
spec:
  hosts: ["*"]
  gateways: [edge/socket]
  http: [{{route: [{{destination: {{host: echo, subset: v1, port: {{number: 18080}}}}}}]}}]
  tcp: [{{route: [{{destination: {{host: echo, subset: v2, port: {{number: 19000}}}}}}]}}]
"""
    before = world.gateway.stat(REFUSED)
    with world.mesh.config(text):
        found = eventually(lambda: ask(f"{tmp_path}/one.sock", "one.example"), "an answer over the socket")
        assert found[:2] == (200, "echo-1")
        assert ask(f"{tmp_path}/one.sock", "other.example")[0] == 404
        with dial(f"{tmp_path}/two.sock") as stream:
            stream.sendall(b"hello\n")
            assert stream.recv(100) == b"echo-2 hello\n"
    assert world.gateway.stat(REFUSED) == before


def test_a_host_lives_at_a_socket(world: World, application: Path) -> None:
    """A ServiceEntry's endpoint, and where an application listens (Sidecar ingress)."""
    entry = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: local, namespace: app}}
spec:
  hosts: [local.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 18555, name: http, protocol: HTTP}}]
  endpoints: [{{address: "unix://{application}"}}]
"""
    with world.mesh.config(entry):
        found = world.client.get("local.test:18555", proxied=True)
        assert (found.status, found.text) == (200, "local.test:18555")
    served = f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: served, namespace: app}}
spec:
  workloadSelector: {{labels: {{app: echo}}}}
  ingress:
  - {{port: {{number: 18080, protocol: HTTP, name: http}}, defaultEndpoint: "unix://{application}"}}
"""
    with world.mesh.config(served):
        found = world.client.get("echo:18080")
        assert (found.status, found.text) == (200, "echo:18080")


def test_an_ingress_is_served(world: World) -> None:
    """Over HTTP and TLS, by the gateway behind the ports of its Service."""
    plain, secure = free_port(), free_port()
    cert, key = world.certificates.issue("ingress.example")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "ingress", "namespace": "edge"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": cert, "tls.key": key},
    }
    text = f"""
{json.dumps(secret)}
---
apiVersion: v1
kind: Service
metadata: {{name: gateway, namespace: edge}}
spec:
  selector: {{istio: ingressgateway}}
  ports: [{{name: http, port: 80, targetPort: {plain}}}, {{name: https, port: 443, targetPort: {secure}}}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: mesh}}
spec: {{controller: istio.io/ingress-controller}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: echo, namespace: app}}
spec:
  ingressClassName: mesh
  tls: [{{hosts: [ingress.example], secretName: ingress}}]
  rules:
  - host: ingress.example
    http:
      paths:
      - {{path: /gone, pathType: Exact, backend: {{service: {{name: second, port: {{number: 18080}}}}}}}}
      - {{path: /echo, pathType: Prefix, backend: {{service: {{name: echo, port: {{name: http}}}}}}}}
"""
    at = world.gateway.address
    tls = world.certificates.client()
    with world.mesh.config(text):
        found = eventually(lambda: request(at, plain, "/echo/a", host="ingress.example"), "an answer")
        assert (found.status, found.instance[:5]) == (200, "echo-")
        assert eventually(lambda: request(at, secure, "/echo", host="ingress.example", tls=tls)).status == 200
        assert request(at, plain, "/gone", host="ingress.example").status == 503
        assert request(at, plain, "/gone/a", host="ingress.example").status == 404
        assert request(at, plain, "/echoes", host="ingress.example").status == 404
