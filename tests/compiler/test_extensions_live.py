"""Extensions in a real Envoy: patches, Lua, Wasm and rate limits act on requests."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from listener_facts import World
from live_envoy import Credentials, application, ask, compiled, envoy, local
from tests.loopback import free_port
from tests.wasm.registry import module

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.ir.view import View
from fairlead.model.launch import AppPort, Capture
from fairlead.model.yaml import parse_documents

pytestmark = pytest.mark.e2e

W, A, O = "127.66.0.88", "127.66.64.88", "127.66.128.88"  # noqa: E741 - the workload, application and outbound addresses
PATCHES = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: DISABLE}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: lua, namespace: default}
spec:
  priority: 5
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener:
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
    patch:
      operation: INSERT_BEFORE
      value:
        name: greeting
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_request(handle)
                handle:headers():add("x-patched", "by-lua")
              end
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_INBOUND}
    patch:
      operation: INSERT_FIRST
      value: {name: tea, match: {path: /tea}, direct_response: {status: 418, body: {inline_string: teapot}}}
"""


LIMITS = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {{name: istio}}
spec: {{enableAutoMtls: false}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: limits, namespace: default}}
spec:
  hosts: [limits.test]
  ports: [{{number: {port}, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: fairlead.dev/v1alpha1
kind: RateLimit
metadata: {{name: web, namespace: default}}
spec:
  limits:
  - name: batch
    per: [{{attribute: PRINCIPAL, value: cluster.local/ns/default/sa/batch}}]
    requests: 2
    unit: DAY
  - name: users
    when: {{methods: [GET], paths: ["/api/*"]}}
    per: [{{header: x-user}}]
    requests: 1
    unit: DAY
  global:
    host: limits.test
    port: {port}
    domain: shop
    timeout: 5s
    failureMode: DENY
    descriptors: [{{name: tenant, per: [{{header: x-tenant}}]}}]
---
apiVersion: fairlead.dev/v1alpha1
kind: RateLimit
metadata: {{name: shadow, namespace: istio-system}}
spec:
  shadow: true
  limits: [{{name: none, requests: 1, unit: DAY}}]
"""


CODE = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: default}}
spec: {{mtls: {{mode: DISABLE}}}}
---
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {{name: late, namespace: default}}
spec:
  phase: STATS
  match: [{{mode: SERVER}}]
  lua:
    inlineCode: |
      function envoy_on_request(handle)
        handle:headers():add("x-seen", handle:headers():get("x-wasm") or "nothing")
      end
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: early, namespace: default}}
spec:
  url: file://{module}
  phase: AUTHN
  pluginConfig: {{any: thing}}
"""


@contextlib.contextmanager
def sidecar(text: str, tmp_path: Path, credentials: Credentials | None = None) -> Iterator[int]:
    """A sidecar before an application that tells what it got; gives the port that peers call (PORT in the text)."""
    port = free_port(A)
    model = MeshModel()
    assert load(model, parse_documents(text.replace("PORT", str(port)))) == []
    capture = Capture("explicit", app_address=A, outbound_address=O)
    view = View(
        "sidecar", "default", (("app", "web"),), addresses=(W,), capture=capture, ports=(AppPort(port, "http"),)
    )
    listeners, clusters = compiled(cast("World", model), view)
    wanted = [local(one, credentials) for one in listeners if one.name == "virtualInbound"]
    with application(A, port, http_=True), envoy(wanted, clusters, tmp_path / "envoy"):
        yield port


def call(port: int, path: str, *headers: str, tls: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Status and the rest of the answer."""
    head = "".join(f"{one}\r\n" for one in headers)
    text = f"GET {path} HTTP/1.1\r\nhost: web\r\n{head}connection: close\r\n\r\n"
    answer = ask(W, port, text.encode(), tls, whole=True).decode()
    return int(answer.split(" ")[1]), answer.partition("\r\n")[2]


def test_patches(tmp_path: Path) -> None:
    with sidecar(PATCHES, tmp_path) as port:
        status, answer = call(port, "/")
        assert (status, '"x-patched": "by-lua"' in answer) == (200, True)
        assert call(port, "/tea")[0] == 418


@contextlib.contextmanager
def limiter() -> Iterator[tuple[int, list[dict[str, str]]]]:
    """A rate limit server that lets two requests of a tenant pass; gives its port and what it was asked about."""
    asked: list[dict[str, str]] = []

    def decide(request: RateLimitRequest, _: Any) -> RateLimitResponse:
        assert request.domain == "shop"
        found = {entry.key: entry.value for one in request.descriptors for entry in one.entries}
        asked.append(found)
        over = asked.count(found) > 2
        return RateLimitResponse(overall_code=RateLimitResponse.OVER_LIMIT if over else RateLimitResponse.OK)

    handler = grpc.unary_unary_rpc_method_handler(
        decide,
        request_deserializer=RateLimitRequest.FromString,
        response_serializer=RateLimitResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    service = "envoy.service.ratelimit.v3.RateLimitService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"ShouldRateLimit": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, asked
    finally:
        server.stop(None).wait()


def test_rate_limits(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    contexts: dict[str, ssl.SSLContext] = {}
    for account in ("batch", "shop"):
        credentials.chain, credentials.key = credentials.identity(account)
        contexts[account] = credentials.client("istio-http/1.1")
    with limiter() as (server, asked), sidecar(LIMITS.format(port=server), tmp_path, credentials) as port:
        # By identity: only one caller is limited, and plain text has none.
        assert [call(port, "/", tls=contexts["batch"])[0] for _ in range(3)] == [200, 200, 429]
        assert [call(port, "/", tls=contexts["shop"])[0] for _ in range(3)] == [200, 200, 200]
        assert [call(port, "/")[0] for _ in range(3)] == [200, 200, 200]
        # By header, on some routes: each value by itself.
        assert [call(port, "/api/1?a=b", f"x-user: {one}")[0] for one in ("ann", "ann", "bob")] == [200, 429, 200]
        assert [call(port, "/other", "x-user: ann")[0] for _ in range(2)] == [200, 200]
        assert "x-ratelimit-limit" in call(port, "/api/1", "x-user: ann")[1]
        # By a server, which is asked only about requests that have what it counts by.
        assert asked == []
        assert [call(port, "/", "x-tenant: a")[0] for _ in range(3)] == [200, 200, 429]
        assert call(port, "/", "x-tenant: b")[0] == 200
        assert asked[0] == {"limit": "tenant", "header.x-tenant": "a"}
    assert len(asked) == 4


def test_lua_behind_wasm_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "module.wasm"
    path.write_bytes(module())
    with sidecar(CODE.format(module=path), tmp_path) as port:
        status, answer = call(port, "/")
        assert (status, '"x-seen": "true"' in answer) == (200, True), answer
