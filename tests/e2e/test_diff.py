"""What a change would do, asked of a mesh in which connections are open."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.conftest import World
from tests.e2e.mesh import environment, eventually

EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: counted, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 18097, name: tcp, protocol: TCP}, bind: GATEWAY, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: counted, namespace: edge}
spec:
  hosts: ["*"]
  gateways: [edge/counted]
  tcp:
    - route: [{destination: {host: echo.app.svc.cluster.local, port: {number: 19000}}}]
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: counted, namespace: app}
spec: {selector: {matchLabels: {version: v1}}, mtls: {mode: STRICT}}
"""
MANY = 7


def diff(world: World, *arguments: str) -> tuple[int, str]:
    """The command against the mesh."""
    config = str(world.mesh.plane.state / "kubeconfig")
    done = subprocess.run(
        [sys.executable, "-m", "fairlead.cli.main", "diff", *arguments, "--kubeconfig", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    return done.returncode, done.stdout + done.stderr


def changes(world: World, *arguments: str) -> list[dict[str, Any]]:
    """What it does to whichever proxies, as data."""
    code, text = diff(world, *arguments, "-o", "json")
    assert code in (3, 4), text
    return [one for effect in json.loads(text)["effects"] for one in effect["changes"]]


def test_connections_that_would_drain_are_counted(world: World, tmp_path: Path) -> None:
    edge, strict = tmp_path / "edge.yaml", tmp_path / "strict.yaml"
    edge.write_text(EDGE.replace("GATEWAY", world.gateway.address))
    strict.write_text(STRICT)

    def drained() -> dict[str, Any]:
        (inbound,) = [one for one in changes(world, "-f", str(strict)) if one.get("drains") == "virtualInbound"]
        return inbound

    # Callers of other tests may have left connections in their pools.
    before = drained().get("connections", {}).get("count", 0)
    with world.mesh.config(edge.read_text()), contextlib.ExitStack() as held:
        world.mesh.barrier()

        def opened() -> socket.socket:
            return socket.create_connection((world.gateway.address, 18097), 5)

        eventually(lambda: held.enter_context(opened()), "the listener")
        for _ in range(MANY - 1):
            held.enter_context(opened())

        def gone() -> dict[str, Any]:
            return next(one for one in changes(world, "-f", str(edge), "--delete") if one["class"] == "listener")

        # Envoy counts a connection when a worker has taken it.
        eventually(lambda: gone()["connections"]["count"] == MANY, f"{MANY} connections")
        assert gone()["connections"] == {
            "count": MANY,
            "atMost": False,
            "proxies": 1,
            "silent": 0,
            "by": [{"proxy": "gateway.edge", "count": MANY}],
        }
        code, text = diff(world, "-f", str(edge), "--delete")
        assert code in (3, 4) and f"its connections drain: about {MANY} connections\n" in text, text

        # Each of them goes on to one of two instances, and one of these would have another inbound listener.
        inbound = drained()
        assert inbound["class"] == "listener drain" and 0 < inbound["connections"]["count"] <= before + MANY
        assert [one["proxy"] for one in inbound["connections"]["by"]] == ["echo-1.app"]
    eventually(lambda: world.gateway.stat(f"listener.{world.gateway.address}_18097.downstream_cx_active") == 0)
