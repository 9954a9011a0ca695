"""VirtualService, TCP and TLS, and ports whose protocol is detected."""

from __future__ import annotations

import ssl
from collections import Counter

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually, request


def anyone() -> ssl.SSLContext:
    """A TLS client that takes any certificate: what is tested is who is reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_instance(world: World, sni: str) -> str:
    """Which instance answers over the application's own TLS."""
    found = request(world.client.out, 19443, host=sni, tls=anyone(), sni=sni)
    return found.instance


def test_tcp_reaches_instances_through_mutual_tls(world: World) -> None:
    found = Counter(world.client.line(19000).partition(" ")[0] for _ in range(20))
    assert set(found) == {"echo-1", "echo-2"}
    assert world.client.line(19000, "some words").endswith(" some words")


def test_tcp_routes_by_weight(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tcp, namespace: app}
spec:
  hosts: [echo]
  tcp:
    - match: [{port: 19000}]
      route:
        - {destination: {host: echo, subset: v1, port: {number: 19000}}, weight: 20}
        - {destination: {host: echo, subset: v2, port: {number: 19000}}, weight: 80}
"""
    with world.mesh.config(text):
        found = Counter(world.client.line(19000).partition(" ")[0] for _ in range(150))
    # Binomial, n 150, p 0.2.
    assert 8 <= found["echo-1"] <= 60, found
    assert found["echo-1"] + found["echo-2"] == 150, found


def test_tcp_routes_by_source(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tcp, namespace: app}
spec:
  hosts: [echo]
  tcp:
    - match: [{port: 19000, sourceLabels: {app: client}}]
      route: [{destination: {host: echo, subset: v1, port: {number: 19000}}}]
    - match: [{port: 19000}]
      route: [{destination: {host: echo, subset: v2, port: {number: 19000}}}]
"""
    with world.mesh.config(text):
        eventually(lambda: {world.client.line(19000).partition(" ")[0] for _ in range(6)} == {"echo-1"})
        eventually(lambda: {world.outsider.line(19000).partition(" ")[0] for _ in range(6)} == {"echo-2"})


def test_tls_passes_through_by_server_name(world: World) -> None:
    assert tls_instance(world, "echo.app.svc.cluster.local") in ("echo-1", "echo-2")
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: names, namespace: app}
spec:
  hosts: [one.example, two.example]
  ports: [{number: 19443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints: [{address: LEGACY}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: names, namespace: app}
spec:
  hosts: [one.example]
  tls:
    - match: [{port: 19443, sniHosts: [one.example]}]
      route: [{destination: {host: echo, subset: v1, port: {number: 19443}}}]
""".replace("LEGACY", world.legacy_address)
    with world.mesh.config(text):
        eventually(lambda: tls_instance(world, "one.example") == "echo-1")
        assert tls_instance(world, "two.example") == "legacy"


def test_a_port_without_a_protocol_is_detected(world: World) -> None:
    found = world.client.get("echo:17000")
    assert found.status == 200
    assert "URI=spiffe://cluster.local/ns/app/sa/client" in found.body["headers"]["x-forwarded-client-cert"]
