"""PeerAuthentication and AuthorizationPolicy: who gets in, and how those are told who do not."""

from __future__ import annotations

import http.client

import pytest

from tests.e2e.conftest import World
from tests.e2e.mesh import STATUS_PORT, Response, eventually, lines, request, steadily

ECHO = "echo:18080"


def plain(world: World, port: int = 18080) -> Response | None:
    """A request without TLS straight to the first instance's sidecar; None if the connection is refused or cut."""
    try:
        return request(world.echo1.address, port, host="echo")
    except (OSError, http.client.HTTPException):
        return None


def peer(name: str, body: str, namespace: str = "app") -> str:
    """A PeerAuthentication."""
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec: {body}
"""


def xfcc(world: World, port: int = 18080) -> bool:
    """Whether the server saw the client's identity."""
    return "x-forwarded-client-cert" in world.client.get(f"echo:{port}").body["headers"]


def test_permissive_takes_plaintext_and_mutual_tls(world: World) -> None:
    world.mesh.barrier()
    found = eventually(lambda: plain(world))
    assert found.instance == "echo-1"
    assert xfcc(world)
    assert lines(world.echo1.address, 19000, "bare") == "echo-1 bare"


def test_strict_refuses_plaintext(world: World) -> None:
    with world.mesh.config(peer("default", "{mtls: {mode: STRICT}}")):
        eventually(lambda: plain(world) is None)
        assert lines(world.echo1.address, 19000, "bare") == ""
        assert xfcc(world)
        assert world.client.line(19000).startswith("echo-")
    world.mesh.barrier()
    eventually(lambda: plain(world) is not None)


def test_strict_for_the_mesh_and_an_exception_for_a_workload_and_a_port(world: World) -> None:
    mesh_wide = peer("default", "{mtls: {mode: STRICT}}", "istio-system")
    but = peer(
        "echo",
        "{selector: {matchLabels: {app: echo}}, mtls: {mode: STRICT}, portLevelMtls: {18081: {mode: PERMISSIVE}}}",
    )
    with world.mesh.config(mesh_wide + but):
        eventually(lambda: plain(world) is None)
        assert eventually(lambda: plain(world, 18081))
        assert xfcc(world)


def test_disable_speaks_plaintext(world: World) -> None:
    with world.mesh.config(peer("default", "{mtls: {mode: DISABLE}}")):
        eventually(lambda: not xfcc(world))
        assert world.client.get(ECHO).status == 200
        assert plain(world) is not None
    world.mesh.barrier()
    eventually(lambda: xfcc(world))


def policy(body: str, name: str = "policy", labels: str = "{app: echo}") -> str:
    """An AuthorizationPolicy for the servers."""
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: app}}
spec:
  selector: {{matchLabels: {labels}}}
{body}
"""


def status(world: World, path: str = "/", port: int = 18080, method: str = "GET", **more: object) -> int:
    """What the client in the servers' namespace gets."""
    return world.client.get(f"echo:{port}", path, method=method, **more).status


def foreign(world: World, path: str = "/") -> int:
    """What the client in another namespace gets."""
    return world.outsider.get(ECHO, path, host="echo.app").status


def test_allow_by_principal(world: World) -> None:
    body = """
  action: ALLOW
  rules: [{from: [{source: {principals: [cluster.local/ns/app/sa/client]}}]}]
"""
    with world.mesh.config(policy(body)):
        steadily(lambda: foreign(world) == 403)
        assert status(world) == 200
        found = world.outsider.get(ECHO, host="echo.app")
        assert (found.status, found.text) == (403, "RBAC: access denied")
        refused = plain(world)
        assert refused is not None
        assert refused.status == 403
        # TCP: the same rule, and a connection that is closed.
        assert world.client.line(19000).startswith("echo-")
        steadily(lambda: world.outsider.line(19000) == "")


def test_deny_by_namespace(world: World) -> None:
    with world.mesh.config(policy("  action: DENY\n  rules: [{from: [{source: {namespaces: [other]}}]}]")):
        steadily(lambda: foreign(world) == 403)
        assert status(world) == 200


def test_deny_by_method_and_path(world: World) -> None:
    body = """
  action: DENY
  rules:
    - to: [{operation: {methods: [DELETE], paths: ["/data/*"]}}]
    - to: [{operation: {paths: ["*/secret"], notMethods: [HEAD]}}]
"""
    with world.mesh.config(policy(body)):
        steadily(lambda: status(world, "/data/1", method="DELETE") == 403)
        assert status(world, "/data/1") == 200
        assert status(world, "/other", method="DELETE") == 200
        steadily(lambda: status(world, "/a/secret") == 403)
        assert status(world, "/a/secret", method="HEAD") == 200


def test_allow_by_port_and_deny_wins(world: World) -> None:
    text = "\n---\n".join(
        (
            policy('  action: ALLOW\n  rules: [{to: [{operation: {ports: ["18080"]}}]}]', "by-port"),
            policy("  action: DENY\n  rules: [{to: [{operation: {paths: [/never]}}]}]", "never"),
        )
    )
    with world.mesh.config(text):
        steadily(lambda: status(world, port=18081) == 403)
        assert status(world) == 200
        steadily(lambda: status(world, "/never") == 403)
        steadily(lambda: world.client.line(19000) == "")


def test_by_host_and_header(world: World) -> None:
    body = """
  action: ALLOW
  rules:
    - to: [{operation: {hosts: ["echo.app.svc.cluster.local", "echo.app.svc.cluster.local:*"]}}]
    - when: [{key: "request.headers[x-pass]", values: [open]}]
"""
    with world.mesh.config(policy(body)):
        steadily(lambda: status(world) == 403)
        assert status(world, host="echo.app.svc.cluster.local") == 200
        assert status(world, headers={"x-pass": "open"}) == 200
        assert status(world, headers={"x-pass": "shut"}) == 403


def test_allow_nothing(world: World) -> None:
    with world.mesh.config(policy("  action: ALLOW")):
        steadily(lambda: status(world) == 403)
    world.mesh.barrier()
    steadily(lambda: status(world) == 200)


@pytest.mark.parametrize("action", ["DENY", "ALLOW"])
def test_a_dry_run_lets_everything_pass_and_counts_what_it_would_refuse(world: World, action: str) -> None:
    """Istio's annotation istio.io/dry-run, and the names of its metrics."""
    methods = "[POST]" if action == "ALLOW" else "[GET]"
    text = policy(f"  action: {action}\n  rules: [{{to: [{{operation: {{methods: {methods}}}}}]}}]")
    text = text.replace("namespace: app}", 'namespace: app, annotations: {"istio.io/dry-run": "true"}}')

    labels = f'authz_dry_run_action="{action.lower()}"', 'authz_dry_run_result="denied"'

    def counted() -> int:
        page = request(world.echo1.address, STATUS_PORT, "/stats/prometheus").text.splitlines()
        found = [one for one in page if one.startswith("envoy_http_rbac{") and all(label in one for label in labels)]
        return sum(int(one.rpartition(" ")[2]) for one in found)

    before = counted()
    with world.mesh.config(text):

        def judged() -> bool:
            assert {status(world) for _ in range(4)} == {200}
            return counted() > before

        eventually(judged, "that requests are counted")
