"""VirtualService, HTTP: what a client's sidecar does with requests."""

from __future__ import annotations

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually


def test_http_reaches_both_instances_through_mutual_tls(world: World) -> None:
    found = eventually(lambda: world.client.get("echo:18080"), "an answer")
    assert found.status == 200
    xfcc = found.body["headers"]["x-forwarded-client-cert"]
    assert "URI=spiffe://cluster.local/ns/app/sa/client" in xfcc
    assert {world.client.get("echo").instance for _ in range(20)} == {"echo-1", "echo-2"}
