"""Two networks in one mesh: instances of the other one are reached through its gateway, by SNI."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually

PORT = 18443
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: east-west, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 18443, name: tls, protocol: TLS}
      bind: GATEWAY
      hosts: ["*.local"]
      tls: {mode: AUTO_PASSTHROUGH}
"""


def networks(world: World) -> str:
    """The second server and the gateway are far, everything else is near."""
    inside = [{"fromCidr": f"{one.address}/32"} for one in (world.echo2, world.gateway)]
    said = {
        "networks": {
            "far": {"endpoints": inside, "gateways": [{"address": world.gateway.address, "port": PORT}]},
            "near": {"endpoints": [{"fromRegistry": "Kubernetes"}]},
        }
    }
    meta = {"name": "istio", "namespace": "istio-system"}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"meshNetworks": json.dumps(said)}}
    return json.dumps(document)


def of_echo2(world: World) -> dict[str, Any]:
    """What the second server saw of a request, if it got it."""
    found = world.client.get("echo:18080")
    return found.body if found.instance == "echo-2" else {}


def greeted(world: World, server_name: str, *protocols: str) -> bool:
    """Whether somebody behind the gateway answers a client's first words in TLS."""
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    stranger.set_alpn_protocols(list(protocols))
    with socket.create_connection((world.gateway.address, PORT), 5) as link:
        try:
            stranger.wrap_socket(link, server_hostname=server_name).close()
        except OSError:
            return False
    return True


def test_the_other_network_is_reached_through_its_gateway(world: World) -> None:
    passed = f"outbound_.18080_._.echo.app.svc.cluster.local::{world.echo2.address}:18080::cx_total::"
    dialled = f"echo.app.svc.cluster.local::{world.gateway.address}:{PORT}"
    with world.mesh.config(GATEWAY + "---\n" + networks(world)):
        eventually(lambda: dialled in world.client.admin("/clusters"), "the client knows the gateway")
        assert f"echo.app.svc.cluster.local::{world.echo2.address}:" not in world.client.admin("/clusters")
        found = eventually(lambda: of_echo2(world), "an answer of the other network")
        assert "sa/client" in found["headers"]["x-forwarded-client-cert"]
        counted = world.gateway.admin("/clusters").partition(passed)[2]
        assert int(counted.partition("\n")[0]) >= 1
        assert {world.client.get("echo:18080").instance for _ in range(20)} == {"echo-1", "echo-2"}
        # The workload asks for a certificate only after its own greeting.
        assert greeted(world, "outbound_.18080_._.echo.app.svc.cluster.local", "istio")
        assert not greeted(world, "outbound_.18080_._.echo.app.svc.cluster.local", "h2"), "this is not mesh mTLS"
        assert not greeted(world, "outbound|18080||echo.app.svc.cluster.local", "istio"), "that is the gateway's own"
        assert "server_names.rbac.denied: 1" in world.gateway.admin("/stats?filter=server_names")
    eventually(lambda: dialled not in world.client.admin("/clusters"), "the networks are gone")
