"""RequestAuthentication: tokens of local issuers in real Envoys."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.e2e.issuers import Issuer, key_server
from tests.e2e.mesh import Response, eventually, request, steadily

ECHO = "echo:18080"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("https://issuer.example")


@pytest.fixture(scope="module")
def other() -> Issuer:
    return Issuer("https://other.example", curve=True)


def policy(*rules: dict[str, Any], name: str = "tokens", namespace: str = "app", selector: str = "{app: echo}") -> str:
    """A RequestAuthentication for the servers."""
    return f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {selector}}}
  jwtRules: {json.dumps(rules)}
"""


def inline(issuer: Issuer, **more: Any) -> dict[str, Any]:
    """A rule with the issuer's keys in place."""
    return {"issuer": issuer.name, "jwks": json.dumps(issuer.jwks), **more}


def access(rules: str, action: str = "ALLOW") -> str:
    """An AuthorizationPolicy for the servers."""
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: tokens, namespace: app}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  action: {action}
  rules: {rules}
"""


def ask(world: World, token: str = "", path: str = "/", **headers: str) -> Response:
    """What the client gets with a token."""
    sent = {"authorization": f"Bearer {token}"} if token else {}
    return world.client.get(ECHO, path, headers={**sent, **headers})


def test_a_token_must_be_valid_if_there_is_one(world: World, issuer: Issuer, other: Issuer) -> None:
    with world.mesh.config(policy(inline(issuer, audiences=["shop"]))):
        steadily(lambda: ask(world, "rubbish").status == 401)
        assert ask(world).status == 200
        good = ask(world, issuer.token(aud="shop"))
        assert good.status == 200
        assert "authorization" not in good.body["headers"]
        refused = {
            "audience": issuer.token(aud="else"),
            "expired": issuer.token(aud="shop", lasts=-3600),
            "issuer": other.token(aud="shop"),
            "signature": issuer.token(aud="shop")[:-8] + "AAAAAAAA",
        }
        assert {why: ask(world, token).status for why, token in refused.items()} == {
            "audience": 403,
            "expired": 401,
            "issuer": 401,
            "signature": 401,
        }
    world.mesh.barrier()
    steadily(lambda: ask(world, "rubbish").status == 200)


def test_where_tokens_are_and_what_becomes_of_them(world: World, issuer: Issuer) -> None:
    rule = inline(
        issuer,
        fromHeaders=[{"name": "x-token", "prefix": "Token "}],
        fromParams=["token"],
        fromCookies=["session"],
        forwardOriginalToken=True,
        outputPayloadToHeader="x-payload",
        outputClaimToHeaders=[{"header": "x-subject", "claim": "sub"}, {"header": "x-deep", "claim": "a.b"}],
    )
    with world.mesh.config(policy(rule)):
        token = issuer.token(a={"b": "c"})
        steadily(lambda: ask(world, path="/?token=rubbish").status == 401)
        assert ask(world, "rubbish").status == 200, "the usual place does not count any more"
        for found in (
            ask(world, **{"x-token": f"Token {token}"}),
            ask(world, path=f"/?token={token}"),
            ask(world, cookie=f"session={token}"),
        ):
            assert found.status == 200
            headers = found.body["headers"]
            assert (headers["x-subject"], headers["x-deep"]) == ("alice", "c")
            payload = headers["x-payload"]
            assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"] == "alice"
        assert ask(world, **{"x-token": f"Token {token}"}).body["headers"]["x-token"] == f"Token {token}"
        # Who has no token cannot claim what only a token can say.
        lied = ask(world, **{"x-subject": "root", "x-payload": "e30"}).body["headers"]
        assert "x-subject" not in lied
        assert "x-payload" not in lied


def test_principals_and_claims_decide(world: World, issuer: Issuer, other: Issuer) -> None:
    rules = f"""
    - from: [{{source: {{requestPrincipals: ["{issuer.name}/alice"]}}}}]
    - when: [{{key: "request.auth.claims[groups]", values: [admins]}}]
    - when: [{{key: "request.auth.claims[scope]", values: [write]}}, {{key: request.auth.audiences, values: [shop]}}]
