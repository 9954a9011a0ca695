"""What policies make of requests in the situations of Istio's security suite (`tests/integration/security`)."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest

from fairlead.simulate.mesh import Mesh
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.walker import walk
from tests.simulate.meshes import call, mesh
from tests.simulate.test_echo import EDGE, TRUSTING, rules
from tests.simulate.test_walk import JWT

EVERY_HOST = EDGE % ("*", "") + rules("[{route: [{destination: {host: reviews}}]}]", "*", "[edge]")


@cache
def made(*texts: str) -> Mesh:
    return mesh(*texts)


def denied(name: str, said: str, labels: str = "istio: ingress") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {{matchLabels: {{{labels}}}}}, action: DENY, rules: {said}}}
"""


HOSTS = denied(
    "hosts",
    """[
  {to: [{operation: {hosts: [deny.b.com, "*.suffix.b.com", "prefix.*"]}}]},
  {to: [{operation: {hosts: [www.b.com], paths: [/private]}}]}]""",
)
ADDRESSES = denied(
    "addresses",
    """[
  {from: [{source: {remoteIpBlocks: [172.17.72.46, 192.168.5.233/16]}}], to: [{operation: {hosts: [blocks.b.com]}}]},
  {from: [{source: {notRemoteIpBlocks: [172.23.242.188]}}], to: [{operation: {hosts: [others.b.com]}}]},
  {to: [{operation: {hosts: [attribute.b.com]}}], when: [{key: remote.ip, values: [10.242.5.7, 10.124.99.0/24]}]}]""",
)


@pytest.mark.parametrize(
    ("host", "path", "forwarded", "status"),
    [
        ("deny.b.com", "/", "", 403),
        ("DENY.B.COM", "/", "", 403),
        ("Deny.Suffix.B.Com", "/", "", 403),
        ("PREFIX.b.com", "/", "", 403),
        ("prefix.b.com:8080", "/", "", 403),
        ("www.b.com", "/", "172.16.0.1", 200),
        ("www.b.com", "/public", "172.16.0.1", 200),
        ("www.b.com", "/private", "172.16.0.1", 403),
        ("blocks.b.com", "/", "172.17.72.46", 403),
        ("blocks.b.com", "/", "192.168.5.233", 403),
        ("blocks.b.com", "/", "10.4.5.6", 200),
        ("others.b.com", "/", "10.2.3.4", 403),
        ("others.b.com", "/", "172.23.242.188", 200),
        ("attribute.b.com", "/", "10.242.5.7", 403),
        ("attribute.b.com", "/", "10.124.99.10", 403),
        ("attribute.b.com", "/", "10.4.5.6", 200),
    ],
)
def test_policies_at_a_gateway(host: str, path: str, forwarded: str, status: int) -> None:
    headers = (("x-forwarded-for", forwarded),) if forwarded else ()
    asked = Request("b.com", 80, path, authority=host, headers=headers)
    caller = Caller("internet", "shop", address="203.0.113.1")
    where = made(EVERY_HOST, TRUSTING, HOSTS, ADDRESSES)
    assert walk(where, caller, asked).verdict.status == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/public", 200),
        ("/public/../public", 200),
        ("/private", 403),
        ("/public/../private", 403),
        ("/public/./../private", 403),
        ("/public/.././private", 403),
        ("/public/%2E%2E/private", 403),
        ("/public/%2e/%2e%2e/private", 403),
        ("/public/%2E%2E/%2E/private", 403),
    ],
)
def test_paths_are_compared_as_they_are_meant(path: str, status: int) -> None:
    where = made(denied("private", "[{to: [{operation: {paths: [/private]}}]}]", "app: reviews"))
    assert call(where, path=path).verdict.status == status


ISSUER = "https://issuer.example"
GIVEN: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "shop",
    "sub": "sub-1",
    "nested": {"key1": "valueA", "more": {"key2": "valueC"}},
    "issuer.example/simple": "valueC",
    "issuer.example/nested": {"key1": "valueC"},
}
TOKENS = JWT.replace("app: reviews", "istio: ingress").replace(
    "      jwks:",
    """      outputClaimToHeaders: [{header: x-nested, claim: nested.more.key2}, {header: x-none, claim: none}]
      jwks:""",
)
CLAIM, BRACKETS = "@request.auth.claims.", "@request.auth.claims"
A = "{exact: valueA}"


