"""Extensions in a real Envoy: patches and Lua act on requests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from listener_facts import World
from live_envoy import application, ask, compiled, envoy, free_port

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


@contextlib.contextmanager
def sidecar(text: str, tmp_path: Path) -> Iterator[int]:
    """A sidecar before an application that tells what it got; gives the port that peers call."""
    port = free_port(A)
    model = MeshModel()
    assert load(model, parse_documents(text)) == []
    capture = Capture("explicit", app_address=A, outbound_address=O)
    view = View(
        "sidecar", "default", (("app", "web"),), addresses=(W,), capture=capture, ports=(AppPort(port, "http"),)
    )
    listeners, clusters = compiled(cast("World", model), view)
    wanted = [one for one in listeners if one.name == "virtualInbound"]
    with application(A, port, http_=True), envoy(wanted, clusters, tmp_path / "envoy"):
        yield port


def call(port: int, path: str, *headers: str) -> tuple[int, str]:
    """Status and the rest of the answer."""
    head = "".join(f"{one}\r\n" for one in headers)
    text = f"GET {path} HTTP/1.1\r\nhost: web\r\n{head}connection: close\r\n\r\n"
    answer = ask(W, port, text.encode(), whole=True).decode()
    return int(answer.split(" ")[1]), answer.partition("\r\n")[2]


def test_patches(tmp_path: Path) -> None:
    with sidecar(PATCHES, tmp_path) as port:
        status, answer = call(port, "/")
        assert (status, '"x-patched": "by-lua"' in answer) == (200, True)
        assert call(port, "/tea")[0] == 418
