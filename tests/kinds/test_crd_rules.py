"""The rules and bounds of Istio's CustomResourceDefinitions, one by one.

Kubernetes refuses an object that breaks one before any webhook sees it, so each has an object here that breaks it, the
field at which it must be refused, and its neighbour that is accepted. The rules are those that the definitions of
the kinds' newest versions carry: their CEL rules, and their lengths, counts, patterns, numbers and required fields.

What we knowingly see differently (an object of Istio's may be accepted here that its API server refuses):

* CEL's `has()` is true of a field that is given and empty. For us, as for protobuf and so for the rest of Istio, that
  is a field that is not given: `targetPort: 0`, `value: ""` beside `valueFrom: HOST`, an empty `targetRefs` beside a
  selector.
* The port of an EnvoyFilter's waypoint ends at 6553 in Istio's definition, for want of a digit. Here it ends at 65535.
* Both of a gateway's `credentialName` and `tlsCertificates` pass Istio's definition, whose rule of that name looks at
  another field; its webhook refuses them, and so do we.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import pytest

from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity

Json = dict[str, Any]


class Case(NamedTuple):
    """A field (dotted; numbers are places in lists) of an otherwise valid spec, with a wrong and a right value.

    `at`: where it is refused, if that is another field. A right value of None means that the field is left out.
    """

    kind: str
    base: Json
    field: str
    wrong: Any
    right: Any = None
    at: str = ""


GONE = object()
"""A wrong value: the field is not there."""


def _with(base: Json, field: str, value: Any) -> Json:
    spec = deepcopy(base)
    *way, last = steps = field.split(".")
    holder: Any = spec
    for step, following in zip(way, steps[1:], strict=True):
        if not step.isdecimal():
            holder.setdefault(step, [{}] if following.isdecimal() else {})
        holder = holder[_key(holder, step)]
    if value is GONE or value is None:
        holder.pop(last, None)
    else:
        holder[_key(holder, last)] = value
    return spec


def _key(holder: object, step: str) -> Any:
    return int(step) if isinstance(holder, list) else step


def _errors(kind: str, spec: Json) -> dict[str, str]:
    version = next(one.api_version for one in registry().kinds if one.kind == kind)
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    _, found = registry().read(document, "shop")
    return {str(one.path): one.message for one in found if one.severity is Severity.ERROR}


def _many(count: int) -> Json:
    return {f"k{at}": "v" for at in range(count)}


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
            Case(kind, base, field, _many(most + 1), _many(most)),
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
        chosen = _with(base, selector, {"app": "a"})
        found.append(Case(kind, chosen, "targetRefs", [_GATEWAY], None, "."))
        if kind not in ("TrafficExtension", "EnvoyFilter"):
            found.append(Case(kind, chosen, "targetRef", _GATEWAY, None, "."))
    return found


_RULE: Json = {"host": "a.shop.svc"}
_BALANCED = (
    "trafficPolicy",
    "trafficPolicy.portLevelSettings.0",
    "subsets.0.trafficPolicy",
    "subsets.0.trafficPolicy.portLevelSettings.0",
)
_POOL_TIMES = (
    "http.idleTimeout",
    "http.http2KeepAlive.interval",
    "http.http2KeepAlive.timeout",
    "tcp.connectTimeout",
    "tcp.maxConnectionDuration",
    "tcp.tcpKeepalive.time",
    "tcp.tcpKeepalive.interval",
)


def _rule_at(place: str) -> Json:
    base = deepcopy(_RULE)
    if place.startswith("subsets"):
        base = _with(base, "subsets", [{"name": "v1"}])
    if "portLevelSettings" in place:
        base = _with(base, f"{place}.port.number", 80)
    return base


def _times(kind: str, base: Json, field: str) -> list[Case]:
    """`duration(self) >= duration('1ms')`: too short, not a duration, and a neighbour."""
    return [Case(kind, base, field, "999us", "1ms"), Case(kind, base, field, "soon", "1h")]


def _pools(kind: str, base: Json, place: str) -> list[Case]:
    found: list[Case] = []
    for time in _POOL_TIMES:
        one = _with(base, f"{place}.http.http2KeepAlive.interval", "5s") if "http2KeepAlive" in time else base
        found += _times(kind, one, f"{place}.{time}")
    found += [
        Case(kind, base, f"{place}.http.h2UpgradePolicy", "MAYBE", "UPGRADE"),
        Case(kind, base, f"{place}.tcp.tcpKeepalive.probes", -1, 0),
        Case(kind, base, f"{place}.tcp.tcpKeepalive.probes", 2**32, 2**32 - 1),
    ]
    return found


def _destination_rules() -> list[Case]:
    kind = "DestinationRule"
    found = [
        Case(kind, _RULE, "host", GONE, "a"),
        Case(kind, _with(_RULE, "subsets", [{"name": "v1"}]), "subsets.0.name", GONE, "v1"),
    ]
    for place in _BALANCED:
        base = _rule_at(place)
        found += _pools(kind, base, f"{place}.connectionPool")
        found += _times(kind, base, f"{place}.outlierDetection.interval")
        found += _times(kind, base, f"{place}.outlierDetection.baseEjectionTime")
        for name in ("consecutive5xxErrors", "consecutiveGatewayErrors"):
            found.append(Case(kind, base, f"{place}.outlierDetection.{name}", 2**32, 2**32 - 1))
            found.append(Case(kind, base, f"{place}.outlierDetection.{name}", -1, 0))
        balancer, ring = f"{place}.loadBalancer", f"{place}.loadBalancer.consistentHash"
        found += _times(kind, base, f"{balancer}.warmupDurationSecs")
        found += _times(kind, base, f"{balancer}.warmup.duration")
        warm = _with(base, f"{balancer}.warmup.duration", "9s")
        hashed = _with(base, f"{ring}.httpHeaderName", "x-user")
        cookie = _with(base, f"{ring}.httpCookie.name", "user")
        found += [
            Case(kind, warm, f"{balancer}.warmup.duration", GONE, "9s"),
            Case(kind, warm, f"{balancer}.warmup.minimumPercent", 101, 100),
            Case(kind, warm, f"{balancer}.warmup.minimumPercent", -1, 0),
            Case(kind, warm, f"{balancer}.warmup.aggression", 0.9, 1),
            Case(kind, base, f"{balancer}.simple", "SOMEHOW", "RANDOM"),
            Case(kind, hashed, f"{balancer}.simple", "RANDOM", None, balancer),
            Case(kind, hashed, f"{ring}.useSourceIp", True, None, ring),
            Case(kind, hashed, f"{ring}.ringHash.minimumRingSize", -1, 0),
            Case(kind, hashed, f"{ring}.maglev.tableSize", -1, 65537),
            Case(kind, hashed, f"{ring}.minimumRingSize", -1, 0),
            Case(kind, _with(hashed, f"{ring}.ringHash", {}), f"{ring}.maglev", {"tableSize": 65537}, None, ring),
            Case(kind, cookie, f"{ring}.httpCookie.name", GONE, "user"),
            Case(kind, cookie, f"{ring}.httpCookie.attributes.0.name", GONE, "a"),
            Case(
                kind,
                base,
                f"{balancer}.localityLbSetting.distribute",
                [{"from": "a", "to": {"b": 2**32}}],
                [{"from": "a", "to": {"b": 100}}],
                f"{balancer}.localityLbSetting.distribute.0.to.b",
            ),
            Case(kind, base, f"{place}.tls.mode", "PERHAPS", "SIMPLE"),
        ]
        if "portLevelSettings" not in place:
            ports = [{"port": {"number": at + 1}, "tls": {"mode": "SIMPLE"}} for at in range(4097)]
            tunnel = _with(base, f"{place}.tunnel", {"targetHost": "a.test", "targetPort": 80})
            found += [
                Case(kind, base, f"{place}.portLevelSettings", ports, ports[:4096]),
                Case(kind, tunnel, f"{place}.tunnel.targetHost", GONE, "a.test"),
                Case(kind, tunnel, f"{place}.tunnel.targetPort", GONE, 80),
                Case(kind, base, f"{place}.retryBudget.percent", 100.5, 100),
                Case(kind, base, f"{place}.retryBudget.percent", -1, 0),
                Case(kind, base, f"{place}.retryBudget.minRetryConcurrency", -1, 1),
                Case(kind, base, f"{place}.proxyProtocol.version", "V3", "V2"),
            ]
    return found


_TLS: Json = {"mode": "SIMPLE", "serverCertificate": "/a.pem", "privateKey": "/a.key"}
_SERVER: Json = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.test"]}
_CREDENTIAL: Json = {"servers": [{**_SERVER, "tls": {"mode": "SIMPLE", "credentialName": "a"}}]}
_CREDENTIALS: Json = {"servers": [{**_SERVER, "tls": {"mode": "SIMPLE", "credentialNames": ["a"]}}]}
_CERTIFICATES: Json = {
    "servers": [
        {**_SERVER, "tls": {"mode": "SIMPLE", "tlsCertificates": [{"serverCertificate": "/a", "privateKey": "/b"}]}}
    ]
}
_PAIR: Json = {"serverCertificate": "/a", "privateKey": "/b"}
_INGRESS: Json = {"ingress": [{"port": {"number": 9443, "name": "https", "protocol": "HTTPS"}}]}
_SERVED: Json = _with(_INGRESS, "ingress.0.tls", _TLS)


def _sidecars_and_gateways() -> list[Case]:
    kind, tls = "Sidecar", "servers.0.tls"
    plain: Json = {"ingress": [{"port": {"number": 9080, "name": "http", "protocol": "HTTP"}}]}
    sees: Json = {"egress": [{"hosts": ["./*"]}]}
    return [
        *_pools(kind, sees, "inboundConnectionPool"),
        *_pools(kind, plain, "ingress.0.connectionPool"),
        Case(kind, _SERVED, "ingress.0.tls.credentialNames", ["a"]),
        Case(kind, _SERVED, "ingress.0.tls.tlsCertificates", [_PAIR]),
        Case(kind, _SERVED, "ingress.0.tls.credentialName", "a"),
        Case(kind, _SERVED, "ingress.0.tls.minProtocolVersion", "TLSV1_4", "TLSV1_3"),
        Case(kind, plain, "ingress.0.port", GONE, plain["ingress"][0]["port"]),
        Case(kind, plain, "ingress.0.captureMode", "SOME", "NONE"),
        Case(kind, sees, "egress.0.hosts", GONE, ["./*"]),
        Case(kind, sees, "outboundTrafficPolicy.mode", "SOME", "ALLOW_ANY"),
        Case(
            kind,
            _with(sees, "outboundTrafficPolicy", {"mode": "ALLOW_ANY", "egressProxy": {"port": {"number": 80}}}),
            "outboundTrafficPolicy.egressProxy.host",
            GONE,
            "a.test",
        ),
        Case("Gateway", _CREDENTIALS, f"{tls}.tlsCertificates", [_PAIR], None, tls),
        Case("Gateway", _CREDENTIALS, f"{tls}.credentialName", "a", None, tls),
        Case("Gateway", _CREDENTIAL, f"{tls}.tlsCertificates", [_PAIR], None, tls),
        Case("Gateway", _CREDENTIALS, f"{tls}.credentialNames", ["a", "b", "c"], ["a", "b"]),
        Case("Gateway", _CREDENTIAL, f"{tls}.credentialNames", []),
        Case("Gateway", _CERTIFICATES, f"{tls}.tlsCertificates", [_PAIR] * 3, [_PAIR] * 2),
        Case("Gateway", _CREDENTIAL, f"{tls}.tlsCertificates", []),
        Case(kind, _SERVED, "ingress.0.tls.credentialNames", []),
        Case(kind, _SERVED, "ingress.0.tls.tlsCertificates", []),
        Case("Gateway", _CREDENTIAL, f"{tls}.mode", "HARD", "SIMPLE"),
        Case("Gateway", _CREDENTIAL, f"{tls}.minProtocolVersion", "TLSV1_4", "TLSV1_3"),
        Case("Gateway", _CREDENTIAL, "servers.0.port", GONE, _SERVER["port"]),
        Case("Gateway", _CREDENTIAL, "servers.0.hosts", GONE, ["a.test"]),
        Case("Gateway", _CREDENTIAL, "servers.0.port.number", GONE, 443),
        Case("Gateway", _CREDENTIAL, "servers.0.port.protocol", GONE, "HTTPS"),
        Case("Gateway", _CREDENTIAL, "servers.0.port.name", GONE, "https"),
    ]


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
    unix = _with(base, f"{place}address", _UDS)
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
        Case(kind, base, f"{place}labels", _many(257), _many(256)),
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
    http = _with(group, "probe.httpGet", {"port": 80})
    tcp = _with(group, "probe.tcpSocket", {"port": 80})
    grpc = _with(group, "probe.grpc", {"port": 80})
    command = _with(group, "probe.exec", {"command": ["true"]})
    kind = "WorkloadGroup"
    found = [
        *_endpoints("WorkloadEntry", {"address": "10.0.0.1"}, ""),
        Case("WorkloadEntry", {}, "address", GONE, "10.0.0.1"),
        Case("WorkloadEntry", {}, "address", GONE, "a.test"),
        *_endpoints(kind, group, "template."),
        Case(kind, group, "template", GONE, {}),
        Case(kind, group, "metadata.labels", _many(257), _many(256)),
        Case(kind, group, "metadata.annotations", _many(257), _many(256)),
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
    allowed = _with({}, f"{source}.serviceAccounts", ["a"])
    denied = _with({}, f"{source}.notServiceAccounts", ["a"])
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
        Case(request, _with(jwt, f"{rule}jwks", '{"keys": []}'), f"{rule}jwksUri", "https://a.test", None, rule),
        Case(request, _with(jwt, f"{rule}jwks_uri", "https://a.test"), f"{rule}jwksUri", "https://a.test", None, rule),
        Case(request, jwt, claims, [{"claim": "a"}], [claim], f"{claims}.0.header"),
        Case(request, jwt, claims, [{"header": "a"}], [claim], f"{claims}.0.claim"),
        Case(request, jwt, claims, [{**claim, "header": "a b"}], [claim], f"{claims}.0.header"),
        Case(request, jwt, claims, [{**claim, "header": ""}], [claim], f"{claims}.0.header"),
        Case(request, jwt, claims, [{**claim, "claim": ""}], [claim], f"{claims}.0.claim"),
        Case(request, jwt, f"{rule}spaceDelimitedClaims", ["a"] * 65, ["a"] * 64),
        Case(request, jwt, f"{rule}spaceDelimitedClaims", [""], ["a"], f"{rule}spaceDelimitedClaims.0"),
        *_times(request, jwt, f"{rule}timeout"),
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
            _with({}, f"{override}match.metric", "REQUEST_COUNT"),
            f"{override}match.customMetric",
            "requests_total",
            None,
            f"{override}match",
        ),
        *_times(kind, {}, "metrics.0.reportingInterval"),
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


def _virtual_services() -> list[Case]:
    kind = "VirtualService"
    route: Json = {"hosts": ["a.test"], "http": [{"route": [{"destination": {"host": "a"}}]}]}
    plain: Json = {"hosts": ["a.test"], "http": [{}]}
    tcp: Json = {"hosts": ["a.test"], "tcp": [{"route": [{"destination": {"host": "a"}}]}]}
    tls: Json = {
        "hosts": ["a.test"],
        "tls": [{"match": [{"sniHosts": ["a.test"]}], "route": [{"destination": {"host": "a"}}]}],
    }
    delay, abort, cors = "http.0.fault.delay", "http.0.fault.abort", "http.0.corsPolicy"
    delayed = _with(route, delay, {"fixedDelay": "1s"})
    aborted = _with(route, abort, {"httpStatus": 503, "percentage": {"value": 1}})
    retried = _with(route, "http.0.retries.attempts", 2)
    match = "http.0.match.0"
    both: Json = {"exact": "/a", "prefix": "/a"}
    found = [
        *_times(kind, route, "http.0.timeout"),
        *_times(kind, retried, "http.0.retries.perTryTimeout"),
        *_times(kind, retried, "http.0.retries.backoff"),
        Case(kind, route, f"{cors}.maxAge", "999us", "1s"),
        Case(kind, route, f"{cors}.maxAge", "soon", "1h"),
        *_times(kind, delayed, f"{delay}.fixedDelay"),
        Case(kind, delayed, f"{delay}.exponentialDelay", "999us"),
        Case(kind, aborted, f"{abort}.grpcStatus", "UNAVAILABLE", None, abort),
        Case(kind, route, f"{cors}.unmatchedPreflights", "SOME", "IGNORE"),
        Case(kind, route, f"{cors}.allowOrigins", [both], [{"exact": "/a"}], f"{cors}.allowOrigins.0"),
        Case(kind, plain, "http.0.directResponse", {}, {"status": 503}, "http.0.directResponse.status"),
        Case(
            kind,
            plain,
            "http.0.redirect",
            {"port": 80, "derivePort": "FROM_REQUEST_PORT"},
            {"port": 80},
            "http.0.redirect.derivePort",
        ),
        Case(kind, plain, "http.0.redirect.derivePort", "SOME", "FROM_REQUEST_PORT"),
        Case(kind, route, "http.0.route.0.destination", GONE, {"host": "a"}),
        Case(kind, route, "http.0.route.0.destination.host", GONE, "a"),
        Case(kind, route, "http.0.mirror", {}, {"host": "a"}, "http.0.mirror.host"),
        Case(kind, route, "http.0.mirrors", [{}], [{"destination": {"host": "a"}}], "http.0.mirrors.0.destination"),
        Case(kind, tcp, "tcp.0.route.0.destination", GONE, {"host": "a"}),
        Case(kind, tls, "tls.0.route.0.destination", GONE, {"host": "a"}),
        Case(kind, tls, "tls.0.match", GONE, [{"sniHosts": ["a.test"]}]),
        Case(kind, tls, "tls.0.match.0.sniHosts", GONE, ["a.test"]),
        Case(kind, route, f"{match}.port", 2**32, 80),
        Case(kind, route, "http.0.route.0.destination.port.number", 2**32, 80),
    ]
    for name in ("uri", "scheme", "method", "authority"):
        found.append(Case(kind, route, f"{match}.{name}", both, {"exact": "/a"}))
    for name in ("headers", "withoutHeaders", "queryParams"):
        found.append(Case(kind, route, f"{match}.{name}.a", both, {"exact": "/a"}))
    return found


def _others() -> list[Case]:
    patch: Json = {"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}}
    base: Json = {"configPatches": [patch]}
    match = "configPatches.0.match"
    waypoint = _with(base, match, {"context": "WAYPOINT", "waypoint": {}})
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
        Case("ProxyConfig", {}, "environmentVariables", {"A": 1}, _many(2049), "environmentVariables.A"),
    ]


CASES = [
    *_selectors(),
    *_references(),
    *_destination_rules(),
    *_sidecars_and_gateways(),
    *_service_entries(),
    *_workloads(),
    *_security(),
    *_telemetry(),
    *_modules(),
    *_virtual_services(),
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
    found = _errors(case.kind, _with(case.base, case.field, case.wrong))
    wanted = f"spec.{case.at or case.field}".rstrip(".")
    assert wanted in {_plain(path) for path in found}, found
    assert _errors(case.kind, _with(case.base, case.field, case.right)) == {}
