"""Routes from rules, field by field, and their joining from serialised parts."""

from __future__ import annotations

import pytest
from envoy.config.route.v3 import route_components_pb2, route_pb2
from hypothesis import given
from hypothesis import strategies as st

from fairlead.envoy.route import (
    RouteList,
    Serving,
    Unknown,
    framed,
    http_route,
    route_configuration,
    route_list,
    unknown_hosts,
    virtual_host,
)
from fairlead.envoy.routeaction import Forwarding, Target
from fairlead.envoy.routematch import claim_path, is_catch_all, route_match
from fairlead.envoy.routeretry import DEFAULT_RETRY_ON, retry_policy
from fairlead.envoy.routevalues import duration
from fairlead.ir.route import (
    HeaderOperations,
    Headers,
    HttpMatch,
    HttpRule,
    Redirect,
    Rewrite,
    StringMatch,
)
from fairlead.ir.traffic import RetryPolicy
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import Ref

ORIGIN = Origin(Ref("networking.istio.io", "VirtualService", "ns", "vs"))
AT = Serving(9080, False, "vs", ORIGIN)
ONE = Forwarding((Target("outbound|9080||reviews.ns.svc.cluster.local"),))


def made(to: Forwarding | None = ONE, match: HttpMatch | None = None, at: Serving = AT, **fields: object):
    return http_route(HttpRule(origin=ORIGIN, **fields), match, at, to)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_framing_is_protobufs_own(bodies: list[bytes]) -> None:
    hosts = [route_components_pb2.VirtualHost(name="h", domains=[body.hex() or "x"]) for body in bodies]
    whole = route_pb2.RouteConfiguration(virtual_hosts=hosts)
    assert b"".join(framed(2, host.SerializeToString()) for host in hosts) == whole.SerializeToString()


def test_joined_parts_are_one_message() -> None:
    routes = [made(match=HttpMatch(uri=StringMatch("exact", f"/{number}"))) for number in range(3)]
    last = made(name="last")
    host = virtual_host("h:80", ["h", "h.ns"], [route_list([last, made(name="lost")]), route_list(routes)])
    config = route_pb2.RouteConfiguration.FromString(
        route_configuration("80", [host, unknown_hosts(Unknown("PassthroughCluster"))])
    )
    first, unknown = config.virtual_hosts
    assert list(first.routes) == [*routes, last], "what takes every request comes last, and nothing follows it"
    assert list(first.domains) == ["h", "h.ns"]
    assert unknown.name == "allow_any"
    assert RouteList().empty
    assert not route_list([last]).empty


def test_names_of_operations() -> None:
    assert made(match=HttpMatch(uri=StringMatch("prefix", "/a"))).decorator.operation == (
        "reviews.ns.svc.cluster.local:9080/a*"
    )
    two = Forwarding((Target("outbound|1||a", 1), Target("outbound|1||b", 1)))
    assert made(two, HttpMatch(uri=StringMatch("exact", "/a"))).decorator.operation == "vs:9080/a"


def test_a_rule_and_its_match_name_the_route() -> None:
    assert made(name="rule", match=HttpMatch(name="match")).name == "rule.match"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("HTTPRoute", "http-route"),
        ("GRPCRoute", "grpc-route"),
        ("VirtualService", "virtual-service"),
    ],
)
def test_the_object_behind_a_route(kind: str, path: str) -> None:
    at = Serving(80, False, "x", Origin(Ref("g.io", kind, "ns", "x")))
    assert made(at=at).metadata.filter_metadata["istio"]["config"] == f"/apis/g.io/v1/namespaces/ns/{path}/x"


