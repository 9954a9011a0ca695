"""From PERMISSIVE to STRICT without a leap: who still calls in plaintext is known, and a STRICT too early warns."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.e2e.conftest import World
from tests.e2e.mesh import Json, environment, eventually, lines, request

STRICT: Json = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default", "namespace": "app"},
    "spec": {"mtls": {"mode": "STRICT"}},
}


def fairlead(world: World, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fairlead.cli.main", *arguments, "--state", str(world.mesh.plane.state)]
    return subprocess.run(
        command, env=environment(), input=given, capture_output=True, text=True, timeout=60, check=False
    )


def ports(world: World, workload: str) -> dict[int, Any]:
    found = fairlead(world, "mtls", workload, "-o", "json")
    assert found.returncode == 0, found.stderr
    return {one["port"]: one for one in json.loads(found.stdout)}


def test_the_ledger_names_plaintext_callers_and_strict_warns_until_it_is_empty(world: World) -> None:
    world.mesh.barrier()
    assert fairlead(world, "mtls", "--forget").returncode == 0
    # Over mTLS: the ledger stays empty, however much is called.
    for _ in range(5):
        assert world.client.get("echo:18080").status == 200
    # In plaintext, HTTP and TCP.
    address = world.echo1.address
    assert request(address, 18080, host="echo").status == 200
    assert lines(address, 19000, "bare") == "echo-1 bare"
    eventually(lambda: {p for p, one in ports(world, "echo-1").items() if one["callers"]} >= {18080, 19000}, "both", 20)
    found = ports(world, "echo-1.app")
    assert [one["address"].split(".")[0] for one in found[18080]["callers"]] == ["127"]
    assert found[18080]["callers"][0]["count"] >= 1
    assert (found[18080]["ready"], found[18081]["ready"], found[18081]["mode"]) == (False, True, "PERMISSIVE")
    assert all(not one["callers"] for one in ports(world, "echo-2").values())
    table = fairlead(world, "mtls", "echo-1").stdout
    assert "PERMISSIVE" in table
    assert "127." in table
    # A dry run says whom STRICT would cut off, and so does a real one of a port.
    tried = fairlead(world, "apply", "--dry-run=server", "-f", "-", given=json.dumps(STRICT))
    assert "port 18080 of echo-1.app was called in plaintext" in tried.stdout + tried.stderr
    assert "FL2610" in tried.stdout + tried.stderr
    other = {**STRICT, "metadata": {"name": "o", "namespace": "other"}}
    quiet = fairlead(world, "apply", "--dry-run=server", "-f", "-", given=json.dumps(other))
    assert "plaintext" not in quiet.stdout + quiet.stderr
    only = {
        **STRICT,
        "metadata": {"name": "one", "namespace": "app"},
        "spec": {"selector": {"matchLabels": {"app": "echo"}}, "portLevelMtls": {"18081": {"mode": "STRICT"}}},
    }
    safe = fairlead(world, "apply", "--dry-run=server", "-f", "-", given=json.dumps(only))
    assert "plaintext" not in safe.stdout + safe.stderr
    # The callers have moved into the mesh: what was seen is forgotten, and STRICT is silent and holds.
    assert fairlead(world, "mtls", "--forget").returncode == 0
    try:
        done = fairlead(world, "apply", "-f", "-", given=json.dumps(STRICT))
        assert done.returncode == 0, done.stderr
        assert "plaintext" not in done.stdout + done.stderr
        eventually(lambda: lines(address, 19000, "bare") == "")
        assert world.client.get("echo:18080").status == 200
        eventually(lambda: ports(world, "echo-1")[18080]["mode"] == "STRICT")
    finally:
        world.mesh.plane.api.delete(STRICT)