@pytest.mark.parametrize(
    ("conditions", "asked", "status"),
    [
        *(
            case
            for nested, sub in (
                (f"{CLAIM}nested.key1", f"{CLAIM}sub"),
                (f"{BRACKETS}[nested][key1]", f"{BRACKETS}[sub]"),
            )
            for case in (
                (f'headers: {{"{nested}": {A}}}', GIVEN, 200),
                (f'headers: {{"{sub}": {{prefix: sub}}}}', GIVEN, 200),
                (f'headers: {{"{sub}": {{prefix: sub}}, "{nested}": {{regex: "value[AB]"}}}}', GIVEN, 200),
                (f'headers: {{"{nested}": {A}, "{sub}": {{prefix: other}}}}', GIVEN, 404),
                (f'withoutHeaders: {{"{nested}": {{exact: other}}}}', GIVEN, 200),
                (f'withoutHeaders: {{"{nested}": {A}}}', GIVEN, 404),
                (f'headers: {{"{nested}": {A}}}', "expired", 401),
                (f'headers: {{"{nested}": {A}}}', None, 404),
            )
        ),
        (f'headers: {{"{BRACKETS}[issuer.example/simple]": {{exact: valueC}}}}', GIVEN, 200),
        (f'headers: {{"{BRACKETS}[issuer.example/nested][key1]": {{exact: valueC}}}}', GIVEN, 200),
        (f'headers: {{"{BRACKETS}[issuer.example/nested][key1]": {{exact: other}}}}', GIVEN, 404),
        ("headers: {x-nested: {exact: valueC}}", GIVEN, 200),
        ("headers: {x-none: {exact: sent}}", GIVEN, 404),
    ],
)
def test_routes_by_claims(conditions: str, asked: dict[str, Any] | str | None, status: int) -> None:
    """What a caller sends as headers is no claim, and headers for claims that are missing are taken away."""
    http = f"[{{match: [{{{conditions}}}], route: [{{destination: {{host: reviews}}}}]}}]"
    where = mesh(EDGE % ("*", ""), rules(http, "claims.example", "[edge]"), TOKENS)
    sent = (("request.auth.claims.nested.key1", "valueA"), ("x-nested", "sent"), ("x-none", "sent"))
    request = Request("claims.example", 80, headers=sent)
    if isinstance(asked, str):
        request = msgspec.structs.replace(request, token_problem=asked)
    else:
        request = msgspec.structs.replace(request, claims=asked)
    assert walk(where, Caller("internet", "shop"), request).verdict.status == status


EGRESS = """
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: out, namespace: shop}
spec: {address: 10.0.0.7, labels: {istio: egress}, serviceAccount: out}
---
apiVersion: v1
kind: Service
metadata: {name: out, namespace: shop}
spec: {selector: {istio: egress}, ports: [{name: https, port: 443, targetPort: 8443}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: shop}
spec:
  selector: {istio: egress}
  servers: [{port: {number: 8443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: ISTIO_MUTUAL}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec:
  hosts: [any.example, web.example, token.example, both.example]
  gateways: [mesh, out]
  http:
    - match: [{gateways: [mesh], port: 80}]
      route: [{destination: {host: out, port: {number: 443}}}]
    - match: [{gateways: [out], port: 8443}]
      directResponse: {status: 200}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: out, namespace: shop}
spec:
  selector: {matchLabels: {istio: egress}}
  rules:
    - to: [{operation: {hosts: [any.example], paths: [/allow]}}]
    - to: [{operation: {hosts: [web.example]}}]
      from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]
    - to: [{operation: {hosts: [token.example]}}]
      from: [{source: {requestPrincipals: ["https://issuer.example/sub-1"]}}]
    - to: [{operation: {hosts: [both.example]}}]
      from:
        - source:
            principals: [cluster.local/ns/shop/sa/web]
            requestPrincipals: ["https://issuer.example/sub-1"]
"""


@pytest.mark.parametrize("caller", ["web", "ledger"])
@pytest.mark.parametrize(
    ("host", "path", "subject", "who"),
    [
        ("any.example", "/allow", "", "all"),
        ("any.example", "/deny", "", "none"),
        ("web.example", "/", "", "web"),
        ("token.example", "/", "sub-1", "all"),
        ("token.example", "/", "sub-2", "none"),
        ("both.example", "/", "sub-1", "web"),
        ("both.example", "/", "sub-2", "none"),
    ],
)
def test_policies_at_a_gateway_for_calls_that_leave(host: str, path: str, subject: str, who: str, caller: str) -> None:
    where = made(EGRESS, JWT.replace("app: reviews", "istio: egress"))
    claims = {**GIVEN, "sub": subject} if subject else None
    found = call(where, host, caller=caller, path=path, claims=claims, address="10.4.4.4").verdict
    assert (found.status, found.hop) == (200 if who in ("all", caller) else 403, "gateway")
