"""AuthorizationPolicy's actions CUSTOM and AUDIT: authorizers outside of the mesh, and marks in access logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.e2e.issuers import GrpcAuthorizer, HttpAuthorizer, grpc_serving, serving
from tests.e2e.mesh import Response, eventually, steadily

ECHO = "echo:18080"


def entry(name: str, address: str, port: int, protocol: str) -> str:
    """A ServiceEntry for a server outside of the mesh."""
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: app}}
spec:
  hosts: [{name}.test]
  location: MESH_EXTERNAL
  ports: [{{number: {port}, name: {protocol.lower()}, protocol: {protocol}}}]
  resolution: STATIC
  endpoints: [{{address: {address}}}]
"""


def settings(**config: Any) -> str:
    """The mesh's settings."""
    data = {"mesh": json.dumps(config)}
    meta = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
    return f"{meta}data: {json.dumps(data)}\n"


def policy(provider: str, operation: str = '{paths: ["/checked*"]}', name: str = "asked") -> str:
    """A CUSTOM policy for the servers."""
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: app}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  action: CUSTOM
  provider: {{name: {provider}}}
  rules: [{{to: [{{operation: {operation}}}]}}]
"""


def ask(
    world: World, path: str = "/checked", method: str = "GET", body: bytes | None = None, **headers: str
) -> Response:
    """What the client gets."""
    return world.client.get(ECHO, path, method=method, body=body, headers=headers)


@pytest.fixture(scope="module")
def over_http(world: World) -> Iterator[HttpAuthorizer]:
    made = HttpAuthorizer()
    with serving(world.legacy_address, made.respond) as port:
        provider = {
            "name": "http",
            "envoyExtAuthzHttp": {
                "service": "app/ask-http.test",
                "port": port,
                "timeout": "5s",
                "pathPrefix": "/ask",
                "includeRequestHeadersInCheck": ["x-allow", "x-more-*"],
                "includeAdditionalHeadersInCheck": {"x-from": "mesh"},
                "includeRequestBodyInCheck": {"maxRequestBytes": 4, "allowPartialMessage": True},
                "headersToUpstreamOnAllow": ["x-user"],
                "headersToDownstreamOnAllow": ["x-ok"],
                "headersToDownstreamOnDeny": ["x-why"],
            },
        }
        documents = (entry("ask-http", world.legacy_address, port, "HTTP"), settings(extensionProviders=[provider]))
        with world.mesh.config("---\n".join(documents)):
            yield made


def test_an_authorizer_is_asked_over_http(world: World, over_http: HttpAuthorizer) -> None:
    with world.mesh.config(policy("http")):
        steadily(lambda: ask(world).status == 403)
        denied = ask(world)
        assert denied.text == "the authorizer says no"
        assert (denied.headers.get("x-why"), denied.headers.get("x-hidden")) == ("not allowed", None)
        assert ask(world, "/else").status == 200
        over_http.seen.clear()
        found = ask(world, "/checked/it", "POST", b"123456", **{"x-allow": "yes", "x-more-a": "1", "x-other": "2"})
        assert (found.status, found.headers.get("x-ok")) == (200, "1")
        assert (found.body["headers"]["x-user"], found.body["body"]) == ("checked", "123456")
        (seen,) = over_http.seen
        assert (seen["path"], seen["body"]) == ("/ask/checked/it", "1234")
        headers = seen["headers"]
        assert (headers["x-more-a"], headers["x-from"], headers.get("x-other")) == ("1", "mesh", None)
        # Other actions come after it: what the authorizer lets through may still be denied.
        deny = policy("http", name="denied").replace("CUSTOM", "DENY").replace("  provider: {name: http}\n", "")
        with world.mesh.config(deny):
            steadily(lambda: ask(world, **{"x-allow": "yes"}).status == 403)
    world.mesh.barrier()
    steadily(lambda: ask(world).status == 200)


def test_nobody_to_ask_denies(world: World, over_http: HttpAuthorizer) -> None:
    with world.mesh.config(policy("absent")):
        steadily(lambda: ask(world, **{"x-allow": "yes"}).status == 403)
        assert ask(world, "/else").status == 200
        found = world.mesh.plane.api.request("GET", "/fairlead/v1/diagnostics")["diagnostics"]
        assert any("FL0402" in one and "no authorizer 'absent' (there: http)" in one for one in found), found
    assert over_http.seen is not None


def test_an_authorizer_is_asked_over_grpc(world: World) -> None:
    authorizer = GrpcAuthorizer()
    with grpc_serving(world.legacy_address, authorizer) as port:
        provider = {"service": "ask-grpc.test", "port": port, "timeout": "5s", "statusOnError": "503"}
        documents = (
            entry("ask-grpc", world.legacy_address, port, "GRPC"),
            settings(extensionProviders=[{"name": "grpc", "envoyExtAuthzGrpc": provider}]),
        )
        with world.mesh.config("---\n".join(documents)):
            with world.mesh.config(policy("grpc")):
                steadily(lambda: ask(world).status == 401)
                assert ask(world).text == "the authorizer says no"
                found = ask(world, **{"x-allow": "yes"})
                assert (found.status, found.body["headers"]["x-user"]) == (200, "checked")
                assert ask(world, "/else").status == 200
                source = authorizer.seen[-1].attributes.source.principal
                assert source == "spiffe://cluster.local/ns/app/sa/client"
            with world.mesh.config(policy("grpc", '{ports: ["19000"]}')):

                def asked_for() -> int:
                    return authorizer.seen[-1].attributes.destination.address.socket_address.port_value

                steadily(lambda: world.client.line(19000) != "" and asked_for() == 19000)
                authorizer.connections = False
                steadily(lambda: world.client.line(19000) == "")
            with world.mesh.config(policy("grpc")):
                steadily(lambda: ask(world).status == 401)
    # The server is gone, the policy with it.
    world.mesh.barrier()
    steadily(lambda: ask(world).status == 200)


@pytest.mark.parametrize(("fail_open", "status"), [(False, 503), (True, 200)])
def test_an_authorizer_that_is_down(world: World, fail_open: bool, status: int) -> None:
    provider = {"service": "app/down.test", "port": 1, "timeout": "1s", "failOpen": fail_open, "statusOnError": "503"}
    documents = (
        entry("down", world.legacy_address, 1, "GRPC"),
        settings(extensionProviders=[{"name": "down", "envoyExtAuthzGrpc": provider}]),
        policy("down", '{paths: ["/down"]}'),
    )
    with world.mesh.config("---\n".join(documents)):
        steadily(lambda: ask(world, "/down").status == status)
        assert ask(world, "/else").status == 200


def test_audit_marks_requests_for_the_access_log(world: World) -> None:
    log = world.mesh.directory / "audit.log"
    text = "%REQ(:PATH)% %DYNAMIC_METADATA(envoy.common:access_log_hint)%\n"
    audited = policy("-", '{paths: ["/audited"]}').replace("CUSTOM", "AUDIT").replace("  provider: {name: -}\n", "")
    with world.mesh.config(f"{settings(accessLogFile=str(log), accessLogFormat=text)}---\n{audited}"):

        def logged() -> set[str]:
            assert ask(world, "/audited").status == 200
            assert ask(world, "/plain").status == 200
            return set(log.read_text().splitlines())

        # The client's own proxy logs, too; it judges nothing.
        eventually(lambda: {"/audited true", "/plain false", "/plain -", "/audited -"} <= logged())
        assert "/plain true" not in logged()
