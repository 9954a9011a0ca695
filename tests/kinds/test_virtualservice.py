"""VirtualService: goldens, exact problem paths, names, robustness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowering import check, inputs, read

from fairlead.compiler.registry import registry
from fairlead.ir.visibility import full_name, host_matches, overlapping
from fairlead.kinds.virtualservice import KIND
from fairlead.kinds.virtualservice.lower import gateway_name
from fairlead.model.diagnostic import Problem, Severity

ROUTE: list[Any] = [{"destination": {"host": "reviews"}}]


@pytest.mark.parametrize("path", inputs("virtualservice"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def problems(spec: dict[str, Any]) -> list[Problem]:
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": spec,
    }
    return registry().read(document)[1]


def http(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"hosts": ["reviews"], "http": [{"route": ROUTE, **rule} for rule in rules], **spec}


ERRORS: list[tuple[str, dict[str, Any], str]] = [
    ("unknown field", http({"timout": "1s"}), "spec.http[0].timout"),
    ("no rules", {"hosts": ["a.b"]}, "spec"),
    ("wildcard on sidecars", http({}, hosts=["*"]), "spec.hosts[0]"),
    ("bad host", http({}, hosts=["a.b", "a_b.c"]), "spec.hosts[1]"),
    ("same host twice", http({}, hosts=["*.foo.bar", "*.bar"]), "spec.hosts[1]"),
    ("gateway name", http({}, gateways=["mesh", "ns/*"]), "spec.gateways[1]"),
    ("second bad gateway", http({}, gateways=["edge", "b@d"]), "spec.gateways[1]"),
    ("delegate with gateways", {"gateways": ["edge"], "http": [{"route": ROUTE}]}, "spec.gateways"),
    ("nothing to do", {"hosts": ["a"], "http": [{}]}, "spec.http[0]"),
    ("no destination", {"hosts": ["a"], "http": [{"route": [{}]}]}, "spec.http[0].route[0].destination"),
    ("destination", http({"route": [{"destination": {"host": "*"}}]}), "spec.http[0].route[0].destination.host"),
    (
        "port",
        http({"route": [{"destination": {"host": "a", "port": {"number": 66000}}}]}),
        "spec.http[0].route[0].destination.port.number",
    ),
    ("weights", http({"route": [*ROUTE, *ROUTE]}), "spec.http[0].route"),
    ("negative weight", http({"route": [{**ROUTE[0], "weight": -1}]}), "spec.http[0].route[0].weight"),
    ("redirect and route", http({"redirect": {"uri": "/"}}), "spec.http[0].route"),
    (
        "redirect code",
        {"hosts": ["a"], "http": [{"redirect": {"uri": "/", "redirectCode": 400}}]},
        "spec.http[0].redirect.redirectCode",
    ),
    ("two string matches", http({"match": [{"uri": {"exact": "/", "prefix": "/"}}]}), "spec.http[0].match[0].uri"),
    ("empty prefix", http({"match": [{"method": {"prefix": ""}}]}), "spec.http[0].match[0].method.prefix"),
    ("look-ahead", http({"match": [{"uri": {"regex": "(?=a)b"}}]}), "spec.http[0].match[0].uri.regex"),
    ("null match", http({"match": [{"headers": {"x": None}}]}), "spec.http[0].match[0].headers.x"),
    ("header name", http({"match": [{"headers": {"a b": {}}}]}), "spec.http[0].match[0].headers[a b]"),
    ("labels", http({"match": [{"sourceLabels": {"a": "!"}}]}), "spec.http[0].match[0].sourceLabels.a"),
    (
        "claims in the mesh",
        http({"match": [{"headers": {"@request.auth.claims.a": {}}}]}),
        "spec.http[0].match[0].headers[@request.auth.claims.a]",
    ),
    ("percent sign", http({"headers": {"response": {"set": {"a": "5%"}}}}), "spec.http[0].headers.response.set.a"),
    ("host header", http({"headers": {"response": {"set": {"Host": "x"}}}}), "spec.http[0].headers.response.set.Host"),
    (
        "header removal",
        http({"headers": {"request": {"remove": ["a", ":path"]}}}),
        "spec.http[0].headers.request.remove[1]",
    ),
    (
        "authority twice",
        http({"rewrite": {"authority": "a"}, "headers": {"request": {"set": {":authority": "b"}}}}),
        "spec.http[0].headers.request.set[:authority]",
    ),
    ("timeout", http({"timeout": "1ns"}), "spec.http[0].timeout"),
    ("timeout syntax", http({"timeout": "soon"}), "spec.http[0].timeout"),
    ("retries off", http({"retries": {"perTryTimeout": "1s"}}), "spec.http[0].retries.attempts"),
    ("retry condition", http({"retries": {"attempts": 1, "retryOn": "5xx,600"}}), "spec.http[0].retries.retryOn"),
    ("fault status", http({"fault": {"abort": {"httpStatus": 9000}}}), "spec.http[0].fault.abort.httpStatus"),
    (
        "fault share",
        http({"fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 101}}}}),
        "spec.http[0].fault.delay.percentage.value",
    ),
    (
        "mirror's share twice",
        http({"mirror": {"host": "a"}, "mirrorPercent": 5, "mirror_percent": 5}),
        "spec.http[0].mirror_percent",
    ),
    (
        "both mirrors",
        http({"mirror": {"host": "a"}, "mirrors": [{"destination": {"host": "b"}}]}),
        "spec.http[0].mirror",
    ),
    (
        "rewrite",
        http({"rewrite": {"uri": "/", "uriRegexRewrite": {"match": "a", "rewrite": "b"}}}),
        "spec.http[0].rewrite",
    ),
    ("cors age", http({"corsPolicy": {"maxAge": "1.5s"}}), "spec.http[0].corsPolicy.maxAge"),
    ("cors origin", http({"corsPolicy": {"allowOrigins": [{"exact": ""}]}}), "spec.http[0].corsPolicy.allowOrigins[0]"),
    (
        "sni",
        {"hosts": ["a.b"], "tls": [{"match": [{"sniHosts": ["c.d"]}], "route": ROUTE}]},
        "spec.tls[0].match[0].sniHosts[0]",
    ),
    ("tls without match", {"hosts": ["a.b"], "tls": [{"route": ROUTE}]}, "spec.tls[0].match"),
    (
        "subnet",
        {"hosts": ["a.b"], "tcp": [{"match": [{"destinationSubnets": ["10.0.0.0/33"]}], "route": ROUTE}]},
        "spec.tcp[0].match[0].destinationSubnets[0]",
    ),
    ("tcp without route", {"hosts": ["a.b"], "tcp": [{}]}, "spec.tcp[0].route"),
    ("export", http({}, exportTo=["*", "."]), "spec.exportTo[0]"),
]


@pytest.mark.parametrize(("spec", "path"), [one[1:] for one in ERRORS], ids=[one[0] for one in ERRORS])
def test_error(spec: dict[str, Any], path: str) -> None:
    found = [one for one in problems(spec) if one.severity is Severity.ERROR]
    assert path in [str(one.path) for one in found]
    assert all(one.message for one in found)


WARNINGS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "source subnet",
        {"hosts": ["a"], "tcp": [{"match": [{"sourceSubnet": "10.0.0.0/8"}], "route": ROUTE}]},
        "spec.tcp[0].match[0].sourceSubnet",
        "FL0100",
    ),
    ("old mirror", http({"mirror": {"host": "a"}, "mirrorPercent": 5}), "spec.http[0].mirrorPercent", "FL0101"),
    ("older mirror", http({"mirror": {"host": "a"}, "mirror_percent": 5}), "spec.http[0].mirror_percent", "FL0101"),
    ("old gateway name", http({}, gateways=["a.b.svc.cluster.local"]), "spec.gateways[0]", "FL0103"),
    ("no share", http({"fault": {"abort": {"httpStatus": 500}}}), "spec.http[0].fault.abort", "FL0103"),
    ("two catch-alls", http({}, {}), "spec.http[1]", "FL0102"),
    (
        "repeated match",
        http({"match": [{"uri": {"exact": "/"}}]}, {"match": [{"uri": {"exact": "/"}, "name": "n"}]}),
        "spec.http[1].match[0]",
        "FL0102",
    ),
    (
        "covered prefix",
        http(
            {"match": [{"uri": {"prefix": "/a"}}]}, {"match": [{"uri": {"prefix": "/ab"}, "method": {"exact": "GET"}}]}
        ),
        "spec.http[1].match[0]",
        "FL0102",
    ),
    (
        "address as server name",
        {"hosts": ["a.b"], "tls": [{"match": [{"sniHosts": ["1.1.1.1"]}], "route": ROUTE}]},
        "spec.tls[0].match[0].sniHosts[0]",
        "FL0103",
    ),
]


@pytest.mark.parametrize(("spec", "path", "code"), [one[1:] for one in WARNINGS], ids=[one[0] for one in WARNINGS])
def test_warning(spec: dict[str, Any], path: str, code: str) -> None:
    found = problems(spec)
    assert [one for one in found if one.severity is Severity.ERROR] == []
    assert (path, code) in [(str(one.path), one.code) for one in found]


def test_a_narrower_earlier_rule_does_not_cover() -> None:
    found = problems(http({"match": [{"uri": {"prefix": "/a"}, "port": 80}]}, {"match": [{"uri": {"prefix": "/ab"}}]}))
    assert found == []


def test_origins_of_rules_behind_a_delegate_keep_their_place() -> None:
    [obj] = read(
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x, namespace: shop}
spec:
  hosts: [a]
  http:
  - match: [{uri: {prefix: /t}}]
    delegate: {name: t}
  - route: [{destination: {host: a}}, {destination: {host: b}, weight: 1}]
"""
    )
    assert KIND.lower is not None
    [(_, _, routes)] = list(KIND.lower(None, obj))  # type: ignore[arg-type]  # lowering reads nothing
    to, rule = routes.http  # type: ignore[attr-defined]
    assert to.delegate == ("shop", "t")
    assert str(rule.origin.path) == "spec.http[1]"
    assert str(rule.routes[1].origin.path) == "spec.http[1].route[1]"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mesh", "mesh"),
        ("edge", "shop/edge"),
        ("./edge", "shop/edge"),
        ("front/edge", "front/edge"),
        ("edge.front.svc.cluster.local", "front/edge"),
        ("edge.front", "front/edge"),
    ],
)
def test_gateway_names(name: str, wanted: str) -> None:
    assert gateway_name(name, "shop") == wanted


