"""`fairlead why` over a mesh that runs: what it says is what the proxies do, and what their access logs say."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from typing import Any

import msgspec

from fairlead.simulate import asked, logline
from tests.e2e.conftest import World
from tests.e2e.mesh import eventually, request, steadily

Json = dict[str, Any]
LOGGED = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: LOG
"""
RULES = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: app}
spec:
  hosts: [echo]
  http:
    - match: [{uri: {prefix: /abort}}]
      fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
      route: [&v1 {destination: {host: echo, subset: v1}}]
    - {match: [{uri: {prefix: /none}}], route: [{destination: {host: echo, subset: v9}}]}
    - {match: [{uri: {prefix: /away}}], redirect: {uri: /there}}
    - {match: [{uri: {prefix: /answer}}], directResponse: {status: 200}}
    - {match: [{uri: {prefix: /old}}], rewrite: {uri: /secret}, route: [*v1]}
    - {match: [{uri: {prefix: /}, headers: {x-two: {exact: "yes"}}}], route: [{destination: {host: echo, subset: v2}}]}
    - {match: [{uri: {prefix: /secret}}, {uri: {exact: /}}], route: [*v1]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: app}
spec:
  selector: {matchLabels: {app: echo}}
  action: DENY
  rules: [{to: [{operation: {paths: ["/secret*"]}}]}]
"""
CALLS: list[tuple[str, dict[str, str]]] = [
    ("/", {}),
    ("/", {"x-two": "yes"}),
    ("/abort", {}),
    ("/none", {}),
    ("/away", {}),
    ("/answer", {}),
    ("/old/1?q=1", {}),
    ("/secret", {"x-two": "yes"}),
    ("/nowhere", {}),
]


def why(world: World, url: str, headers: dict[str, str], caller: Json | None = None) -> Json:
    said = asked.request_of(url, headers=[f"{name}: {value}" for name, value in headers.items()])
    who = caller or msgspec.to_builtins(asked.caller_of("client.app"))
    body = {"from": who, "request": msgspec.to_builtins(said)}
    return world.mesh.plane.api.request("POST", "/fairlead/v1/why", body)


def lines(log: Path) -> list[logline.Logged]:
    return [logline.parse(one) for one in log.read_text().splitlines()] if log.exists() else []


def test_what_is_said_is_what_happens(world: World, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with world.mesh.config(LOGGED.replace("LOG", str(log)) + RULES):
        # Connections that were open keep the old rules for a moment; calls by another name are not counted below.
        both: tuple[dict[str, str], ...] = ({}, {"x-two": "yes"})
        steadily(lambda: {_secret(world, one) for one in both} == {403}, "the policy is in force")
        for path, headers in CALLS:
            real = world.client.get("echo:18080", path, proxied=True, headers=headers)
            found = why(world, f"http://echo:18080{path}", headers)
            assert found["verdict"]["status"] == real.status, (path, found["verdict"], real)
            if real.status == 200 and found["verdict"]["reached"]:
                instance = real.body["instance"]
                assert found["steps"][-1]["proxy"] == f"{instance}.app", path
        outside = request(world.echo1.address, 18080, "/secret", host="echo")
        plain = why(world, f"http://{world.echo1.address}:18080/secret", {}, {"kind": "plaintext"})
        assert (plain["verdict"]["status"] or 403) == outside.status == 403
        assert plain["steps"][-1]["origins"][0]["name"] == "secret"
        _logs(world, log)


def _secret(world: World, headers: dict[str, str]) -> int:
    return world.client.get("echo.app:18080", "/secret", proxied=True, headers=headers).status


def _logs(world: World, log: Path) -> None:
    """Each line that the caller's proxy has written is said to end as the walk of its request does."""
    wanted = len(CALLS)
    written = eventually(lambda: [one for one in lines(log) if not one.inbound and one.request.host == "echo"])
    end = time.monotonic() + 20
    while len(written) < wanted and time.monotonic() < end:
        time.sleep(0.05)
        written = [one for one in lines(log) if not one.inbound and one.request.host == "echo"]
    assert len(written) >= wanted, [one.request.path for one in written]
    for one in written:
        body = {"from": msgspec.to_builtins(asked.caller_of("client.app")), "request": msgspec.to_builtins(one.request)}
        found = world.mesh.plane.api.request("POST", "/fairlead/v1/why", body)["verdict"]
        if found["hop"] == "server":
            continue  # the caller's log says that the answer came from upstream
        assert (found["status"], found["flags"]) == (one.status, one.flags), (one, found)
        assert found["details"] == one.details


def _refused(world: World) -> bool:
    try:
        request(world.echo1.address, 18080, "/", host="echo")
    except (OSError, http.client.HTTPException):
        return True
    return False


def test_strict_and_a_change_that_is_confirmed(world: World) -> None:
    strict = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: app}
spec: {mtls: {mode: STRICT}}
"""
    plain = {"kind": "plaintext"}
    url = f"http://{world.echo1.address}:18080/"
    with world.mesh.config(strict):
        eventually(lambda: _refused(world), "plaintext is refused")
        found = why(world, url, {}, plain)
        assert found["verdict"]["details"] == "filter_chain_not_found"
        assert found["changes"][0]["said"] == "set PeerAuthentication app/default spec.mtls.mode to PERMISSIVE"
        assert why(world, "http://echo:18080/", {})["verdict"]["outcome"] == "passes"
