"""The rules and bounds of Istio's CustomResourceDefinitions, one by one.

Kubernetes refuses an object that breaks one before any webhook sees it, so each has an object here that breaks it, the
field at which it must be refused, and its neighbour that is accepted. The rules are those that the definitions of
the kinds' newest versions carry: their CEL rules, and their lengths, counts, patterns, numbers and required fields.

What we accept and Istio's API server does not:

* CEL's `has()` is true of a field that is given and empty. For us, as for protobuf and so for the rest of Istio, that
  is a field that is not given: `targetPort: 0`, `value: ""` beside `valueFrom: HOST`, an empty `targetRefs` beside a
  selector, an empty `imagePullPolicy`.
* The port of an EnvoyFilter's waypoint ends at 6553 in Istio's definition, for want of a digit. Here it ends at 65535.

What we refuse and the definitions do not, because Istio's webhook or Envoy would:

* `credentialName` beside `tlsCertificates` of a gateway: the rule of that name looks at another field.
* `consistentHash` without a key, a probe that says no way, `exponentialDelay`, a `maxAge` with parts of a second.
"""

from __future__ import annotations

from copy import deepcopy

import pytest
from crdcases import GONE, Case, Json, many, put, times
from crdtraffic import destination_rules, sidecars_and_gateways, virtual_services

from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity


def _errors(kind: str, spec: Json) -> dict[str, str]:
    version = next(one.api_version for one in registry().kinds if one.kind == kind)
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    _, found = registry().read(document, "shop")
    return {str(one.path): one.message for one in found if one.severity is Severity.ERROR}


_CHOSEN: Json = {"selector": {"matchLabels": {"app": "a"}}}
_GATEWAY: Json = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"}
_POLICIES: dict[str, Json] = {
    "AuthorizationPolicy": {},
    "RequestAuthentication": {},
    "Telemetry": {},
    "WasmPlugin": {"url": "file:///a.wasm"},
    "TrafficExtension": {"lua": {"inlineCode": "function envoy_on_request(handle) end"}},
}
_SELECTING: dict[str, tuple[Json, str]] = {
    **{kind: (base, "selector.matchLabels") for kind, base in _POLICIES.items()},
    "PeerAuthentication": ({}, "selector.matchLabels"),
    "ProxyConfig": ({}, "selector.matchLabels"),
    "DestinationRule": ({"host": "a.shop.svc"}, "workloadSelector.matchLabels"),
    "Sidecar": ({"egress": [{"hosts": ["./*"]}]}, "workloadSelector.labels"),
    "EnvoyFilter": ({}, "workloadSelector.labels"),
    "ServiceEntry": (
        {"hosts": ["a.test"], "resolution": "STATIC", "ports": [{"number": 80, "name": "web", "protocol": "HTTP"}]},
        "workloadSelector.labels",
    ),
}


def _selectors() -> list[Case]:
    found: list[Case] = []
    for kind, (base, field) in _SELECTING.items():
        most = 4096 if field.endswith("matchLabels") else 256
        found += [
            Case(kind, base, field, {"app": "a*"}, {"app": "a"}, f"{field}.app"),
            Case(kind, base, field, {"app*": "a"}, {"app": "a"}, f"{field}.app*"),
            Case(kind, base, field, {"app": "a" * 64}, {"app": "a" * 63}, f"{field}.app"),
            Case(kind, base, field, many(most + 1), many(most)),
        ]
        if most == 4096:
            where = f"{field}." if kind == "DestinationRule" else field
            found.append(Case(kind, base, field, {"": "a"}, {"app": "a"}, where))
    return found