def test_addresses_are_not_short_names() -> None:
    assert full_name("2001:db8::7", "shop", "cluster.local") == "2001:db8::7"
    assert full_name("reviews", "shop", "cluster.local") == "reviews.shop.svc.cluster.local"


def test_columns() -> None:
    document = {"metadata": {"creationTimestamp": "t"}, "spec": {"hosts": ["a"], "gateways": ["g"]}}
    assert [(one.name, one.value(document)) for one in KIND.columns] == [
        ("Gateways", ["g"]),
        ("Hosts", ["a"]),
        ("Age", "t"),
    ]
    assert [one.value({}) for one in KIND.columns] == [None, None, None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TEXT = (
    st.sampled_from(
        ["", "*", "a", "a.b", "1s", "%", "(", "a/b", "GET", "::1", "*.a", "@request.auth.claims.x", "-1h", "9" * 40]
    )
    | JSON
)
MATCH = st.fixed_dictionaries({}, optional=dict.fromkeys(("exact", "prefix", "regex"), TEXT)) | JSON
ANY_MATCH = (
    st.fixed_dictionaries(
        {},
        optional={
            "uri": MATCH,
            "headers": st.dictionaries(st.text(max_size=3), MATCH),
            "port": st.integers() | JSON,
            "gateways": st.lists(TEXT, max_size=2),
            "sniHosts": st.lists(TEXT, max_size=2),
            "destinationSubnets": st.lists(TEXT, max_size=2),
        },
    )
    | JSON
)
DESTINATION = (
    st.fixed_dictionaries(
        {"host": TEXT}, optional={"subset": TEXT, "port": st.fixed_dictionaries({"number": st.integers() | JSON})}
    )
    | JSON
)
TARGETS = (
    st.lists(
        st.fixed_dictionaries({"destination": DESTINATION}, optional={"weight": st.integers() | JSON}) | JSON,
        max_size=2,
    )
    | JSON
)
RULE = (
    st.fixed_dictionaries(
        {},
        optional={
            "match": st.lists(ANY_MATCH, max_size=2) | JSON,
            "route": TARGETS,
            "timeout": TEXT,
            "retries": st.fixed_dictionaries(
                {}, optional={"attempts": st.integers() | JSON, "retryOn": TEXT, "backoff": TEXT}
            ),
            "fault": st.fixed_dictionaries(
                {},
                optional={"abort": st.dictionaries(st.sampled_from(["httpStatus", "percentage"]), JSON), "delay": JSON},
            ),
            "redirect": st.dictionaries(st.sampled_from(["uri", "port", "prefixRewrite", "redirectCode"]), JSON) | JSON,
            "directResponse": st.fixed_dictionaries(
                {"status": st.integers() | JSON}, optional={"body": st.fixed_dictionaries({"bytes": TEXT})}
            ),
            "corsPolicy": st.fixed_dictionaries(
                {}, optional={"maxAge": TEXT, "allowOrigins": st.lists(MATCH, max_size=2)}
            ),
            "rewrite": st.fixed_dictionaries(
                {},
                optional={
                    "authority": TEXT,
                    "uriRegexRewrite": st.fixed_dictionaries({"match": TEXT, "rewrite": TEXT}),
                },
            ),
        },
    )
    | JSON
)
SPEC = (
    st.fixed_dictionaries(
        {},
        optional={
            "hosts": st.lists(TEXT, max_size=3) | JSON,
            "gateways": st.lists(TEXT, max_size=3),
            "http": st.lists(RULE, max_size=3) | JSON,
            "tls": st.lists(RULE, max_size=2),
            "tcp": st.lists(RULE, max_size=2),
            "exportTo": st.lists(TEXT, max_size=3),
        },
    )
    | JSON
)


@settings(max_examples=300, deadline=None)
@given(SPEC)
def test_no_input_raises(spec: Any) -> None:
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "x"},
        "spec": spec,
    }
    obj, found = registry().read(document)
    assert (obj is None) == any(one.severity is Severity.ERROR for one in found)
    if obj is not None and KIND.lower is not None:
        list(KIND.lower(None, obj))  # type: ignore[arg-type]  # lowering reads nothing
    json.dumps([str(one.path) for one in found])


HOSTS = st.lists(st.text("*.a", max_size=4) | st.sampled_from(["*", "*.a.a", "a.a.a", "a.a"]), max_size=8)


@given(HOSTS)
def test_hosts_that_overlap_are_those_of_which_one_matches_the_other(hosts: list[str]) -> None:
    wanted: dict[int, int] = {}
    for second, other in enumerate(hosts):
        for first, one in enumerate(hosts[:second]):
            if host_matches(one, other) or host_matches(other, one):
                wanted.setdefault(second, first)
    found = {second: first for first, second in overlapping(hosts)}
    assert found.keys() == wanted.keys()
    assert all(found[second] >= first for second, first in wanted.items())
    assert all(host_matches(hosts[a], hosts[b]) or host_matches(hosts[b], hosts[a]) for b, a in found.items())
