"""DestinationRule: goldens, exact problem paths, how policies combine, robustness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowering import check, inputs

from fairlead.compiler.registry import registry
from fairlead.ir.traffic import TrafficPolicy, effective_policy
from fairlead.kinds.destinationrule import KIND
from fairlead.model.diagnostic import Problem, Severity


@pytest.mark.parametrize("path", inputs("destinationrule"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def document(spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": spec,
    }


def problems(policy: dict[str, Any], **spec: Any) -> list[Problem]:
    return registry().read(document({"host": "reviews", "trafficPolicy": policy, **spec}))[1]


def lowered(spec: Any) -> TrafficPolicy:
    obj, found = registry().read(document(spec))
    assert obj is not None, found
    assert KIND.lower is not None
    [(_, _, policy)] = list(KIND.lower(None, obj))  # type: ignore[arg-type]  # lowering reads nothing
    assert isinstance(policy, TrafficPolicy)
    return policy


ROUND = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
ERRORS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("host", ROUND, {"host": "a_b"}, "spec.host"),
    ("empty policy", {}, {}, "spec.trafficPolicy"),
    ("empty pool", {"connectionPool": {}}, {}, "spec.trafficPolicy.connectionPool"),
    (
        "limit",
        {"connectionPool": {"http": {"http2MaxRequests": -1}}},
        {},
        "spec.trafficPolicy.connectionPool.http.http2MaxRequests",
    ),
    (
        "idle",
        {"connectionPool": {"http": {"idleTimeout": "30.000000005s"}}},
        {},
        "spec.trafficPolicy.connectionPool.http.idleTimeout",
    ),
    (
        "client protocol",
        {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": True}}},
        {},
        "spec.trafficPolicy.connectionPool.http.useClientProtocol",
    ),
    ("algorithm", {"loadBalancer": {"simple": "ROUNDROBIN"}}, {}, "spec.trafficPolicy.loadBalancer.simple"),
    (
        "two algorithms",
        {"loadBalancer": {"simple": "RANDOM", "consistentHash": {"useSourceIp": True}}},
        {},
        "spec.trafficPolicy.loadBalancer",
    ),
    ("hash of nothing", {"loadBalancer": {"consistentHash": {}}}, {}, "spec.trafficPolicy.loadBalancer.consistentHash"),
    (
        "maglev",
        {"loadBalancer": {"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 1000}}}},
        {},
        "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
    ),
    (
        "warmup",
        {"loadBalancer": {"warmup": {"duration": "1s", "minimumPercent": 150}}},
        {},
        "spec.trafficPolicy.loadBalancer.warmup.minimumPercent",
    ),
    (
        "distribution",
        {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a", "to": {"b": 50}}]}}},
        {},
        "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
    ),
    (
        "overlap",
        {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a/*", "to": {"b": 50, "b/c": 50}}]}}},
        {},
        "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to[b/c]",
    ),
    (
        "same region",
        {
            "loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "a"}]}},
            "outlierDetection": {"interval": "1s"},
        },
        {},
        "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0]",
    ),
    (
        "zone that takes over",
        {"loadBalancer": {"zoneAwareLbSetting": {"failoverPriority": ["topology.kubernetes.io/zone"]}}},
        {},
        "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.failoverPriority[0]",
    ),
    (
        "two ways to another region",
        {
            "loadBalancer": {
                "zoneAwareLbSetting": {
                    "failover": [{"from": "a", "to": "b"}],
                    "failoverPriority": ["topology.kubernetes.io/region"],
                }
            }
        },
        {},
        "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.failoverPriority[0]",
    ),
    (
        "roots of another namespace",
        {"portLevelSettings": [{"port": {"number": 1}, "tls": {"credentialName": "configmap://other/roots"}}]},
        {},
        "spec.trafficPolicy.portLevelSettings[0].tls.credentialName",
    ),
    (
        "percent",
        {"outlierDetection": {"maxEjectionPercent": 105}},
        {},
        "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
    ),
    (
        "local origin",
        {"outlierDetection": {"consecutiveLocalOriginFailures": 1}},
        {},
        "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
    ),
    ("client key", {"tls": {"mode": "MUTUAL", "clientCertificate": "c"}}, {}, "spec.trafficPolicy.tls.privateKey"),
    (
        "not verified",
        {"tls": {"mode": "SIMPLE", "credentialName": "c", "insecureSkipVerify": True}},
        {},
        "spec.trafficPolicy.tls.credentialName",
    ),
    ("port level", {"portLevelSettings": [ROUND]}, {}, "spec.trafficPolicy.portLevelSettings[0].port"),
    (
        "empty port level",
        {"portLevelSettings": [{"port": {"number": 1}}]},
        {},
        "spec.trafficPolicy.portLevelSettings[0]",
    ),
    (
        "tunnel",
        {"tunnel": {"protocol": "GET", "targetHost": "a.b", "targetPort": 1}},
        {},
        "spec.trafficPolicy.tunnel.protocol",
    ),
    ("subset twice", ROUND, {"subsets": [{"name": "a"}, {"name": "a"}]}, "spec.subsets[1].name"),
    ("subset name", ROUND, {"subsets": [{"name": "a.b"}]}, "spec.subsets[0].name"),
    ("subset policy", ROUND, {"subsets": [{"name": "a", "trafficPolicy": {}}]}, "spec.subsets[0].trafficPolicy"),
    ("subset label", ROUND, {"subsets": [{"name": "a", "labels": {"b": "!"}}]}, "spec.subsets[0].labels.b"),
    ("export beyond", ROUND, {"workloadSelector": {"matchLabels": {"a": "b"}}, "exportTo": ["other"]}, "spec.exportTo"),
    ("selector", ROUND, {"workloadSelector": {"matchLabels": {"a": "*"}}}, "spec.workloadSelector.matchLabels.a"),
]


@pytest.mark.parametrize(("policy", "spec", "path"), [one[1:] for one in ERRORS], ids=[one[0] for one in ERRORS])
def test_error(policy: dict[str, Any], spec: dict[str, Any], path: str) -> None:
    found = [one for one in problems(policy, **spec) if one.severity is Severity.ERROR]
    assert path in [str(one.path) for one in found]


WARNINGS: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "certificate with SIMPLE",
        {"tls": {"mode": "SIMPLE", "clientCertificate": "/c"}},
        {},
        "spec.trafficPolicy.tls.clientCertificate",
        "FL0100",
    ),
    ("TLS that is off", {"tls": {"mode": "DISABLE", "sni": "a.b"}}, {}, "spec.trafficPolicy.tls.sni", "FL0100"),
    (
        "roots of the mesh",
        {"tls": {"mode": "ISTIO_MUTUAL", "caCertificates": "/c"}},
        {},
        "spec.trafficPolicy.tls.caCertificates",
        "FL0100",
    ),
    (
        "failover",
        {"loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}},
        {},
        "spec.trafficPolicy.loadBalancer.localityLbSetting",
        "FL0103",
    ),
    (
        "failover of zones",
        {"loadBalancer": {"zoneAwareLbSetting": {"failoverPriority": ["a"]}}},
        {},
        "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting",
        "FL0103",
    ),
    (
        "ring size",
        {"loadBalancer": {"consistentHash": {"useSourceIp": True, "minimumRingSize": 5}}},
        {},
        "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize",
        "FL0101",
    ),
    (
        "errors",
        {"outlierDetection": {"consecutiveErrors": 5}},
        {},
        "spec.trafficPolicy.outlierDetection.consecutiveErrors",
        "FL0101",
    ),
    ("selector", ROUND, {"workloadSelector": {}}, "spec.workloadSelector", "FL0103"),
]


@pytest.mark.parametrize(
    ("policy", "spec", "path", "code"), [one[1:] for one in WARNINGS], ids=[one[0] for one in WARNINGS]
)
def test_warning(policy: dict[str, Any], spec: dict[str, Any], path: str, code: str) -> None:
    found = problems(policy, **spec)
    assert [one for one in found if one.severity is Severity.ERROR] == []
    assert (path, code) in [(str(one.path), one.code) for one in found]


ACTS: list[dict[str, Any]] = [
    {"loadBalancer": {"localityLbSetting": {"enabled": True, "failoverPriority": ["a"]}}, "outlierDetection": {}},
    {"loadBalancer": {"backendUtilization": {"blackoutPeriod": "5s"}}},
    {"tunnel": {"targetHost": "a.b", "targetPort": 1}},
    {"retryBudget": {"percent": 10}},
    {"connectionPool": {"http": {"http2KeepAlive": {"interval": "5s"}}}},
]


@pytest.mark.parametrize("policy", ACTS, ids=lambda one: next(iter(one)))
def test_acts_without_a_warning(policy: dict[str, Any]) -> None:
    assert problems(policy) == []


COMBINED = {
    "host": "reviews",
    "trafficPolicy": {
        "loadBalancer": {"simple": "RANDOM"},
        "connectionPool": {"tcp": {"maxConnections": 7}},
        "tls": {"mode": "SIMPLE"},
        "proxyProtocol": {"version": "V2"},
        "portLevelSettings": [{"port": {"number": 90}, "loadBalancer": {"simple": "ROUND_ROBIN"}}],
    },
    "subsets": [
        {"name": "plain"},
        {
            "name": "own",
            "trafficPolicy": {
                "connectionPool": {"http": {"maxRetries": 1}},
                "portLevelSettings": [{"port": {"number": 91}, "tls": {"mode": "DISABLE"}}],
            },
        },
    ],
}


def test_a_port_policy_inherits_nothing() -> None:
    held = effective_policy(lowered(COMBINED), "", 90)
    assert held.load_balancer is not None
    assert held.load_balancer.simple == "ROUND_ROBIN"
    assert (held.tcp, held.http, held.tls, held.outlier) == (None, None, None, None)
    assert held.proxy_protocol == "V2"


def test_a_subset_without_policy_has_the_hosts() -> None:
    policy = lowered(COMBINED)
    assert effective_policy(policy, "plain", 80) == effective_policy(policy, "", 80) == policy.policy
    assert effective_policy(policy, "plain", 90) == effective_policy(policy, "", 90)


def test_a_subset_replaces_whole_groups() -> None:
    held = effective_policy(lowered(COMBINED), "own", 80)
    assert held.tcp is not None
    assert held.tcp.max_connections is None
    assert held.http is not None
    assert held.http.max_retries == 1
    assert held.load_balancer is not None
    assert held.load_balancer.simple == "RANDOM"
    assert held.tls is not None
    assert held.tls.mode == "SIMPLE"


def test_a_subsets_port_policy_wins() -> None:
    held = effective_policy(lowered(COMBINED), "own", 91)
    assert held.tls is not None
    assert held.tls.mode == "DISABLE"
    assert (held.tcp, held.http, held.load_balancer) == (None, None, None)


def test_no_rule_says_nothing() -> None:
    assert effective_policy(None, "", 80) == effective_policy(lowered({"host": "a"}), "unknown", 80)


def test_columns() -> None:
    assert [one.value({"spec": {"host": "a"}}) for one in KIND.columns] == ["a", None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TEXT = st.sampled_from(["", "*", "a", "a.b", "1s", "0s", "-1h", "a/b", "9" * 40]) | JSON
NUMBER = st.integers() | JSON


def struct(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields) | JSON


POLICY = struct(
    loadBalancer=struct(
        simple=st.sampled_from(["RANDOM", "LEAST_CONN"]) | JSON,
        consistentHash=struct(
            httpCookie=struct(name=TEXT, ttl=TEXT), maglev=struct(tableSize=NUMBER), useSourceIp=st.booleans()
        ),
        localityLbSetting=struct(
            distribute=st.lists(
                struct(**{"from": TEXT, "to": st.dictionaries(st.sampled_from(["a", "a/*", "*"]), NUMBER)}), max_size=2
            ),
            failover=st.lists(struct(**{"from": TEXT, "to": TEXT}), max_size=2),
        ),
        warmup=struct(duration=TEXT),
    ),
    connectionPool=struct(
        tcp=struct(maxConnections=NUMBER, idleTimeout=TEXT), http=struct(http2KeepAlive=struct(interval=TEXT))
    ),
    outlierDetection=struct(interval=TEXT, maxEjectionPercent=NUMBER),
    tls=struct(mode=st.sampled_from(["SIMPLE", "MUTUAL"]), credentialName=TEXT),
    tunnel=struct(targetHost=TEXT, targetPort=NUMBER),
)
SPEC = struct(
    host=TEXT,
    trafficPolicy=POLICY,
    subsets=st.lists(
        struct(name=TEXT, labels=st.dictionaries(st.text(max_size=4), TEXT), trafficPolicy=POLICY), max_size=2
    ),
    exportTo=st.lists(TEXT, max_size=3),
    workloadSelector=struct(matchLabels=st.dictionaries(st.text(max_size=4), TEXT)),
)


@settings(max_examples=200, deadline=None)
@given(SPEC)
def test_no_input_raises(spec: Any) -> None:
    obj, found = registry().read(document(spec))
    assert (obj is None) == any(one.severity is Severity.ERROR for one in found)
    if obj is not None and KIND.lower is not None:
        list(KIND.lower(None, obj))  # type: ignore[arg-type]  # lowering reads nothing
    assert all(str(one.path) or one.message for one in found)
