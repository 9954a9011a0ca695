"""Two networks in one mesh: instances of the other one are reached through its gateway, by SNI."""

from __future__ import annotations

import json
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
    eventually(lambda: dialled not in world.client.admin("/clusters"), "the networks are gone")