def _references() -> list[Case]:
    found: list[Case] = []
    for kind, base in {**_POLICIES, "EnvoyFilter": {}}.items():
        lists = [("targetRefs.0", {**base, "targetRefs": [_GATEWAY]})]
        if kind not in ("TrafficExtension", "EnvoyFilter"):
            lists.append(("targetRef", {**base, "targetRef": _GATEWAY}))
        for field, one in lists:
            found += [
                Case(kind, one, f"{field}.namespace", "other", ""),
                Case(kind, one, f"{field}.name", GONE, "front"),
                Case(kind, one, f"{field}.name", "", "front"),
                Case(kind, one, f"{field}.name", "a" * 254, "a" * 253),
                Case(kind, one, f"{field}.kind", GONE, "Gateway"),
                Case(kind, one, f"{field}.kind", "", "Gateway"),
                Case(kind, one, f"{field}.kind", "Gate_way", "Gateway"),
                Case(kind, one, f"{field}.kind", "G" * 64, "Gateway"),
                Case(kind, one, f"{field}.group", "A_b", "gateway.networking.k8s.io", f"{field}.kind"),
                Case(kind, one, f"{field}.group", "a" * 254, "gateway.networking.k8s.io", f"{field}.kind"),
            ]
        many = [{**_GATEWAY, "name": f"g{at}"} for at in range(17)]
        found.append(Case(kind, base, "targetRefs", many, many[:16]))
        selector = "workloadSelector.labels" if kind == "EnvoyFilter" else "selector.matchLabels"
        chosen = put(base, selector, {"app": "a"})
        found.append(Case(kind, chosen, "targetRefs", [_GATEWAY], None, "."))
        if kind not in ("TrafficExtension", "EnvoyFilter"):
            found.append(Case(kind, chosen, "targetRef", _GATEWAY, None, "."))
    return found


_ENTRY: Json = {"hosts": ["a.test"], "ports": [{"number": 80, "name": "web", "protocol": "HTTP"}]}
_STATIC: Json = {**_ENTRY, "resolution": "STATIC", "endpoints": [{"address": "10.0.0.1"}]}
_UDS = "unix:///a/socket"


def _endpoints(kind: str, base: Json, place: str) -> list[Case]:
    """Rules of WorkloadEntry, wherever one stands; `place` ends with a dot, or is empty."""
    names = [f"p{at}" for at in range(129)]
    ports = dict.fromkeys(names, 80)
    known = deepcopy(base)
    if kind == "ServiceEntry":
        known["ports"] = [{"number": at + 1, "name": one, "protocol": "HTTP"} for at, one in enumerate(names)]
        known["ports"].append({"number": 900, "name": "p" * 63, "protocol": "HTTP"})
        known["ports"].append({"number": 901, "name": "p" * 62, "protocol": "HTTP"})
    unix = put(base, f"{place}address", _UDS)
    return [
        Case(kind, base, f"{place}address", "unix://a/socket", _UDS),
        Case(kind, base, f"{place}address", "unix:///a/socket/", "unix://@socket"),
        Case(kind, base, f"{place}address", "unix:///" + "a" * 249, "unix:///" + "a" * 248),
        Case(kind, unix, f"{place}ports", {"web": 80}),
        Case(kind, known, f"{place}ports", {"p1": 0}, {"p1": 1}, f"{place}ports.p1"),
        Case(kind, known, f"{place}ports", {"p1": 65536}, {"p1": 65535}, f"{place}ports.p1"),
        Case(kind, known, f"{place}ports", {"p" * 63: 1}, {"p" * 62: 1}, f"{place}ports.{'p' * 63}"),
        Case(kind, known, f"{place}ports", {"p_1": 1}, {"p1": 1}, f"{place}ports.p_1"),
        Case(kind, known, f"{place}ports", ports, dict.fromkeys(names[:128], 80)),
        Case(kind, base, f"{place}labels", many(257), many(256)),
        Case(kind, base, f"{place}locality", "a" * 2049, "a" * 2048),
        Case(kind, base, f"{place}network", "a" * 2049, "a" * 2048),
        Case(kind, base, f"{place}serviceAccount", "a" * 254, "a" * 253),
        Case(kind, base, f"{place}weight", 2**32, 2**32 - 1),
        Case(kind, base, f"{place}weight", -1, 0),
    ]


