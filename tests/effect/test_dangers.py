"""What is marked as dangerous: callers that are cut off, routes that lose requests, servers without a certificate."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from envoy.config.route.v3.route_components_pb2 import RouteMatch
from google.protobuf.json_format import ParseDict
from tests.e2e.apps import Certificates
from tests.effect.test_effects import ALLOW, CLIENT, DENY, MESH, SERVER, STRICT, said, told

from fairlead.effect import Caller, Known
from fairlead.effect.shadowing import covers, disjoint
from fairlead.ir.view import View

WEB = Caller("web.shop", "spiffe://cluster.local/ns/shop/sa/web")
OPS = Caller("ops.ops", "spiffe://cluster.local/ns/ops/sa/ops")
FOR_WEB = ALLOW.replace("a/b", "cluster.local/ns/shop/sa/web")
NOT_WEB = DENY.replace("a/b", "cluster.local/ns/shop/sa/web")
NO_POSTS = NOT_WEB.replace("]}}]}]", "]}}], to: [{operation: {methods: [POST]}}]}]")
SOME_READS = FOR_WEB.replace(
    "]}}]}]",
    "]}}], to: [{operation: {methods: [GET, HEAD], paths: [/a, /b*], notPaths: [/b/x]}},"
    " {operation: {methods: [POST]}}], when: [{key: 'request.headers[x-a]', values: ['1']}]}]",
)
RULE = "ALLOW rule 0 of policy cart in shop"
MADE = "names them; which ones they make is not recorded"
BY_ADDRESS = ALLOW.replace('principals: ["a/b"]', "ipBlocks: [10.0.0.0/8]")


@pytest.mark.parametrize(
    ("before", "after", "callers", "expected"),
    [
        ("", ALLOW, [WEB, OPS], ["ops.ops, web.shop called it and will be denied"]),
        ("", FOR_WEB, [WEB, OPS], ["ops.ops called it and will be denied"]),
        ("", FOR_WEB, [WEB], []),
        (
            "",
            BY_ADDRESS,
            [WEB],
            [f"requests of web.shop, who called it, are denied unless {RULE} (with addresses 10.0.0.0/8) {MADE}"],
        ),
        (
            FOR_WEB,
            SOME_READS,
            [WEB, OPS],
            [
                "requests of web.shop, who called it, are denied unless "
                f"{RULE} (methods GET, HEAD; paths /a, /b*; not paths /b/x or methods POST, with header x-a) {MADE}"
            ],
        ),
        (SOME_READS, SOME_READS.replace("HEAD", "PUT"), [WEB], []),
        (ALLOW, ALLOW.replace("a/b", "a/c"), [WEB], []),
        (FOR_WEB, ALLOW, [WEB], ["web.shop called it and will be denied"]),
        (ALLOW, FOR_WEB, [WEB], []),
        ("", NOT_WEB, [WEB, OPS], ["web.shop called it and will be denied"]),
        ("", DENY, [WEB], []),
        (NOT_WEB, "", [WEB], []),
        (
            "",
            NO_POSTS,
            [WEB, OPS],
            [
                "requests of web.shop, who called it, are denied where DENY rule 0 of policy cart in shop names them "
                "(methods POST); which ones they make is not recorded"
            ],
        ),
    ],
)
def test_callers_that_were_seen_and_will_be_denied(
    before: str, after: str, callers: list[Caller], expected: list[str]
) -> None:
    found = told(MESH + before, MESH + after, SERVER, known=Known(tuple(callers)))
    named = [one for one in said(found) if "called it" in one]
    assert named == [f"FL3809 authorization: {one}" for one in expected], said(found)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (
            Known((), ((80, ("10.0.0.7", "10.0.0.8")),), True, (80,)),
            "FL3815 {}; 10.0.0.7, 10.0.0.8 called it in plaintext",
        ),
        (Known((), ((81, ("10.0.0.7",)),), True, (80,)), "{}; nobody was seen to call it in plaintext"),
        (Known((), (), True, (80,)), "{}; nobody was seen to call it in plaintext"),
        (Known((), (), False, (80,)), "FL3815 {}; whether anybody calls it in plaintext is not known"),
        (None, "FL3815 {}; whether anybody calls it in plaintext only a running mesh can say"),
    ],
)
def test_strict_is_dangerous_unless_nobody_needs_plaintext(known: Known | None, expected: str) -> None:
    found = said(told(MESH, MESH + STRICT, SERVER, known=known))
    text = expected.format("port 80 takes mutual TLS of the mesh only: mode STRICT (was PERMISSIVE)")
    assert any(one.startswith(text) for one in found), found


def test_ports_without_chains_of_their_own_have_callers_too() -> None:
    known = Known((), ((9999, ("10.0.0.7",)),), True, (80,))
    found = said(told(MESH, MESH + STRICT, SERVER, known=known))
    assert any(one.startswith("FL3815 all other ports") and "10.0.0.7" in one for one in found), found


def match(**fields: Any) -> RouteMatch:
    return ParseDict(fields, RouteMatch())


def header(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "stringMatch": {"exact": value}}


A, AB = match(prefix="/a"), match(prefix="/a/b")


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (A, A, True),
        (A, AB, True),
        (AB, A, False),
        (A, match(path="/a"), True),
        (match(path="/a"), A, False),
        (A, match(pathSeparatedPrefix="/a"), True),
        (match(pathSeparatedPrefix="/a"), match(path="/a/b"), True),
        (match(pathSeparatedPrefix="/a"), match(path="/ab"), False),
        (match(pathSeparatedPrefix="/a"), match(prefix="/a/"), True),
        (match(prefix="/"), match(safeRegex={"regex": "/x.*"}), True),
        (match(safeRegex={"regex": ".*"}), A, True),
        (match(safeRegex={"regex": "/a.*"}), A, False),
        (match(prefix="/"), match(connectMatcher={}), False),
        (match(prefix="/a", headers=[header("x", "1")]), A, False),
        (A, match(prefix="/a", headers=[header("x", "1")]), True),
        (match(prefix="/A", caseSensitive=False), A, True),
        (A, match(prefix="/a", caseSensitive=False), False),
        (match(prefix="/", runtimeFraction={"defaultValue": {"numerator": 1}}), A, False),
        (match(prefix="/", grpc={}), A, False),
    ],
)
def test_which_matches_take_all_of_another(wide: RouteMatch, narrow: RouteMatch, expected: bool) -> None:
    assert covers(wide, narrow) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (A, AB, False),
        (A, match(prefix="/b"), True),
        (match(path="/a"), match(path="/b"), True),
        (match(path="/ab"), match(pathSeparatedPrefix="/a"), True),
        (match(path="/a"), match(safeRegex={"regex": "/b"}), False),
        (match(prefix="/B"), match(prefix="/b", caseSensitive=False), False),
        (match(prefix="/", headers=[header("x", "1")]), match(prefix="/", headers=[header("X", "2")]), True),
        (match(prefix="/", headers=[header("x", "1")]), match(prefix="/", headers=[header("y", "2")]), False),
        (match(connectMatcher={}), A, True),
    ],
)
def test_which_matches_have_no_request_in_common(one: RouteMatch, other: RouteMatch, expected: bool) -> None:
    assert disjoint(one, other) is expected and disjoint(other, one) is expected


OLD = "  - name: old\n"
TO_V1 = "route: [{destination: {host: cart, subset: v1}}]"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        # Each request of `first` is taken by a wider one before it; what stands behind is not compiled.
        (
            "  - name: wide\n    match: [{uri: {regex: .*}}]\n    route: [{destination: {host: cart}}]\n",
            [f"route `{one}` gets none any more: `wide` before it takes all of them" for one in ("first", "old")],
        ),
        # Neither is the narrower: which of them is meant to have /a with the header is open.
        (
            "  - name: beta\n    match: [{headers: {x: {exact: beta}}}]\n    route: [{destination: {host: cart}}]\n",
            ["route `first` loses some: `beta` before it takes those with header x beta, and neither is the narrower"],
        ),
        # A canary: narrower than what it takes from.
        (f"  - name: canary\n    match: [{{uri: {{prefix: /a/b}}}}]\n    {TO_V1}\n", []),
        # It leads where `first` leads.
        (f"  - name: beta\n    match: [{{headers: {{x: {{exact: beta}}}}}}]\n    {TO_V1}\n", []),
    ],
)
def test_routes_that_lose_requests(more: str, expected: list[str]) -> None:
    found = said(told(MESH, MESH.replace("  - name: first\n", f"{more}  - name: first\n"), CLIENT))
    lost = [one for one in found if one.startswith("FL3801")]
    assert lost == [f"FL3801 requests for cart.shop:80: {one}" for one in expected], found


def test_a_route_with_another_name_loses_nothing() -> None:
    found = said(told(MESH, MESH.replace("name: old", "name: new"), CLIENT))
    assert found and not [one for one in found if one.startswith("FL")], found


GATEWAY = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: edge}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: shop}}
"""
SECRET = """
---
apiVersion: v1
kind: Secret
metadata: {name: shop, namespace: edge}
type: kubernetes.io/tls
data: {tls.crt: CERTIFICATE, tls.key: KEY}
"""
EDGE = View("router", "edge", (("istio", "ingress"),), addresses=("10.0.9.9",))


