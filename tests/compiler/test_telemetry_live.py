"""Telemetry in a real Envoy: what is logged, counted under which labels, and traced, follows the objects."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from listener_facts import World
from live_envoy import ask, compiled, envoy
from tests.loopback import free_port

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.peer import Workload, environment, semantic_attributes
from fairlead.ir.view import View
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents
from fairlead.telemetry.page import istio_names

pytestmark = pytest.mark.e2e

W, A, O = "127.66.0.89", "127.66.64.89", "127.66.128.89"  # noqa: E741 - the workload, application and outbound addresses
ME = Workload("client-v1", "default", "client", "v1", "client", "v1", "Kubernetes")
OBJECTS = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {{name: istio}}
spec:
  enableAutoMtls: false
  extensionProviders:
  - {{name: zipkin, zipkin: {{service: zipkin.test, port: {zipkin}}}}}
  - {{name: otel, opentelemetry: {{service: otel.test, port: {otel}, http: {{path: /v1/traces}}}}}}
  - name: log
    envoyFileAccessLog:
      path: {log}
      logFormat: {{labels: {{code: "%RESPONSE_CODE%", path: "%REQ_WITHOUT_QUERY(:PATH)%"}}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: mesh, namespace: istio-system}}
spec:
  tracing:
  - providers: [{{name: {tracer}}}]
    randomSamplingPercentage: 100
    customTags:
      team: {{literal: {{value: shop}}}}
      user: {{header: {{name: x-user, defaultValue: nobody}}}}
      verb: {{formatter: {{value: "%REQ(:METHOD)%"}}}}
  accessLogging: [{{providers: [{{name: log}}]}}]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: client, namespace: default}}
spec:
  selector: {{matchLabels: {{app: client}}}}
  metrics:
  - overrides:
    - match: {{metric: REQUEST_DURATION}}
      disabled: true
    - match: {{metric: REQUEST_COUNT, mode: CLIENT}}
      tagOverrides:
        request_method: {{value: request.method}}
        destination_port: {{value: string(destination.port)}}
        missing: {{value: "request.headers['x-nothing']"}}
        response_flags: {{operation: REMOVE}}
        response_code: {{operation: REMOVE}}
  accessLogging: [{{filter: {{expression: response.code >= 400}}}}]
"""
ENTRY = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: default}}
spec:
  hosts: [{name}.test]
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: {address}}}]
"""


class Keeping(http.server.ThreadingHTTPServer):
    """An application that answers with the status that the path says, and a collector of what is posted."""

    daemon_threads = True

    def __init__(self, address: str, port: int) -> None:
        self.posted: list[tuple[str, bytes]] = []
        super().__init__((address, port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(int(self.path.partition("?")[0].strip("/") or 200))
        body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        cast("Keeping", self.server).posted.append((self.path, body))
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(address: str, port: int) -> Iterator[Keeping]:
    with Keeping(address, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def running(tmp_path: Path, tracer: str) -> Iterator[tuple[int, int, Keeping, Path]]:
    """A sidecar that sends to one collector; gives the service's port, Envoy's, the collector and the log."""
    web, collector, log = free_port(O), free_port(), tmp_path / "access.log"
    text = OBJECTS.format(zipkin=collector, otel=collector, log=log, tracer=tracer)
    text += ENTRY.format(name="web", port=web, address=A)
    text += ENTRY.format(name="zipkin", port=collector, address="127.0.0.1")
    text += ENTRY.format(name="otel", port=collector, address="127.0.0.1")
    model = MeshModel()
    assert load(model, parse_documents(text)) == []
    capture = Capture("explicit", app_address=A, outbound_address=O)
    view = View("sidecar", "default", (("app", "client"),), addresses=(W,), capture=capture)
    listeners, clusters = compiled(cast("World", model), view)
    wanted = [one for one in listeners if one.name == f"{O}_{web}"]
    with (
        serving(A, web),
        serving("127.0.0.1", collector) as kept,
        envoy(wanted, clusters, tmp_path / "envoy") as admin,
    ):
        yield web, admin, kept, log


def call(port: int, path: str, *headers: str) -> dict[str, str]:
    head = "".join(f"{one}\r\n" for one in headers)
    text = f"GET {path} HTTP/1.1\r\nhost: web.test:{port}\r\n{head}connection: close\r\n\r\n"
    return json.loads(ask(O, port, text.encode(), whole=True).partition(b"\r\n\r\n")[2])


@pytest.fixture(autouse=True)
def envoy_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        **semantic_attributes("client-0", ME, {"app.kubernetes.io/version": "2.1"}),
        "service.name": "client.default",
    }
    for name, value in environment(ME, "", "client.default", said).items():
        monkeypatch.setenv(name, value)


def test_logs_metrics_and_spans(tmp_path: Path) -> None:
    with running(tmp_path, "zipkin") as (port, admin, kept, log):
        assert "x-b3-traceid" in call(port, "/200", "x-user: ann")
        call(port, "/404?token=secret")
        call(port, "/404")
        until(lambda: log.exists() and log.read_text().count("\n") >= 2)
        assert [json.loads(one) for one in log.read_text().splitlines()] == [{"code": 404, "path": "/404"}] * 2

        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/stats/prometheus", timeout=5) as answer:
            page = istio_names(ME, answer.read()).decode()
        assert "istio_request_duration_milliseconds" not in page
        assert "istio_request_bytes_sum{" in page
        counted = re.findall(r"^istio_requests_total\{(.*)\} (\S+)$", page, re.MULTILINE)
        assert len(counted) == 1, "200 and 404 are one series without the code"
        labels = dict(re.findall(r'(\w+)="([^"]*)"', counted[0][0]))
        assert counted[0][1] == "3"
        assert (labels["request_method"], labels["destination_port"]) == ("GET", str(port))
        assert labels["missing"] == "unknown"
        assert labels["source_workload"] == "client-v1"
        assert not {"response_flags", "response_code", "omitted"} & set(labels)

        def spans() -> list[Any]:
            return [span for _, body in kept.posted for span in json.loads(body)]

        until(lambda: len(spans()) >= 3)
        first = next(one["tags"] for one in spans() if one["tags"]["http.status_code"] == "200")
        assert (first["team"], first["user"], first["verb"]) == ("shop", "ann", "GET")
        assert (first["istio.canonical_service"], first["istio.namespace"]) == ("client", "default")
        assert {one["tags"]["user"] for one in spans()} == {"ann", "nobody"}


def test_opentelemetry_names_the_service(tmp_path: Path) -> None:
    with running(tmp_path, "otel") as (port, _, kept, _log):
        assert "traceparent" in call(port, "/200")
        path, body = until(lambda: kept.posted)[0]
        assert path == "/v1/traces"
        assert b"client.default" in body
        assert all(one in body for one in (b"service.namespace", b"service.instance.id", b"default.client-0", b"2.1"))
        assert b"istio.canonical_service" in body