def _service_entries() -> list[Case]:
    kind = "ServiceEntry"
    hosts = [f"h{at}.test" for at in range(257)]
    networks = [f"10.1.{at // 250}.{at % 250 + 1}" for at in range(257)]
    ports = [{"number": at + 1, "name": f"p{at}", "protocol": "HTTP"} for at in range(257)]
    endpoints = [{"address": f"10.{at // 62500}.{at // 250 % 250}.{at % 250 + 1}"} for at in range(4097)]
    dns: Json = {**_ENTRY, "resolution": "DNS"}
    robin: Json = {**_ENTRY, "resolution": "DNS_ROUND_ROBIN"}
    two = [{"address": "a.test"}, {"address": "b.test"}]
    twice = [_ENTRY["ports"][0], {"number": 80, "name": "b", "protocol": "HTTP"}]
    named = [_ENTRY["ports"][0], {"number": 81, "name": "web", "protocol": "HTTP"}]
    return [
        *_endpoints(kind, _STATIC, "endpoints.0."),
        Case(kind, _STATIC, "endpoints.0", {}, {"network": "n"}, "endpoints.0.address"),
        Case(kind, _ENTRY, "hosts", GONE, ["a.test"]),
        Case(kind, _ENTRY, "hosts", [], ["a.test"]),
        Case(kind, _ENTRY, "hosts", ["*"], ["*.test"], "hosts.0"),
        Case(kind, _ENTRY, "hosts", hosts, hosts[:256]),
        Case(kind, _ENTRY, "addresses", networks, networks[:256]),
        Case(kind, _ENTRY, "addresses", ["1" * 65], ["10.0.0.0/8"], "addresses.0"),
        Case(kind, dns, "addresses", ["10.0.0.0/8"], ["10.0.0.1"], "addresses.0"),
        Case(kind, _ENTRY, "endpoints", [{"address": "10.0.0.1"}]),
        Case(kind, robin, "endpoints", two, two[:1]),
        Case(kind, _STATIC, "workloadSelector", {"labels": {"app": "a"}}),
        Case(kind, _STATIC, "endpoints", endpoints, endpoints[:4096]),
        Case(kind, _ENTRY, "ports", ports, ports[:256]),
        Case(kind, _ENTRY, "ports", twice, twice[:1], "ports.1.number"),
        Case(kind, _ENTRY, "ports", named, named[:1], "ports.1.name"),
        Case(kind, _ENTRY, "ports.0.number", GONE, 80),
        Case(kind, _ENTRY, "ports.0.number", 0, 1),
        Case(kind, _ENTRY, "ports.0.number", 65536, 65535),
        Case(kind, _ENTRY, "ports.0.targetPort", 65536, 65535),
        Case(kind, _ENTRY, "ports.0.targetPort", -1, 1),
        Case(kind, _ENTRY, "ports.0.name", GONE, "web"),
        Case(kind, _ENTRY, "ports.0.name", "a" * 257, "web"),
        Case(kind, _ENTRY, "ports.0.protocol", "a" * 257, "TLS"),
        Case(kind, _ENTRY, "location", "NOWHERE", "MESH_INTERNAL"),
        Case(kind, _ENTRY, "resolution", "NOHOW", "NONE"),
    ]


def _workloads() -> list[Case]:
    group: Json = {"template": {"serviceAccount": "a"}}
    probe, get = "probe.", "probe.httpGet."
    http = put(group, "probe.httpGet", {"port": 80})
    tcp = put(group, "probe.tcpSocket", {"port": 80})
    grpc = put(group, "probe.grpc", {"port": 80})
    command = put(group, "probe.exec", {"command": ["true"]})
    kind = "WorkloadGroup"
    found = [
        *_endpoints("WorkloadEntry", {"address": "10.0.0.1"}, ""),
        Case("WorkloadEntry", {}, "address", GONE, "10.0.0.1"),
        Case("WorkloadEntry", {}, "address", GONE, "a.test"),
        *_endpoints(kind, group, "template."),
        Case(kind, group, "template", GONE, {}),
        Case(kind, group, "metadata.labels", many(257), many(256)),
        Case(kind, group, "metadata.annotations", many(257), many(256)),
        Case(kind, http, f"{get}port", GONE, 80),
        Case(kind, http, f"{get}port", 0, 1),
        Case(kind, http, f"{get}port", 65536, 65535),
        Case(kind, http, f"{get}scheme", "FTP", "HTTPS"),
        Case(kind, http, f"{get}httpHeaders.0.name", "a b", "a-b"),
        Case(kind, tcp, "probe.tcpSocket.port", GONE, 80),
        Case(kind, tcp, "probe.tcpSocket.port", 0, 1),
        Case(kind, tcp, "probe.tcpSocket.port", 65536, 65535),
        Case(kind, grpc, "probe.grpc.port", 0, 1),
        Case(kind, grpc, "probe.grpc.port", 65536, 65535),
        Case(kind, command, "probe.exec.command", GONE, ["true"]),
        Case(kind, command, "probe.exec.command", ["true", ""], ["true", "a"], "probe.exec.command.1"),
        Case(kind, http, "probe.tcpSocket", {"port": 80}, None, "probe"),
    ]
    times = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    for name in times:
        found += [Case(kind, http, probe + name, -1, 0), Case(kind, http, probe + name, 1.5, 1)]
    return found


