"""The smallest change that would let a request pass: tried, confirmed, and the mesh as before afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.simulate.answering import answer
from fairlead.simulate.asked import caller_of, request_of
from fairlead.simulate.remedy import MOST_TRIED, remedies
from tests.simulate.meshes import call, mesh
from tests.simulate.test_walk import GATEWAY, JWT, SUBSETS, VIRTUAL_SERVICE, policy, strict

SIDECAR = """
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: [./reviews.shop.svc.cluster.local]}]
"""
PLAIN = SUBSETS.replace("host: reviews\n", "host: reviews\n  trafficPolicy: {tls: {mode: DISABLE}}\n")
ABORTED = "{fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, route: [{destination: {host: reviews}}]}"
SANS = "  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://cluster.local/ns/x/sa/y]}}\n"


def route(rule: str) -> str:
    return VIRTUAL_SERVICE + f"  http: [{rule}]\n"


def selecting(labels: str, port: str = "targetPort: 9080") -> str:
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: other, namespace: shop}}
spec: {{selector: {labels}, ports: [{{name: http, port: 80, {port}}}]}}
"""


CASES: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "a subset that nobody defines": (
        [SUBSETS, route("{route: [{destination: {host: reviews, subset: v3}}]}")],
        {},
        "set VirtualService shop/reviews spec.http[0].route[0].destination.subset to v",
    ),
    "a subset with labels that no workload has": (
        [SUBSETS, route("{route: [{destination: {host: reviews, subset: v9}}]}")],
        {},
        "set DestinationRule shop/reviews spec.subsets[2].labels.version to v",
    ),
    "a port that the host has not": (
        [route("{route: [{destination: {host: reviews, port: {number: 8080}}}]}")],
        {},
        'set VirtualService shop/reviews spec.http[0].route[0].destination.port to {"number":80}',
    ),
    "a misspelt destination": (
        [route("{route: [{destination: {host: reveiws}}]}")],
        {},
        "set VirtualService shop/reviews spec.http[0].route[0].destination.host to reviews.shop.svc.cluster.local",
    ),
    "a port that a service lacks": (
        [],
        {"url": "http://reviews:8081/"},
        'add {"port":8081,"name":"http-8081","targetPort":9080} to Service shop/reviews spec.ports',
    ),
    "a selector that fits no workload": (
        [selecting("{app: reveiws}")],
        {"url": "http://other/"},
        "set Service shop/other spec.selector.app to reviews",
    ),
    "a match that is too narrow": (
        [route("{match: [{uri: {exact: /x}}], route: [{destination: {host: reviews}}]}")],
        {},
        "remove VirtualService shop/reviews spec.http[0].match[0]",
    ),
    "an abort of everything": (
        [route(ABORTED)],
        {},
        "remove VirtualService shop/reviews spec.http[0].fault",
    ),
    "a caller that no rule allows": (
        [policy("ALLOW", "[{from: [{source: {principals: [cluster.local/ns/shop/sa/x]}}]}]")],
        {},
        'add {"source":{"principals":["cluster.local/ns/shop/sa/web"]}} to AuthorizationPolicy shop/who spec.rules[0]',
    ),
    "a method that no rule allows": (
        [policy("ALLOW", "[{to: [{operation: {methods: [GET]}}]}]")],
        {"method": "PUT"},
        'add {"operation":{"methods":["PUT"],"paths":["/"]}} to AuthorizationPolicy shop/who spec.rules[0].to',
    ),
    "a rule that denies": (
        [policy("DENY", "[{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {methods: [PUT]}}]}]")],
        {},
        "remove AuthorizationPolicy shop/who spec.rules[0]",
    ),
    "plaintext from outside to STRICT": (
        [strict()],
        {"who": "plaintext:10.9.9.9", "url": "http://reviews.shop/"},
        "set PeerAuthentication shop/mode spec.mtls.mode to PERMISSIVE",
    ),
    "a client that is told to use plaintext": (
        [strict(), PLAIN],
        {},
        "remove DestinationRule shop/reviews spec.trafficPolicy",
    ),
    "names that the server has not": (
        [SUBSETS.replace("host: reviews\n", "host: reviews\n" + SANS)],
        {},
        "remove DestinationRule shop/reviews spec.trafficPolicy.tls.subjectAltNames",
    ),
    "a host that a Sidecar hides": (
        [SIDECAR],
        {"url": "http://legacy/"},
        "add ./legacy.shop.svc.cluster.local to Sidecar shop/default spec.egress[0].hosts",
    ),
    "a host outside that nobody declares": (
        [SIDECAR.replace("[./reviews.shop.svc.cluster.local]", "['*/*']")],
        {"url": "http://api.example/"},
        "create ServiceEntry shop/api-example",
    ),
    "rules of a gateway that are not for the host": (
        [GATEWAY.replace("hosts: [shop.example], tls: {httpsRedirect: true}", "hosts: ['*']")],
        {"who": "internet", "url": "http://www.example/reviews"},
        "add www.example to VirtualService shop/edge spec.hosts",
    ),
    "a port on which a gateway does not listen": (
        [GATEWAY],
        {"who": "internet", "url": "http://shop.example:8080/reviews"},
        'add {"port":{"number":8080,"name":"http-8080","protocol":"HTTP"},"hosts":["shop.example"]}',
    ),
    "a token for another audience": (
        [JWT],
        {"claims": {"iss": "https://issuer.example", "aud": "office"}},
        "add office to RequestAuthentication shop/tokens spec.jwtRules[0].audiences",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_change(name: str) -> None:
    texts, asked, said = CASES[name]
    where = mesh(*texts)
    url, method = asked.get("url", "http://reviews/"), asked.get("method", "GET")
    request = request_of(url, method=method, claims=asked.get("claims"))
    caller = caller_of(asked.get("who", "web.shop"))
    found = answer(where, caller, request)
    assert found["verdict"]["outcome"] == "fails", found["verdict"]
    changes = [one["said"] for one in found["changes"]]
    assert any(one.startswith(said) for one in changes), (changes, found["verdict"])
    assert answer(where, caller, request) == found, "the mesh is as before"


PAIRS: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "an abort before a subset that nobody defines": (
        [SUBSETS, route(ABORTED.replace("{host: reviews}", "{host: reviews, subset: v3}"))],
        {},
        [
            "remove VirtualService shop/reviews spec.http[0].fault",
            "set VirtualService shop/reviews spec.http[0].route[0].destination.subset to v",
        ],
    ),
    "a policy that denies and one that does not allow": (
        [
            policy("DENY", "[{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {methods: [PUT]}}]}]"),
            policy("ALLOW", "[{from: [{source: {principals: [cluster.local/ns/shop/sa/x]}}]}]").replace(
                "name: who", "name: only"
            ),
        ],
        {},
        [
            "remove AuthorizationPolicy shop/who spec.rules[0]",
            'principals":["cluster.local/ns/shop/sa/web"]}} to AuthorizationPolicy shop/only spec.rules',
        ],
    ),
    "two fields of one object": (
        [route("{match: [{uri: {exact: /x}}], route: [{destination: {host: reveiws}}]}")],
        {},
        [
            "remove VirtualService shop/reviews spec.http[0].match[0]",
            "set VirtualService shop/reviews spec.http[0].route[0].destination.host to reviews.shop.svc.cluster.local",
        ],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_where_no_single_change_helps_two_do(name: str) -> None:
    texts, asked, said = PAIRS[name]
    where = mesh(*texts)
    request = request_of(asked.get("url", "http://reviews/"))
    found = answer(where, caller_of("web.shop"), request)
    assert found["verdict"]["outcome"] == "fails", found["verdict"]
    wanted = [one for one in found["changes"] if all(part in one["said"] for part in said)]
    assert wanted, [one["said"] for one in found["changes"]]
    assert len(wanted[0]["also"]) == 1
    assert wanted[0]["said"].count("; and ") == 1
    assert answer(where, caller_of("web.shop"), request) == found, "the mesh is as before"


def test_what_is_tried_is_bounded() -> None:
    ports = ", ".join(f"{{name: http-{at}, port: {at}, targetPort: 9080}}" for at in range(1000, 1040))
    many = selecting("{app: reviews}").replace("{name: http, port: 80, targetPort: 9080}", ports)
    lost = route("{route: [{destination: {host: other, port: {number: 7}}}]}")
    denied = [policy("DENY", "[{}]").replace("name: who", f"name: who{at}") for at in range(4)]
    where = mesh(many, lost, *denied)
    caller, request = caller_of("web.shop"), request_of("http://reviews/")
    failed = call(where)
    assert not failed.verdict.reached
    steps = remedies(where, caller, request, failed)
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            assert ended.value == []
            break
        count += 1
    assert MOST_TRIED < count <= 3 * MOST_TRIED


def test_what_passes_needs_no_change() -> None:
    assert answer(mesh(), caller_of("web.shop"), request_of("http://reviews/"))["changes"] == []
    assert call(mesh()).verdict.reached
