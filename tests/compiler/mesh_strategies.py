"""Random meshes: documents that admission accepts, over few names so that they meet each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
NAMES = ("a", "b", "c")
SPACES = ("one", "two")
SUBSETS = ("v1", "v2")
PORTS = {"http": 80, "grpc": 8081, "tcp": 9000, "tls": 9443, "auto": 7000, "https": 443}
HOSTS = (*NAMES, "a.one", "b.two.svc.cluster.local", "outside.example", "*.wild.example")

name = st.sampled_from(NAMES)
space = st.sampled_from(SPACES)
host = st.sampled_from(HOSTS)
labels = st.fixed_dictionaries({"app": name}, optional={"version": st.sampled_from(SUBSETS)})
string_match = st.one_of(
    *(st.fixed_dictionaries({how: st.sampled_from(("/", "/api", "/x"))}) for how in ("exact", "prefix")),
    st.just({"regex": "/[a-z]+"}),
)
percent = st.fixed_dictionaries({"value": st.sampled_from((0.5, 10, 100))})


def document(group: str, kind: str, spec: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """A document of a kind with a name and a namespace."""
    meta = st.fixed_dictionaries({"name": name, "namespace": space})
    return st.fixed_dictionaries({"apiVersion": st.just(group), "kind": st.just(kind), "metadata": meta, "spec": spec})


def some(items: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    """One or a few."""
    return st.lists(items, min_size=1, max_size=most)


def ports(kind: str) -> st.SearchStrategy[list[Json]]:
    """Distinct ports by name; Services tell the protocol by the name, ServiceEntries by `protocol`."""
    chosen = st.lists(st.sampled_from(sorted(PORTS)), min_size=1, max_size=3, unique=True)
    if kind == "Service":
        return chosen.map(lambda names: [{"name": one, "port": PORTS[one]} for one in names])
    spoken = {"auto": "TCP"}
    return chosen.map(
        lambda names: [{"name": one, "number": PORTS[one], "protocol": spoken.get(one, one.upper())} for one in names]
    )


services = document(
    "v1",
    "Service",
    st.fixed_dictionaries(
        {"ports": ports("Service"), "selector": labels}, optional={"clusterIP": st.sampled_from(("None",))}
    ),
)
workloads = document(
    "networking.istio.io/v1",
    "WorkloadEntry",
    st.fixed_dictionaries(
        {"address": st.sampled_from(("10.0.0.1", "10.0.0.2", "10.0.0.3")), "labels": labels},
        optional={"serviceAccount": name, "weight": st.integers(1, 3), "locality": st.sampled_from(("r/z", "r/y"))},
    ),
)
entries = document(
    "networking.istio.io/v1",
    "ServiceEntry",
    st.one_of(
        st.fixed_dictionaries(
            {
                "hosts": st.just(["outside.example"]),
                "ports": ports("ServiceEntry"),
                "resolution": st.just("STATIC"),
                "endpoints": some(st.fixed_dictionaries({"address": st.sampled_from(("192.0.2.1", "192.0.2.2"))})),
            },
            optional={"location": st.sampled_from(("MESH_INTERNAL", "MESH_EXTERNAL"))},
        ),
        st.fixed_dictionaries(
            {
                "hosts": st.just(["dns.wild.example"]),
                "ports": ports("ServiceEntry"),
                "resolution": st.sampled_from(("DNS", "DNS_ROUND_ROBIN")),
            }
        ),
        st.fixed_dictionaries(
            {"hosts": st.just(["*.wild.example"]), "ports": ports("ServiceEntry"), "resolution": st.just("NONE")},
            optional={"exportTo": st.sampled_from((["."], ["*"]))},
        ),
    ),
)
destination = st.fixed_dictionaries(
    {"host": host.filter(lambda one: "*" not in one)},
    optional={
        "subset": st.sampled_from(SUBSETS),
        "port": st.sampled_from(sorted(PORTS.values())).map(lambda number: {"number": number}),
    },
)
http_match = st.fixed_dictionaries(
    {},
    optional={
        "uri": string_match,
        "method": st.just({"exact": "GET"}),
        "headers": st.fixed_dictionaries({"x-user": string_match}),
        "queryParams": st.fixed_dictionaries({"q": st.just({"exact": "1"})}),
        "port": st.sampled_from(sorted(PORTS.values())),
        "sourceLabels": labels,
        "gateways": st.sampled_from((["mesh"], ["one/a"], ["mesh", "two/b"])),
    },
).filter(bool)
http_action = st.one_of(
    st.fixed_dictionaries(
        {"route": destination.map(lambda one: [{"destination": one}])},
        optional={
            "timeout": st.just("2s"),
            "retries": st.just({"attempts": 2, "retryOn": "5xx"}),
            "rewrite": st.just({"uri": "/new"}),
            "mirror": destination,
            "fault": st.fixed_dictionaries(
                {"abort": percent.map(lambda one: {"percentage": one, "httpStatus": 503})},
                optional={"delay": percent.map(lambda one: {"percentage": one, "fixedDelay": "1s"})},
            ),
            "headers": st.just({"request": {"set": {"x-a": "1"}}}),
        },
    ),
    st.tuples(destination, destination).map(
        lambda two: {
            "route": [{"destination": one, "weight": weight} for one, weight in zip(two, (30, 70), strict=True)]
        }
    ),
    st.just({"redirect": {"uri": "/moved", "redirectCode": 302}}),
    st.just({"directResponse": {"status": 200, "body": {"string": "ok"}}}),
)
http_rule = st.builds(
    lambda action, match: {**action, **({"match": match} if match else {})},
    http_action,
    st.lists(http_match, max_size=2),
)
routes = document(
    "networking.istio.io/v1",
    "VirtualService",
    st.fixed_dictionaries(
        {"hosts": host.map(lambda one: [one]), "http": some(http_rule, 3)},
        optional={
            "gateways": st.sampled_from((["mesh"], ["one/a"], ["mesh", "one/a"])),
            "tcp": destination.map(lambda one: [{"match": [{"port": 9000}], "route": [{"destination": one}]}]),
            "exportTo": st.sampled_from((["."], ["*"])),
        },
    ),
)
policies = document(
    "networking.istio.io/v1",
    "DestinationRule",
    st.fixed_dictionaries(
        {"host": host},
        optional={
            "subsets": st.just([{"name": one, "labels": {"version": one}} for one in SUBSETS]),
            "trafficPolicy": st.fixed_dictionaries(
                {},
                optional={
                    "loadBalancer": st.sampled_from(
                        (
                            {"simple": "ROUND_ROBIN"},
                            {"simple": "RANDOM"},
                            {"consistentHash": {"httpHeaderName": "x"}},
                            {"consistentHash": {"useSourceIp": True}},
                        )
                    ),
                    "tls": st.sampled_from(({"mode": "DISABLE"}, {"mode": "SIMPLE"}, {"mode": "ISTIO_MUTUAL"})),
                    "outlierDetection": st.just({"consecutive5xxErrors": 3}),
                    "connectionPool": st.just({"tcp": {"maxConnections": 3}}),
                },
            ).filter(bool),
        },
    ),
)
gateways = document(
    "networking.istio.io/v1",
    "Gateway",
    st.fixed_dictionaries(
        {
            "selector": st.just({"istio": "ingressgateway"}),
            "servers": st.sampled_from(
                (
                    [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
                    [
                        {
                            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                            "hosts": ["outside.example"],
                            "tls": {"mode": "SIMPLE", "credentialName": "cert"},
                        }
                    ],
                    [
                        {
                            "port": {"number": 8443, "name": "tls", "protocol": "TLS"},
                            "hosts": ["*.wild.example"],
                            "tls": {"mode": "PASSTHROUGH"},
                        },
                        {"port": {"number": 9000, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
                    ],
                )
            ),
        }
    ),
)
peers = document(
    "security.istio.io/v1",
    "PeerAuthentication",
    st.fixed_dictionaries(
        {"mtls": st.sampled_from(("STRICT", "PERMISSIVE", "DISABLE", "UNSET")).map(lambda mode: {"mode": mode})},
        optional={"selector": labels.map(lambda one: {"matchLabels": one})},
    ),
)
access = document(
    "security.istio.io/v1",
    "AuthorizationPolicy",
    st.fixed_dictionaries(
        {"action": st.sampled_from(("ALLOW", "DENY"))},
        optional={
            "selector": labels.map(lambda one: {"matchLabels": one}),
            "rules": some(
                st.fixed_dictionaries(
                    {"to": st.just([{"operation": {"methods": ["GET"], "paths": ["/x*"]}}])},
                    optional={"from": space.map(lambda one: [{"source": {"namespaces": [one]}}])},
                )
            ),
        },
    ).filter(lambda spec: spec["action"] == "ALLOW" or spec.get("rules")),
)
imports = some(
    st.sampled_from(("*/*", "./*", "one/a.one.svc.cluster.local", "*/*.wild.example", "~/b.two.svc.cluster.local"))
)
ingress = st.sampled_from(
    (
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:8080"},
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": "unix:///tmp/app"},
        {"port": {"number": 9443, "name": "tls", "protocol": "TLS"}, "captureMode": "NONE", "bind": "127.0.0.8"},
        {
            "port": {"number": 9443, "name": "https", "protocol": "HTTPS"},
            "tls": {"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"},
            "connectionPool": {"http": {"maxRetries": 2}},
        },
    )
)
egress = st.one_of(
    st.fixed_dictionaries({"hosts": imports}).map(lambda one: [one]),
    st.tuples(imports, imports, st.sampled_from(("DEFAULT", "NONE")), st.sampled_from(("", "127.0.0.7"))).map(
        lambda four: [
            {
                "port": {"number": 9000, "name": "tcp", "protocol": "TCP"},
                "hosts": four[0],
                "captureMode": four[2],
                "bind": four[3],
            },
            {"hosts": four[1]},
        ]
    ),
)
sidecars = document(
    "networking.istio.io/v1",
    "Sidecar",
    st.fixed_dictionaries(
        {"egress": egress},
        optional={
            "workloadSelector": labels.map(lambda one: {"labels": one}),
            "ingress": ingress.map(lambda one: [one]),
            "inboundConnectionPool": st.just({"tcp": {"maxConnections": 9}}),
            "outboundTrafficPolicy": st.sampled_from(
                (
                    {"mode": "REGISTRY_ONLY"},
                    {"mode": "ALLOW_ANY_DYNAMIC_DNS"},
                    {"mode": "ALLOW_ANY", "egressProxy": {"host": "a.one.svc.cluster.local", "port": {"number": 80}}},
                )
            ),
        },
    ),
)
backend = st.fixed_dictionaries(
    {"name": name, "port": st.sampled_from(sorted(PORTS.values()))},
    optional={"weight": st.integers(0, 3), "namespace": space},
)
route_filters = st.sampled_from(
    (
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}},
        {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "a", "port": 80}, "percent": 20}},
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}},
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}},
        {"type": "CORS", "cors": {"allowOrigins": ["https://*.wild.example"]}},
    )
)
http_routes = document(
    "gateway.networking.k8s.io/v1",
    "HTTPRoute",
    st.builds(
        lambda parent, namespace, rules: {
            "parentRefs": [{"group": "", "kind": "Service", "name": parent, "namespace": namespace}],
            "rules": rules,
        },
        name,
        space,
        some(
            st.fixed_dictionaries(
                {"backendRefs": some(backend)},
                optional={
                    "filters": route_filters.map(lambda one: [one]),
                    "matches": st.sampled_from(("/", "/api", "/x/")).map(
                        lambda one: [{"path": {"type": "PathPrefix", "value": one}, "method": "GET"}]
                    ),
                    "timeouts": st.just({"request": "2s", "backendRequest": "1s"}),
                    "retry": st.just({"codes": [503], "attempts": 3}),
                },
            )
        ),
    ),
)
anything = st.one_of(services, workloads, entries, routes, policies, gateways, peers, access, sidecars, http_routes)
meshes = st.lists(anything, min_size=1, max_size=14)