def _security() -> list[Case]:
    jwt: Json = {"jwtRules": [{"issuer": "https://a.test"}]}
    rule, claims = "jwtRules.0.", "jwtRules.0.outputClaimToHeaders"
    claim: Json = {"header": "x-a", "claim": "a"}
    authz, source = "AuthorizationPolicy", "rules.0.from.0.source"
    allowed = put({}, f"{source}.serviceAccounts", ["a"])
    denied = put({}, f"{source}.notServiceAccounts", ["a"])
    ports: Json = {**_CHOSEN, "portLevelMtls": {"80": {}}}
    peer, request = "PeerAuthentication", "RequestAuthentication"
    found = [
        Case(peer, {}, "portLevelMtls", {"80": {}}),
        Case(peer, _CHOSEN, "portLevelMtls", {}, {"80": {}}),
        Case(peer, _CHOSEN, "portLevelMtls", {"0": {}}, {"1": {}}, "portLevelMtls.0"),
        Case(peer, _CHOSEN, "portLevelMtls", {"65536": {}}, {"65535": {}}, "portLevelMtls.65536"),
        Case(peer, ports, "portLevelMtls.80.mode", "SOME", "STRICT"),
        Case(peer, {}, "mtls.mode", "SOME", "STRICT"),
        Case(request, {}, "jwtRules", [{"issuer": "a"}] * 4097, [{"issuer": "a"}] * 4096),
        Case(request, jwt, f"{rule}issuer", "", "a"),
        Case(request, jwt, f"{rule}audiences", [""], ["a"], f"{rule}audiences.0"),
        Case(request, jwt, f"{rule}fromCookies", [""], ["a"], f"{rule}fromCookies.0"),
        Case(request, jwt, f"{rule}fromParams", [""], ["a"], f"{rule}fromParams.0"),
        Case(request, jwt, f"{rule}fromHeaders.0.name", GONE, "a"),
        Case(request, jwt, f"{rule}fromHeaders.0.name", "", "a"),
        Case(request, jwt, f"{rule}jwksUri", "", "https://a.test"),
        Case(request, jwt, f"{rule}jwksUri", "ftp://a.test", "http://a.test"),
        Case(request, jwt, f"{rule}jwks_uri", "ftp://a.test", "https://a.test"),
        Case(request, jwt, f"{rule}jwksUri", "http://a.test/" + "a" * 2035, "http://a.test/" + "a" * 2034),
        Case(request, jwt, f"{rule}jwks_uri", "http://a.test/" + "a" * 2035, "http://a.test/" + "a" * 2034),
        Case(request, put(jwt, f"{rule}jwks", '{"keys": []}'), f"{rule}jwksUri", "https://a.test", None, rule),
        Case(request, put(jwt, f"{rule}jwks_uri", "https://a.test"), f"{rule}jwksUri", "https://a.test", None, rule),
        Case(request, jwt, claims, [{"claim": "a"}], [claim], f"{claims}.0.header"),
        Case(request, jwt, claims, [{"header": "a"}], [claim], f"{claims}.0.claim"),
        Case(request, jwt, claims, [{**claim, "header": "a b"}], [claim], f"{claims}.0.header"),
        Case(request, jwt, claims, [{**claim, "header": ""}], [claim], f"{claims}.0.header"),
        Case(request, jwt, claims, [{**claim, "claim": ""}], [claim], f"{claims}.0.claim"),
        Case(request, jwt, f"{rule}spaceDelimitedClaims", ["a"] * 65, ["a"] * 64),
        Case(request, jwt, f"{rule}spaceDelimitedClaims", [""], ["a"], f"{rule}spaceDelimitedClaims.0"),
        *times(request, jwt, f"{rule}timeout"),
        Case(authz, {}, "action", "SOME", "ALLOW"),
        Case(authz, {}, "rules", [{}] * 513, [{}] * 512),
        Case(authz, {}, "rules.0.from", [{"source": {"ipBlocks": ["10.0.0.1"]}}] * 513, None),
        Case(authz, {}, "rules.0.when", [{"values": ["a"]}], None, "rules.0.when.0.key"),
    ]
    for base, name in ((allowed, "serviceAccounts"), (denied, "notServiceAccounts")):
        field = f"{source}.{name}"
        found += [
            Case(authz, base, field, ["a"] * 17, [f"a{at}" for at in range(16)]),
            Case(authz, base, field, ["a/" + "b" * 319], ["a/" + "b" * 253], f"{field}.0"),
        ]
        for other in ("principals", "notPrincipals", "namespaces", "notNamespaces"):
            found.append(Case(authz, base, f"{source}.{other}", ["a"], None, field))
    return found