def test_headers_and_the_authority() -> None:
    change = HeaderOperations(
        set=(("x-b", "1"), (":authority", "set.example.com"), ("x-a", "2")), add=(("x-c", "3"),), remove=("x-d", "host")
    )
    route = made(headers=Headers(request=change))
    assert [(one.header.key, one.append_action) for one in route.request_headers_to_add] == [
        ("x-a", 2),
        ("x-b", 2),
        ("x-c", 0),
    ]
    assert list(route.request_headers_to_remove) == ["x-d"]
    assert route.route.host_rewrite_literal == "set.example.com"
    route = made(headers=Headers(request=change), rewrite=Rewrite(authority="rewrite.example.com"))
    assert route.route.host_rewrite_literal == "rewrite.example.com"


def test_weights_and_the_headers_of_each_share() -> None:
    own = Headers(response=HeaderOperations(set=(("v", "2"),)), request=HeaderOperations(set=(("Host", "h"),)))
    route = made(Forwarding((Target("a", 0), Target("b", 60), Target("c", 40, own))))
    shares = route.route.weighted_clusters.clusters
    assert [(one.name, one.weight.value) for one in shares] == [("b", 60), ("c", 40)]
    assert shares[1].response_headers_to_add[0].header.key == "v"
    assert shares[1].host_rewrite_literal == "h"


def test_timeouts() -> None:
    assert made(timeout=2.5).route.timeout == duration(2.5)
    assert made().route.HasField("timeout")
    assert made().route.timeout == duration(0)


@pytest.mark.parametrize(
    ("said", "tls", "port"),
    [
        (Redirect(port=443, scheme="https"), False, 0),
        (Redirect(port=8443, scheme="https"), False, 8443),
        (Redirect(derive_port="FROM_REQUEST_PORT"), False, 9080),
        (Redirect(derive_port="FROM_PROTOCOL_DEFAULT"), False, 0),
        (Redirect(port=443), True, 0),
        (Redirect(port=443), False, 443),
    ],
)
def test_ports_of_redirects(said: Redirect, tls: bool, port: int) -> None:
    assert made(None, at=Serving(9080, tls, "vs", ORIGIN), redirect=said).redirect.port_redirect == port


@pytest.mark.parametrize(
    ("said", "conditions", "codes"),
    [
        ("", DEFAULT_RETRY_ON, []),
        ("5xx,503", "5xx,retriable-status-codes", [503]),
        ("gateway-error, retriable-status-codes,429,999", "gateway-error,retriable-status-codes,999", [429]),
        ("503", "retriable-status-codes", [503]),
    ],
)
def test_retry_conditions(said: str, conditions: str, codes: list[int]) -> None:
    policy = retry_policy(RetryPolicy(3, said), hashed=False)
    assert policy is not None
    assert (policy.retry_on, list(policy.retriable_status_codes)) == (conditions, codes)
    assert policy.num_retries.value == 3


def test_no_retries() -> None:
    assert retry_policy(RetryPolicy(0), hashed=False) is None
    hashed = retry_policy(None, hashed=True)
    assert hashed is not None
    assert not hashed.retry_host_predicate


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ("@request.auth.claims.a.b", ("a", "b")),
        ("@request.auth.claims[a.b][c]", ("a.b", "c")),
        ("@request.auth.claims", ()),
        ("x-user", ()),
    ],
)
def test_claims(header: str, claims: tuple[str, ...]) -> None:
    assert claim_path(header) == claims


@pytest.mark.parametrize(
    ("match", "everything"),
    [
        (None, True),
        (HttpMatch(), True),
        (HttpMatch(uri=StringMatch("prefix", "/")), True),
        (HttpMatch(uri=StringMatch("regex", ".*")), True),
        (HttpMatch(uri=StringMatch("prefix", "/a")), False),
        (HttpMatch(method=StringMatch("exact", "GET")), False),
        (HttpMatch(query=(("q", StringMatch("present")),)), False),
        (HttpMatch(headers=(("@request.auth.claims.a", StringMatch("exact", "b")),)), False),
    ],
)
def test_what_takes_every_request(match: HttpMatch | None, everything: bool) -> None:
    assert is_catch_all(route_match(match)) is everything
