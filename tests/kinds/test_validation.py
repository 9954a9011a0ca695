"""Validation: exact field paths, and that no input makes reading raise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity

KINDS = ("ServiceEntry", "WorkloadEntry", "PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy")


def problems(kind: str, spec: Any, **meta: Any) -> dict[str, str]:
    """Message and remedy by path; warnings begin with `warning: `."""
    versions = {one.kind: one.api_version for one in registry().kinds}
    document = {"apiVersion": versions[kind], "kind": kind, "metadata": {"name": "x", **meta}, "spec": spec}
    _, found = registry().read(document, "shop")
    return {
        str(one.path): ("warning: " if one.severity is Severity.WARNING else "") + f"{one.message} {one.remedy}".strip()
        for one in found
    }


PATHS: list[tuple[str, Any, str, str]] = [
    ("Service", {}, "spec.ports", "a service needs a port"),
    ("Service", {"ports": [{"port": 0}]}, "spec.ports[0].port", "0 is not a port"),
    ("Service", {"ports": [{"port": 1}, {"port": 2}]}, "spec.ports[1].name", "required"),
    ("Service", {"ports": [{"port": 1, "targetPort": "Web"}]}, "spec.ports[0].targetPort", "not a port"),
    ("Service", {"ports": [{"port": 1, "prot": "x"}]}, "spec.ports[0].prot", "Did you mean 'port'?"),
    ("Service", {"ports": [{"port": 1, "protocol": "tcp"}]}, "spec.ports[0].protocol", "Did you mean 'TCP'?"),
    ("Service", {"ports": [{"port": 1}], "clusterIP": "ten"}, "spec.clusterIP", "not an IP address"),
    ("Service", {"type": "ExternalName"}, "spec.externalName", "must not be empty"),
    ("Service", {"ports": [{"port": 1}], "type": "NodePort"}, "spec.type", "warning: nothing listens"),
    ("Service", {"ports": [{"port": 1}], "selector": {"a b": "c"}}, "spec.selector[a b]", "not a label key"),
    ("ServiceEntry", {"hosts": ["*"]}, "spec.hosts[0]", "'*' is not possible"),
    ("ServiceEntry", {"hosts": ["a.b"], "addresses": ["10.0.0.0/33"]}, "spec.addresses[0]", "neither an IP"),
    (
        "ServiceEntry",
        {"hosts": ["a.b"], "ports": [{"number": 1, "name": "p", "protocol": "HTTPX"}]},
        "spec.ports[0].protocol",
        "unsupported protocol",
    ),
    (
        "ServiceEntry",
        {"hosts": ["a.b"], "resolution": "STATIC", "endpoints": [{"address": "1.1.1.1", "ports": {"p": 1}}]},
        "spec.endpoints[0].ports.p",
        "no port named 'p'",
    ),
    ("ServiceEntry", {"hosts": ["a.b"], "exportTo": ["*", "ns"]}, "spec.exportTo[0]", "must stand alone"),
    ("ServiceEntry", {"hosts": ["a.b"], "exportTo": [".", "shop"]}, "spec.exportTo[1]", "repeats"),
    ("WorkloadEntry", {}, "spec.address", "Address is required"),
    ("WorkloadEntry", {"address": "1.1.1.1", "ports": {"http": 70000}}, "spec.ports.http", "70000 is not a port"),
    ("WorkloadEntry", {"address": "unix://x/y"}, "spec.address", "not an absolute path"),
    ("PeerAuthentication", {"mtls": {"mode": "STRIKT"}}, "spec.mtls.mode", "Did you mean 'STRICT'?"),
    (
        "PeerAuthentication",
        {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"http": {}}},
        "spec.portLevelMtls.http",
        "not a port",
    ),
    (
        "AuthorizationPolicy",
        {"rules": [{"from": [{"source": {"ipBlocks": ["1.2.3.4", "x"]}}]}]},
        "spec.rules[0].from[0].source.ipBlocks[1]",
        "neither an IP address nor a network",
    ),
    (
        "AuthorizationPolicy",
        {"rules": [{"to": [{"operation": {"paths": ["/a/{*}b"]}}]}]},
        "spec.rules[0].to[0].operation.paths[0]",
        "not a path template",
    ),
    (
        "AuthorizationPolicy",
        {"rules": [{"when": [{"key": "request.header[x]", "values": ["y"]}]}]},
        "spec.rules[0].when[0].key",
        "Did you mean 'request.headers'?",
    ),
    ("AuthorizationPolicy", {"action": "DENY"}, "spec.rules", "never matches"),
    ("AuthorizationPolicy", {"provider": {"name": "x"}}, "spec.provider", "not possible with action ALLOW"),
    (
        "AuthorizationPolicy",
        {"targetRefs": [{"kind": "Service", "name": "x"}]},
        "spec.targetRefs[0]",
        "warning: a policy for a Service is enforced by waypoints",
    ),
    ("WorkloadEntry", {"address": "10.0.0.1", "locality": "a" * 2049}, "spec.locality", "longer than 2048"),
    (
        "WorkloadEntry",
        {"address": "10.0.0.1", "labels": {f"a{at}": "b" for at in range(257)}},
        "spec.labels",
        "257 entries are more than 256",
    ),
    (
        "AuthorizationPolicy",
        {"rules": [{"from": [{"source": {"serviceAccounts": ["a"] * 17}}]}]},
        "spec.rules[0].from[0].source.serviceAccounts",
        "17 entries are more than 16",
    ),
    (
        "DestinationRule",
        {"host": "a", "trafficPolicy": {"loadBalancer": {"warmupDurationSecs": "9s", "warmup": {"duration": "9s"}}}},
        "spec.trafficPolicy.loadBalancer.warmup",
        "only one of warmupDurationSecs or warmup",
    ),
    ("MeshConfig", {"connectTimeout": "soon"}, "spec.connectTimeout", "not a duration"),
    ("MeshConfig", {"enableTracing": True}, "spec.enableTracing", "warning: enableTracing has no effect"),
    ("MeshConfig", {"trustDomains": "x"}, "spec.trustDomains", "Did you mean 'trustDomain'?"),
    (
        "Gateway",
        {
            "servers": [
                {
                    "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                    "hosts": ["*"],
                    "tls": {"mode": "SIMPLE", "credentialName": "c", "verifyCertificateSpki": ["c3BraQ=="]},
                }
            ]
        },
        "spec.servers[0].tls.verifyCertificateSpki[0]",
        "SHA-256",
    ),
]


@pytest.mark.parametrize(("kind", "spec", "path", "message"), PATHS, ids=[f"{one[0]}-{one[2]}" for one in PATHS])
def test_problem_names_its_field(kind: str, spec: Any, path: str, message: str) -> None:
    found = problems(kind, spec, **({"name": "istio"} if kind == "MeshConfig" else {}))
    assert message in found.get(path, f"(nothing at {path})"), found


@pytest.mark.parametrize(
    ("kind", "spec", "value", "refused"),
    [
        ("AuthorizationPolicy", {}, "maybe", True),
        ("AuthorizationPolicy", {"action": "DENY", "rules": [{}]}, "T", False),
        ("AuthorizationPolicy", {"action": "AUDIT"}, "true", True),
        ("AuthorizationPolicy", {"action": "CUSTOM", "provider": {"name": "a"}, "rules": [{}]}, "false", True),
        ("PeerAuthentication", {}, "true", True),
        ("RequestAuthentication", {}, "false", True),
        ("Service", {"ports": [{"port": 1}]}, "true", False),
    ],
)
def test_only_policies_that_allow_or_deny_can_be_tried(kind: str, spec: Any, value: str, refused: bool) -> None:
    found = problems(kind, spec, annotations={"istio.io/dry-run": value})
    assert list(found) == (["metadata.annotations[istio.io/dry-run]"] if refused else [])


_WEB = {"number": 80, "name": "web", "protocol": "HTTP"}
_RAW = {"number": 81, "name": "raw", "protocol": "TCP"}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"hosts": ["a.test"], "ports": [_RAW], "resolution": "STATIC"}, []),
        ({"hosts": ["a.test"], "ports": [_RAW], "resolution": "NONE"}, ["spec.ports[0]"]),
        ({"hosts": ["a.test", "b.test"], "addresses": ["10.1.2.3"], "ports": [_WEB], "resolution": "DNS"}, []),
        (
            {
                "hosts": ["a.test", "b.test"],
                "addresses": ["10.1.2.3"],
                "ports": [_WEB, {**_RAW, "protocol": "TLS"}],
                "resolution": "DNS",
            },
            ["spec.hosts"],
        ),
    ],
)
def test_what_cannot_be_told_apart_without_an_address(spec: Any, wanted: list[str]) -> None:
    found = problems("ServiceEntry", spec)
    assert [path for path, said in found.items() if said.startswith("warning")] == wanted
    assert len(found) == len(wanted)


def test_an_entry_that_wants_no_address_is_warned_about_its_tcp_port() -> None:
    label = {"networking.istio.io/enable-autoallocate-ip": "False"}
    found = problems("ServiceEntry", {"hosts": ["a.test"], "ports": [_RAW], "resolution": "STATIC"}, labels=label)
    assert list(found) == ["spec.ports[0]"]


@pytest.mark.parametrize(
    ("spec", "path", "refused"),
    [
        ({"url": "http://modules.test"}, "spec.url", False),
        ({"url": "modules.test/a b"}, "spec.url", True),
        ({"url": "[modules]/a"}, "spec.url", True),
        ({"url": "http://modules.test/%zz"}, "spec.url", True),
        ({"url": "oci://modules.test/a", "imagePullSecret": ""}, "spec.imagePullSecret", True),
        ({"url": "oci://modules.test/a", "imagePullSecret": "s" * 254}, "spec.imagePullSecret", True),
        ({"url": "oci://modules.test/a", "pluginName": "p" * 257}, "spec.pluginName", True),
        ({"url": "http://modules.test", "sha256": "abc"}, "spec.sha256", True),
    ],
)
def test_modules(spec: Any, path: str, refused: bool) -> None:
    found = problems("WasmPlugin", spec)
    assert path in found
    assert found[path].startswith("warning") is not refused


@pytest.mark.parametrize(
    ("name", "valid"),
    [("x-tier", True), (":authority", True), ("x!#$~", True), (":x", False), ("a b", False), ('a"', False)],
)
def test_names_of_headers_that_are_matched(name: str, valid: bool) -> None:
    rule = {"match": [{"headers": {name: {"exact": "a"}}}], "route": [{"destination": {"host": "a"}}]}
    assert bool(problems("VirtualService", {"hosts": ["a.b"], "http": [rule]})) is not valid


def test_export_annotation_of_a_service_is_checked() -> None:
    found = problems("Service", {"ports": [{"port": 1}]}, annotations={"networking.istio.io/exportTo": "*,a"})
    assert list(found) == ["metadata.annotations[networking.istio.io/exportTo]"]


_LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "*",
            "NONE",
            "DNS",
            "STATIC",
            "ALLOW",
            "DENY",
            "CUSTOM",
            "STRICT",
            "10.0.0.1",
            "10.0.0.0/8",
            "unix:///a",
            "10s",
            ".",
        ]
    )
)
_FIELDS = st.sampled_from(
    (
        *("hosts", "ports", "number", "name", "protocol", "endpoints", "address", "labels", "resolution", "addresses"),
        *("workloadSelector", "exportTo", "selector", "matchLabels", "rules", "from", "to", "when", "key", "values"),
        *("source", "operation", "principals", "paths", "methods", "mtls", "mode", "portLevelMtls", "action", "port"),
        *("targetPort", "clusterIP", "clusterIPs", "type", "externalName", "sessionAffinity", "defaultConfig"),
        *("connectTimeout", "extensionProviders", "network", "weight", "targetRefs", "provider", "trustDomain"),
        *("ipBlocks", "matchExpressions", "tcpKeepalive", "time"),
    )
)
_VALUE = st.recursive(
    _LEAF,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(_FIELDS | st.text(max_size=4), inside, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["Service", "MeshConfig", *KINDS]),
    spec=_VALUE | st.dictionaries(_FIELDS, _VALUE, max_size=6),
    status=_VALUE,
    meta=st.just({"name": "x"}) | st.just({"name": "istio"}) | _VALUE,
)
def test_no_json_makes_reading_or_printing_raise(kind: str, spec: Any, status: Any, meta: Any) -> None:
    found = next(one for one in registry().kinds if one.kind == kind)
    document = {"apiVersion": found.api_version, "kind": kind, "metadata": meta, "spec": spec, "status": status}
    obj, problems = registry().read(document)
    assert obj is not None or any(one.severity is Severity.ERROR for one in problems)
    for column in found.columns:
        column.value(document)