def _telemetry() -> list[Case]:
    kind = "Telemetry"
    override, tags = "metrics.0.overrides.0.", "tracing.0.customTags"
    tag = f"{override}tagOverrides.a"
    return [
        Case(kind, {}, tag, {"operation": "UPSERT"}, {"operation": "UPSERT", "value": "'a'"}, f"{tag}.value"),
        Case(kind, {}, tag, {"operation": "REMOVE", "value": "'a'"}, {"operation": "REMOVE"}, f"{tag}.value"),
        Case(kind, {}, f"{tag}.operation", "SOME", "REMOVE"),
        Case(kind, {}, f"{override}match.customMetric", "", "requests_total"),
        Case(kind, {}, f"{override}match.metric", "SOME", "REQUEST_COUNT"),
        Case(kind, {}, f"{override}match.mode", "SOME", "CLIENT"),
        Case(
            kind,
            put({}, f"{override}match.metric", "REQUEST_COUNT"),
            f"{override}match.customMetric",
            "requests_total",
            None,
            f"{override}match",
        ),
        *times(kind, {}, "metrics.0.reportingInterval"),
        Case(kind, {}, "metrics.0.providers", [{}], [{"name": "a"}], "metrics.0.providers.0.name"),
        Case(kind, {}, "tracing.0.providers", [{}], [{"name": "a"}], "tracing.0.providers.0.name"),
        Case(kind, {}, "accessLogging.0.providers", [{}], [{"name": "a"}], "accessLogging.0.providers.0.name"),
        Case(kind, {}, "accessLogging.0.providers.0.name", "", "a"),
        Case(kind, {}, "accessLogging.0.match.mode", "SOME", "CLIENT"),
        Case(kind, {}, "tracing.0.match.mode", "SOME", "CLIENT"),
        Case(kind, {}, "tracing.0.randomSamplingPercentage", 100.5, 100),
        Case(kind, {}, "tracing.0.randomSamplingPercentage", -1, 0),
        *(
            Case(kind, {}, f"{tags}.a", {way: {}}, {way: {inside: "a"}}, f"{tags}.a.{way}.{inside}")
            for way, inside in (("literal", "value"), ("environment", "name"), ("header", "name"))
        ),
        *(
            Case(kind, {}, f"{tags}.a.{way}.{inside}", "", "a")
            for way, inside in (
                ("literal", "value"),
                ("environment", "name"),
                ("header", "name"),
                ("formatter", "value"),
            )
        ),
        Case(kind, {}, f"{tags}.a", {"literal": {"value": "a"}, "header": {"name": "a"}}, {"literal": {"value": "a"}}),
    ]


