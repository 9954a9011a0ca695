"""Scopes are learned from what real proxies have really been asked for."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import yaml

from tests.e2e.conftest import World
from tests.e2e.mesh import environment, eventually

ECHO, QUIET = "app/echo.app.svc.cluster.local", "app/quiet.app.svc.cluster.local"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: quiet, namespace: app}
spec: {selector: {app: quiet}, ports: [{name: http, port: 18080}]}
"""
"""What no other test calls."""


def test_a_scope_is_what_a_workload_called(world: World) -> None:
    with world.mesh.config(SERVICE):
        scope_is_learned(world)


def scope_is_learned(world: World) -> None:
    def learn(*arguments: str) -> tuple[list[dict[str, Any]], str]:
        done = subprocess.run(
            [sys.executable, "-m", "fairlead.cli.main", "scope", *arguments, "--state", str(world.mesh.plane.state)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
        assert "Traceback" not in done.stderr
        return [one for one in yaml.safe_load_all(done.stdout) if one], done.stderr

    def hosts() -> list[str]:
        found, _ = learn("learn", "outsider", "-n", "other")
        return found[0]["spec"]["egress"][0]["hosts"] if found else []

    assert world.outsider.get("echo.app.svc.cluster.local:18080").status == 200
    assert eventually(lambda: ECHO in hosts(), "the call is known")
    assert QUIET not in hosts(), "what was not called is not in it"
    made, said = learn("learn", "outsider", "-n", "other")
    assert made[0]["kind"] == "Sidecar" and made[0]["metadata"] == {"name": "outsider", "namespace": "other"}
    assert made[0]["spec"]["workloadSelector"] == {"labels": {"app": "outsider"}}
    assert "outsider.other: calls" in said and "that it sees" in said
    # Applied, it leaves what is called and nothing else.
    kept = {one.partition("/")[2] for one in made[0]["spec"]["egress"][0]["hosts"]}

    def seen() -> set[str]:
        names = {line.partition("::")[0] for line in world.outsider.admin("/clusters").splitlines()}
        return {name.split("|")[3] for name in names if name.startswith("outbound|")}

    assert seen() > kept
    world.mesh.plane.api.apply(made[0])
    try:
        assert eventually(lambda: seen() == kept, "the others are gone")
        assert world.outsider.get("echo.app.svc.cluster.local:18080").status == 200
    finally:
        world.mesh.plane.api.delete(made[0])
    assert eventually(lambda: seen() > kept, "the others are back")

    def called() -> bool:
        # Its route comes after its cluster: a call before that is none of it.
        world.outsider.get("quiet.app.svc.cluster.local:18080")
        return QUIET in hosts()

    # The next time it is called, the next proposal has it; a TCP connection counts as a request does.
    assert eventually(called, "the new call is known")
    world.client.line(19000)
    wide, _ = learn("learn", "-n", "app", "--namespace-wide")
    assert eventually(lambda: ECHO in learn("learn", "client", "-n", "app")[0][0]["spec"]["egress"][0]["hosts"])
    assert [one["metadata"]["name"] for one in wide] in ([], ["default"]) and "workloadSelector" not in str(wide)
    assert learn("learn", "nobody") == ([], "Error: no agent has reported calls of such a workload yet\n")
