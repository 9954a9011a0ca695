"""How long connections live, and what they speak: new certificates leave them alone, quiet and age end them."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time

import pytest

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually
from tests.e2e.test_gateway import EDGE, certificate_of, edge, secret
from tests.e2e.test_services import settings

TUNED = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: lived, namespace: app}
spec:
  host: lived
  trafficPolicy: {connectionPool: %s}
---
apiVersion: v1
kind: Service
metadata: {name: lived, namespace: app}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 18082, targetPort: 18081}, {name: tcp, port: 19002, targetPort: 19000}]
"""
SPOKEN = """
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: spoken, namespace: app}
spec:
  workloadSelector: {labels: {app: echo}}
  configPatches:
  - applyTo: ROUTE_CONFIGURATION
    match: {context: SIDECAR_INBOUND}
    patch: {operation: MERGE, value: {request_headers_to_add: [{header: {key: x-spoken, value: "%PROTOCOL%"}}]}}
"""
"""Tells the application in which protocol its sidecar was asked."""
__all__ = ["EDGE", "edge"]


def test_open_connections_outlive_a_new_certificate(edge: World) -> None:
    """Two requests on one connection, and between them another certificate: the connection goes on."""
    before = eventually(lambda: certificate_of(edge, 18091, "shop.example"))
    context = edge.certificates.client()
    plain = socket.create_connection((edge.gateway.address, 18091), timeout=10)
    link = http.client.HTTPSConnection("shop.example", timeout=10, context=context)
    link.sock = context.wrap_socket(plain, server_hostname="shop.example")
    try:

        def served() -> int:
            link.request("GET", "/")
            answer = link.getresponse()
            answer.read()
            return answer.status

        assert served() == 200
        stream = link.sock
        edge.mesh.plane.api.apply(json.loads(secret(edge, "shop")))
        eventually(lambda: certificate_of(edge, 18091, "shop.example") != before, "the new certificate")
        assert served() == 200
        assert link.sock is stream and isinstance(stream, ssl.SSLSocket)
        assert stream.getpeercert(binary_form=True) == before
    finally:
        link.close()


@pytest.mark.parametrize("pool", ["{tcp: {idleTimeout: 1s}}", "{tcp: {maxConnectionDuration: 1s}}"])
def test_quiet_or_old_connections_are_closed(world: World, pool: str) -> None:
    busy = "maxConnection" in pool
    with (
        world.mesh.config(TUNED % pool),
        socket.create_connection((world.client.out, 19002), timeout=10) as stream,
    ):
        begun = time.monotonic()
        stream.sendall(b"one\n")
        assert stream.recv(100).endswith(b" one\n")
        stream.settimeout(0.2)

        def closed() -> bool:
            try:
                if busy:
                    stream.sendall(b"more\n")
                return stream.recv(100) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually(closed, "the end of the connection", 10)
        assert time.monotonic() - begun > 0.9


@pytest.mark.parametrize(
    ("mesh", "pool", "wanted"),
    [
        ("UPGRADE", "{http: {maxRetries: 5}}", "HTTP/2"),
        ("UPGRADE", "{http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", "HTTP/1.1"),
    ],
)
def test_requests_are_upgraded_to_http2_where_that_is_asked_for(
    world: World, mesh: str, pool: str, wanted: str
) -> None:
    text = f"{settings(f'h2UpgradePolicy: {mesh}')}---{TUNED % pool}{SPOKEN}"
    with world.mesh.config(text):
        found = world.client.get("lived:18082")
        assert (found.status, found.body["headers"]["x-spoken"]) == (200, wanted)