def _modules() -> list[Case]:
    wasm: Json = {"wasm": {"url": "file:///a.wasm"}}
    lua: Json = _POLICIES["TrafficExtension"]
    found = [
        Case("TrafficExtension", {**wasm, **lua}, "lua", lua["lua"], None, "."),
        Case("TrafficExtension", {}, "lua", GONE, lua["lua"], "."),
        Case("TrafficExtension", lua, "lua.inlineCode", GONE, "a()"),
        Case("TrafficExtension", lua, "lua.inlineCode", "", "a()"),
        Case("TrafficExtension", lua, "lua.inlineCode", " " * 65534 + "a()", " " * 65533 + "a()"),
    ]
    for kind, base, place in (
        ("WasmPlugin", {"url": "file:///a.wasm"}, ""),
        ("TrafficExtension", wasm, "wasm."),
    ):
        env = f"{place}vmConfig.env"
        many = [{"name": f"n{at}", "value": "a"} for at in range(257)]
        found += [
            Case(kind, base, f"{place}url", GONE, "file:///a.wasm"),
            Case(kind, base, f"{place}url", "", "oci://a.test/b"),
            Case(kind, base, f"{place}url", "ftp://a.test/b", "a.test/b"),
            Case(kind, base, f"{place}sha256", "A" * 64, "a" * 64),
            Case(kind, base, f"{place}imagePullSecret", "", "a"),
            Case(kind, base, f"{place}imagePullSecret", "a" * 254, "a" * 253),
            Case(kind, base, f"{place}imagePullPolicy", "Never", "Always"),
            Case(kind, base, f"{place}pluginName", "", "a"),
            Case(kind, base, f"{place}pluginName", "a" * 257, "a" * 256),
            Case(kind, base, f"{place}failStrategy", "SOME", "FAIL_OPEN"),
            Case(kind, base, f"{place}type", "SOME", "NETWORK"),
            Case(kind, base, env, many, many[:256]),
            Case(kind, base, env, [{"name": "a"}, {"name": "a"}], [{"name": "a"}], f"{env}.1.name"),
            Case(kind, base, env, [{"value": "a"}], [{"name": "a"}], f"{env}.0.name"),
            Case(kind, base, env, [{"name": ""}], [{"name": "a"}], f"{env}.0.name"),
            Case(kind, base, env, [{"name": "a" * 257}], [{"name": "a" * 256}], f"{env}.0.name"),
            Case(
                kind,
                base,
                env,
                [{"name": "a", "value": "a" * 2049}],
                [{"name": "a", "value": "a" * 2048}],
                f"{env}.0.value",
            ),
            Case(
                kind,
                base,
                env,
                [{"name": "a", "valueFrom": "HOST", "value": "a"}],
                [{"name": "a", "valueFrom": "HOST"}],
                f"{env}.0.value",
            ),
            Case(kind, base, "phase", "SOME", "AUTHN"),
            Case(kind, base, "priority", 2**31, 2**31 - 1),
            Case(kind, base, "match.0.mode", "SOME", "CLIENT"),
            Case(kind, base, "match.0.ports", [{}], [{"number": 80}], "match.0.ports.0.number"),
            Case(kind, base, "match.0.ports.0.number", 0, 1),
            Case(kind, base, "match.0.ports.0.number", 65536, 65535),
            Case(kind, base, "match.0.ports", [{"number": 80}] * 2, [{"number": 80}], "match.0.ports.1.number"),
        ]
    return found


def _others() -> list[Case]:
    patch: Json = {"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}}
    base: Json = {"configPatches": [patch]}
    match = "configPatches.0.match"
    waypoint = put(base, match, {"context": "WAYPOINT", "waypoint": {}})
    return [
        Case("EnvoyFilter", waypoint, f"{match}.waypoint.portNumber", 65536, 65535),
        Case("EnvoyFilter", waypoint, f"{match}.waypoint.portNumber", -1, 1),
        Case("EnvoyFilter", base, match, {"context": "WAYPOINT"}, {"context": "GATEWAY"}),
        Case("EnvoyFilter", base, match, {"context": "GATEWAY", "waypoint": {}}, {"context": "GATEWAY"}),
        Case("EnvoyFilter", base, match, {"waypoint": {}}, {}),
        Case("EnvoyFilter", base, match, {"cluster": {}, "listener": {}}, {"cluster": {}}),
        Case("EnvoyFilter", base, "configPatches.0.applyTo", "SOME", "CLUSTER"),
        Case("EnvoyFilter", base, "configPatches.0.patch.operation", "SOME", "REMOVE"),
        Case("EnvoyFilter", base, f"{match}.cluster.portNumber", 2**32, 80),
        Case("ProxyConfig", {}, "concurrency", -1, 0),
        Case("ProxyConfig", {}, "environmentVariables", {"A": "a" * 2049}, {"A": "a" * 2048}, "environmentVariables.A"),
        Case("ProxyConfig", {}, "environmentVariables", {"A": 1}, many(2049), "environmentVariables.A"),
    ]


CASES = [
    *_selectors(),
    *_references(),
    *destination_rules(),
    *sidecars_and_gateways(),
    *_service_entries(),
    *_workloads(),
    *_security(),
    *_telemetry(),
    *_modules(),
    *virtual_services(),
    *_others(),
]


def _plain(path: str) -> str:
    """A path as problems write it, in the dotted form of the table."""
    return path.replace("[", ".").replace("]", "").strip(".")


def _name(case: Case) -> str:
    wrong = "gone" if case.wrong is GONE else str(case.wrong)[:24]
    return f"{case.kind}-{case.field}-{wrong}"


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_what_a_definition_refuses_is_refused(case: Case) -> None:
    found = _errors(case.kind, put(case.base, case.field, case.wrong))
    wanted = f"spec.{case.at or case.field}".rstrip(".")
    assert wanted in {_plain(path) for path in found}, found
    assert _errors(case.kind, put(case.base, case.field, case.right)) == {}
