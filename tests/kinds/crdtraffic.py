"""What the definitions of traffic's kinds refuse: DestinationRule, Sidecar, Gateway and VirtualService."""

from __future__ import annotations

from copy import deepcopy

from crdcases import GONE, Case, Json, put, times

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
        base = put(base, "subsets", [{"name": "v1"}])
    if "portLevelSettings" in place:
        base = put(base, f"{place}.port.number", 80)
    return base


def _pools(kind: str, base: Json, place: str) -> list[Case]:
    found: list[Case] = []
    for time in _POOL_TIMES:
        one = put(base, f"{place}.http.http2KeepAlive.interval", "5s") if "http2KeepAlive" in time else base
        found += times(kind, one, f"{place}.{time}")
    found += [
        Case(kind, base, f"{place}.http.h2UpgradePolicy", "MAYBE", "UPGRADE"),
        Case(kind, base, f"{place}.tcp.tcpKeepalive.probes", -1, 0),
        Case(kind, base, f"{place}.tcp.tcpKeepalive.probes", 2**32, 2**32 - 1),
    ]
    return found


def _whole(kind: str, base: Json, place: str) -> list[Case]:
    """What is not said for single ports."""
    ports = [{"port": {"number": at + 1}, "tls": {"mode": "SIMPLE"}} for at in range(4097)]
    tunnel = put(base, f"{place}.tunnel", {"targetHost": "a.test", "targetPort": 80})
    return [
        Case(kind, base, f"{place}.portLevelSettings", ports, ports[:4096]),
        Case(kind, tunnel, f"{place}.tunnel.targetHost", GONE, "a.test"),
        Case(kind, tunnel, f"{place}.tunnel.targetPort", GONE, 80),
        Case(kind, base, f"{place}.retryBudget.percent", 100.5, 100),
        Case(kind, base, f"{place}.retryBudget.percent", -1, 0),
        Case(kind, base, f"{place}.retryBudget.minRetryConcurrency", -1, 1),
        Case(kind, base, f"{place}.proxyProtocol.version", "V3", "V2"),
    ]


def destination_rules() -> list[Case]:
    """Every rule stands four times: for hosts, subsets, and ports of either."""
    kind = "DestinationRule"
    found = [
        Case(kind, _RULE, "host", GONE, "a"),
        Case(kind, put(_RULE, "subsets", [{"name": "v1"}]), "subsets.0.name", GONE, "v1"),
    ]
    for place in _BALANCED:
        base = _rule_at(place)
        found += _pools(kind, base, f"{place}.connectionPool")
        found += times(kind, base, f"{place}.outlierDetection.interval")
        found += times(kind, base, f"{place}.outlierDetection.baseEjectionTime")
        for name in ("consecutive5xxErrors", "consecutiveGatewayErrors"):
            found.append(Case(kind, base, f"{place}.outlierDetection.{name}", 2**32, 2**32 - 1))
            found.append(Case(kind, base, f"{place}.outlierDetection.{name}", -1, 0))
        balancer, ring = f"{place}.loadBalancer", f"{place}.loadBalancer.consistentHash"
        found += times(kind, base, f"{balancer}.warmupDurationSecs")
        found += times(kind, base, f"{balancer}.warmup.duration")
        warm = put(base, f"{balancer}.warmup.duration", "9s")
        hashed = put(base, f"{ring}.httpHeaderName", "x-user")
        cookie = put(base, f"{ring}.httpCookie.name", "user")
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
            Case(kind, put(hashed, f"{ring}.ringHash", {}), f"{ring}.maglev", {"tableSize": 65537}, None, ring),
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
            found += _whole(kind, base, place)
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
_SERVED: Json = put(_INGRESS, "ingress.0.tls", _TLS)


def sidecars_and_gateways() -> list[Case]:
    """Both kinds have the TLS of servers."""
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
            put(sees, "outboundTrafficPolicy", {"mode": "ALLOW_ANY", "egressProxy": {"port": {"number": 80}}}),
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


def virtual_services() -> list[Case]:
    """Durations, and fields of which one excludes another."""
    kind = "VirtualService"
    route: Json = {"hosts": ["a.test"], "http": [{"route": [{"destination": {"host": "a"}}]}]}
    plain: Json = {"hosts": ["a.test"], "http": [{}]}
    tcp: Json = {"hosts": ["a.test"], "tcp": [{"route": [{"destination": {"host": "a"}}]}]}
    tls: Json = {
        "hosts": ["a.test"],
        "tls": [{"match": [{"sniHosts": ["a.test"]}], "route": [{"destination": {"host": "a"}}]}],
    }
    delay, abort, cors = "http.0.fault.delay", "http.0.fault.abort", "http.0.corsPolicy"
    delayed = put(route, delay, {"fixedDelay": "1s"})
    aborted = put(route, abort, {"httpStatus": 503, "percentage": {"value": 1}})
    retried = put(route, "http.0.retries.attempts", 2)
    match = "http.0.match.0"
    both: Json = {"exact": "/a", "prefix": "/a"}
    found = [
        *times(kind, route, "http.0.timeout"),
        *times(kind, retried, "http.0.retries.perTryTimeout"),
        *times(kind, retried, "http.0.retries.backoff"),
        Case(kind, route, f"{cors}.maxAge", "999us", "1s"),
        Case(kind, route, f"{cors}.maxAge", "soon", "1h"),
        *times(kind, delayed, f"{delay}.fixedDelay"),
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