@pytest.fixture(scope="module")
def credential(tmp_path_factory: pytest.TempPathFactory) -> str:
    pair = Certificates(tmp_path_factory.mktemp("edge")).issue("shop.example")
    chain, key = (b64encode(one.encode()).decode() for one in pair)
    return SECRET.replace("CERTIFICATE", chain).replace("KEY", key)


def test_a_server_of_a_gateway_loses_its_certificate(credential: str) -> None:
    missing = "is not there"

    def lost(before: str, after: str) -> list[str]:
        return [one for one in said(told(before, after, EDGE)) if one.startswith("FL3816")]

    whole = MESH + GATEWAY + credential
    (one,) = lost(whole, MESH + GATEWAY)
    assert "the server of listener 0.0.0.0_443 has no certificate: shop" in one and one.endswith(missing)
    (one,) = lost(whole, whole.replace("credentialName: shop", "credentialName: shpo"))
    assert "has no certificate: shpo" in one
    plain = whole.replace("HTTPS}", "HTTP}").replace(", tls: {mode: SIMPLE, credentialName: shop}", "")
    assert lost(whole, plain) == ["FL3816 listener 0.0.0.0_443 ends no TLS any more"]
    # Nobody misses the certificate of a server that goes, nor of one that had none.
    assert not lost(whole, MESH)
    assert not lost(MESH + GATEWAY, MESH + GATEWAY.replace('hosts: ["*"]', 'hosts: ["a.example"]'))
    assert not lost(MESH + GATEWAY, whole)