"""
    documents = f"{policy(inline(issuer), inline(other))}\n---\n{access(rules)}"
    with world.mesh.config(documents):
        steadily(lambda: ask(world).status == 403)
        tokens = {
            "alice": issuer.token("alice"),
            "bob": issuer.token("bob"),
            "another's alice": other.token("alice"),
            "a list": other.token("bob", groups=["users", "admins"]),
            "a string": issuer.token("bob", groups="admins"),
            "a scope": issuer.token("bob", scope="read write", aud="shop"),
            "a scope for others": issuer.token("bob", scope="read write", aud="else"),
        }
        assert {name: ask(world, token).status for name, token in tokens.items()} == {
            "alice": 200,
            "bob": 403,
            "another's alice": 403,
            "a list": 200,
            "a string": 200,
            "a scope": 200,
            "a scope for others": 403,
        }


def test_required_tokens(world: World, issuer: Issuer, other: Issuer) -> None:
    second = inline(other, presence="REQUIRED", fromHeaders=[{"name": "x-scope"}])
    with world.mesh.config(policy(inline(issuer, presence="REQUIRED"), second)):
        steadily(lambda: ask(world).status == 401)
        assert ask(world, issuer.token()).status == 401
        assert ask(world, **{"x-scope": other.token()}).status == 401
        assert ask(world, issuer.token(), **{"x-scope": other.token()}).status == 200


def test_tokens_that_are_looked_at_and_never_refused(world: World, issuer: Issuer) -> None:
    """presence: IGNORED; and a token that has just expired, which clocks that differ may be the reason for."""
    rule = inline(
        issuer,
        presence="IGNORED",
        clockSkewSeconds=1,
        failedStatusInMetadata=True,
        outputClaimToHeaders=[{"header": "x-subject", "claim": "sub"}],
    )
    expired = issuer.token(lasts=-30)
    with world.mesh.config(policy(rule)):
        steadily(lambda: ask(world, "rubbish").status == 200)
        assert ask(world, issuer.token()).body["headers"]["x-subject"] == "alice"
        for token in ("rubbish", expired, ""):
            found = ask(world, token)
            assert found.status == 200 and "x-subject" not in found.body["headers"]
    with world.mesh.config(policy(inline(issuer))):
        steadily(lambda: ask(world, "rubbish").status == 401)
        assert ask(world, expired).status == 200


def test_keys_that_the_control_plane_fetches(world: World, other: Issuer) -> None:
    mine = Issuer("https://moving.example")
    with (
        key_server(mine, world.legacy_address) as base,
        world.mesh.config(policy({"issuer": mine.name, "jwksUri": f"{base}/keys"})) as (document,),
    ):
        steadily(lambda: ask(world, mine.token()).status == 200)
        assert ask(world, other.token()).status == 401

        def condition() -> dict[str, Any]:
            found = world.mesh.plane.api.get(document).get("status", {}).get("conditions", [])
            return next((one for one in found if one["type"] == "KeysFetched"), {})

        assert eventually(condition)["status"] == "True"


def test_keys_that_an_issuers_description_names(world: World) -> None:
    mine = Issuer("")
    with key_server(mine, world.legacy_address) as base:
        mine.name = base
        with world.mesh.config(policy({"issuer": base})):
            steadily(lambda: ask(world, mine.token()).status == 200)
            steadily(lambda: ask(world, "rubbish").status == 401)


def test_without_keys_every_token_is_refused(world: World, issuer: Issuer) -> None:
    nowhere = f"http://{world.legacy_address}:1/keys"
    with world.mesh.config(policy({"issuer": issuer.name, "jwksUri": nowhere})):
        steadily(lambda: ask(world, issuer.token()).status == 401)
        assert ask(world).status == 200
        found = world.mesh.plane.api.request("GET", "/fairlead/v1/diagnostics")["diagnostics"]
        assert any("FL0401" in one and nowhere in one and "cannot connect" in one for one in found), found


EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: claims, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 18078, name: http, protocol: HTTP}, bind: GATEWAY, hosts: [claims.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: claims, namespace: app}
spec:
  hosts: [claims.example]
  gateways: [edge/claims]
  http:
    - match: [{headers: {"@request.auth.claims.group.id": {exact: two}}}]
      route: [{destination: {host: echo, subset: v2, port: {number: 18080}}}]
    - match: [{withoutHeaders: {"@request.auth.claims.sub": {exact: alice}}}]
      directResponse: {status: 418}
    - route: [{destination: {host: echo, subset: v1, port: {number: 18080}}}]
---
"""


def test_routes_by_claims_at_a_gateway(world: World, issuer: Issuer) -> None:
    tokens = policy(inline(issuer), name="edge", namespace="edge", selector="{istio: ingressgateway}")

    def through(token: str = "") -> Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return request(world.gateway.address, 18078, host="claims.example", headers=headers)

    with world.mesh.config(EDGE + tokens):
        steadily(lambda: through("rubbish").status == 401)
        assert through(issuer.token(group={"id": "two"})).instance == "echo-2"
        assert through(issuer.token(group={"id": ["one", "two"]})).instance == "echo-2"
        assert through(issuer.token(group={"id": "one"})).instance == "echo-1"
        assert through(issuer.token("bob")).status == 418
        assert through().status == 418
