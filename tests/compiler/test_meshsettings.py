"""What MeshConfig says, in the configuration of proxies: a table of settings and what each changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager as Manager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from msgspec.structs import replace

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.envoy.names import DYNAMIC_CLUSTER, HTTP_OPTIONS
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.ir.mesh import Mesh
from fairlead.ir.network import GATEWAY_ADDRESSES
from fairlead.ir.proxyown import METADATA, own_settings
from fairlead.ir.proxystart import ANNOTATION, effective, layers_of
from fairlead.ir.view import View, view_of_node
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents

WEB = "outbound|80||web.shop.svc.cluster.local"
SCENE = """
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}, ports: [
  {name: http-main, port: 80, targetPort: 8080}, {name: tcp-db, port: 81, targetPort: 8081}, {name: any, port: 82}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-0, namespace: shop}
spec: {address: 10.1.0.1, labels: {app: web}, serviceAccount: web, locality: eu/a}
---
apiVersion: v1
kind: Service
metadata: {name: als, namespace: logs}
spec: {ports: [{name: grpc, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {selector: {app: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec:
  hosts: [a.example]
  gateways: [edge, mesh]
  http:
  - rewrite: {authority: b.example}
    route: [{destination: {host: web.shop.svc.cluster.local, port: {number: 80}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web.shop.svc.cluster.local, subsets: [{name: v1, labels: {version: v1}}]}
"""
SIDECAR = View("sidecar", "shop", (("app", "web"),), "web", ("10.1.0.1",), locality="eu/a", capture=Capture("redirect"))
EDGE = View("router", "shop", (("app", "edge"),), "edge", ("10.1.0.9",), capture=Capture("none"))


def mesh_of(settings: str, *more: str) -> MeshModel:
    """The scene with these settings of the mesh."""
    head = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio}\nspec: "
    model = MeshModel()
    texts = (SCENE, head + settings, *more)
    found = load(model, [one for text in texts for one in parse_documents(text, "scene")])
    assert not [one for one in found if one.severity is Severity.ERROR or one.code == "FL0100"], found
    return model


@lru_cache(maxsize=64)
def compiled(settings: str, view: View = SIDECAR) -> Catalog:
    return mesh_of(settings).compile(view)


def cluster(catalog: Catalog, name: str) -> Cluster:
    return Cluster.FromString(catalog[CLUSTER][name].body)


def http1(catalog: Catalog, name: str) -> Any:
    options = HttpProtocolOptions()
    packed = cluster(catalog, name).typed_extension_protocol_options
    packed["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].Unpack(options)
    return options.explicit_http_config.http_protocol_options


def http2(catalog: Catalog, name: str) -> bool:
    """Whether a cluster speaks HTTP/2 whatever a request came in."""
    options = HttpProtocolOptions()
    packed = cluster(catalog, name).typed_extension_protocol_options
    packed["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].Unpack(options)
    return options.explicit_http_config.HasField("http2_protocol_options")


def unpacked(catalog: Catalog, listener: str, kind: type[Any]) -> list[Any]:
    """The network filters of this kind that a listener has."""
    made = Listener.FromString(catalog[LISTENER][listener].body)
    found: list[Any] = []
    for chain in (*made.filter_chains, made.default_filter_chain):
        for one in chain.filters:
            message = kind()
            if one.typed_config.Is(kind.DESCRIPTOR) and one.typed_config.Unpack(message):
                found.append(message)
    return found


def manager(catalog: Catalog, listener: str) -> Any:
    return unpacked(catalog, listener, Manager)[0]


def routes(catalog: Catalog, name: str) -> RouteConfiguration:
    return RouteConfiguration.FromString(catalog[ROUTE][name].body)


def router(catalog: Catalog, listener: str) -> Router:
    out = Router()
    manager(catalog, listener).http_filters[-1].typed_config.Unpack(out)
    return out


def inbound_retry(catalog: Catalog) -> tuple[str, int]:
    found = manager(catalog, "virtualInbound").route_config.virtual_hosts[0].routes[0].route.retry_policy
    return found.retry_on, found.num_retries.value


def by_request(cluster: Cluster) -> tuple[bool, bool]:
    """Whether TLS asks for the name in the request, and whether it verifies that."""
    options = HttpProtocolOptions()
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].Unpack(options)
    said = options.upstream_http_protocol_options
    return said.auto_sni, said.auto_san_validation


INBOUND, OUTBOUND, SERVED = "virtualInbound", "0.0.0.0_80", "0.0.0.0_80"
DETAILS = "proxyHeaders: {setCurrentClientCertDetails: {subject: false, cert: true}}"
CASES: list[tuple[str, View, Callable[[Catalog], object], object]] = [
    ("{outboundClusterStatName: '%SERVICE%_%SERVICE_PORT_NAME%_%SUBSET_NAME%'}", SIDECAR,
     lambda c: (cluster(c, WEB).alt_stat_name, cluster(c, WEB.replace("||", "|v1|")).alt_stat_name),
     ("web.shop_http-main_;", "web.shop_http-main_v1;")),
    ("{outboundClusterStatName: '%SERVICE_NAME%.%SERVICE_PORT%'}", SIDECAR,
     lambda c: [one.stat_prefix for name in c[LISTENER] if name.endswith("_81") for one in unpacked(c, name, TcpProxy)
                if "web" in one.cluster], ["web.81"]),
    ("{inboundClusterStatName: '%SERVICE_FQDN%_%SERVICE_PORT%_%TARGET_PORT%'}", SIDECAR,
     lambda c: cluster(c, "inbound|8080||").alt_stat_name, "web.shop.svc.cluster.local_80_8080;"),
    ("{proxyListenPort: 15011, proxyInboundListenPort: 15016}", SIDECAR,
     lambda c: [Listener.FromString(c[LISTENER][name].body).address.socket_address.port_value
                for name in ("virtualOutbound", INBOUND)], [15011, 15016]),
    ("{inboundClusterStatName: 'in_%SERVICE%'}", SIDECAR,
     lambda c: {one.stat_prefix for one in unpacked(c, INBOUND, TcpProxy) if one.cluster == "inbound|8081||"},
     {"in_web.shop"}),
    ("{defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}", SIDECAR,
     lambda c: [cluster(c, name).circuit_breakers.thresholds[0].max_connections.value
                for name in (WEB, "inbound|8080||", "PassthroughCluster")], [7, 7, 7]),
    ("{h2UpgradePolicy: UPGRADE}", SIDECAR,
     lambda c: [http2(c, one) for one in (WEB, WEB.replace("80", "81"), WEB.replace("80", "82"), "inbound|8080||")],
     [True, False, False, False]),
    ("{defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}", SIDECAR,
     lambda c: [cluster(c, name).outlier_detection.consecutive_5xx.value for name in (WEB, "inbound|8080||")], [3, 0]),
    ("{defaultConfig: {proxyHeaders: {server: {value: mine}}}}", SIDECAR,
     lambda c: [manager(c, name).server_name for name in (INBOUND, OUTBOUND)], ["mine", "mine"]),
    ("{defaultConfig: {proxyHeaders: {server: {disabled: true}}}}", EDGE,
     lambda c: (manager(c, SERVED).server_header_transformation, manager(c, SERVED).server_name),
     (Manager.PASS_THROUGH, "")),
    ("{defaultConfig: {proxyHeaders: {requestId: {disabled: true}}}}", SIDECAR,
     lambda c: [manager(c, name).generate_request_id.value for name in (INBOUND, OUTBOUND)], [False, False]),
    ("{defaultConfig: {proxyHeaders: {attemptCount: {disabled: true}}}}", SIDECAR,
     lambda c: {one.include_request_attempt_count for one in routes(c, "80").virtual_hosts}, {False}),
    ("{defaultConfig: {proxyHeaders: {attemptCount: {disabled: true}}}}", EDGE,
     lambda c: {one.include_request_attempt_count for one in routes(c, "http.80").virtual_hosts}, {False}),
    ("{defaultConfig: {proxyHeaders: {envoyDebugHeaders: {disabled: true}}}}", SIDECAR,
     lambda c: [router(c, name).suppress_envoy_headers for name in (INBOUND, OUTBOUND)], [True, True]),
    ("{defaultConfig: {proxyHeaders: {forwardedClientCert: SANITIZE}}}", SIDECAR,
     lambda c: manager(c, INBOUND).forward_client_cert_details, Manager.SANITIZE),
    ("{defaultConfig: {proxyHeaders: {forwardedClientCert: SANITIZE}}}", EDGE,
     lambda c: manager(c, SERVED).forward_client_cert_details, Manager.SANITIZE_SET),
    ("{defaultConfig: {" + DETAILS + "}}", SIDECAR,
     lambda c: [getattr(manager(c, INBOUND).set_current_client_cert_details, name) for name in ("cert", "uri", "chain")]
     + [manager(c, INBOUND).set_current_client_cert_details.subject.value], [True, True, False, False]),
    ("{defaultConfig: {proxyHeaders: {preserveHttp1HeaderCase: true}}}", SIDECAR,
     lambda c: [one.HasField("header_key_format") for one in (
         manager(c, INBOUND).http_protocol_options, manager(c, OUTBOUND).http_protocol_options, http1(c, WEB),
         http1(c, "inbound|8080||"))], [True] * 4),
    ("{defaultConfig: {proxyHeaders: {xForwardedPort: {enabled: true}}}}", EDGE,
     lambda c: manager(c, SERVED).append_x_forwarded_port, True),
    ("{defaultConfig: {proxyHeaders: {xForwardedHost: {enabled: true}}}}", EDGE,
     lambda c: [one.routes[0].route.append_x_forwarded_host for one in routes(c, "http.80").virtual_hosts], [True]),
    ("{enableEnvoyAccessLogService: true, defaultConfig: {envoyAccessLogService: {address: 'als.logs:9000'}}}", SIDECAR,
     lambda c: ["_grpc" in str([log.name for log in one.access_log]) for one in (
         manager(c, INBOUND), manager(c, OUTBOUND), unpacked(c, INBOUND, TcpProxy)[-1])],
     [True, True, True]),
    ("{accessLogFile: /dev/stdout, disableEnvoyListenerLog: true}", SIDECAR,
     lambda c: (len(Listener.FromString(c[LISTENER][INBOUND].body).access_log), bool(manager(c, INBOUND).access_log)),
     (0, True)),
    ("{defaultInboundHttpRetryPolicy: {attempts: 1, retryOn: gateway-error}}", SIDECAR, inbound_retry,
     ("gateway-error", 1)),
    ("{defaultInboundHttpRetryPolicy: {attempts: 0}}", SIDECAR, inbound_retry, ("", 0)),
    ("{zoneAwareLbSetting: {minClusterSize: 3}}", SIDECAR,
     lambda c: cluster(c, WEB).common_lb_config.zone_aware_lb_config.min_cluster_size.value, 3),
    ("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE}}}", SIDECAR,
     lambda c: [(one.transport_socket.name, by_request(one)) for name, one in messages(c, CLUSTER).items()
                if name == DYNAMIC_CLUSTER], [("envoy.transport_sockets.tls", (True, True))]),
    ("{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE, sni: a.example}}}", SIDECAR,
     lambda c: [by_request(one) for name, one in messages(c, CLUSTER).items() if name == DYNAMIC_CLUSTER],
     [(False, False)]),
    ("{verifyCertificateAtClient: true}", SIDECAR, lambda c: c == compiled("{}"), True),
    ("{defaultConfig: {proxyHeaders: {metadataExchangeHeaders: {mode: IN_MESH}}}}", SIDECAR,
     lambda c: c == compiled("{}"), True),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "view", "shown", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_settings_are_what_proxies_get(
    settings: str, view: View, shown: Callable[[Catalog], object], wanted: object
) -> None:
    assert shown(compiled(settings, view)) == wanted
    without = "{accessLogFile: /dev/stdout}" if "accessLogFile" in settings else "{}"
    if not any(one in settings for one in ("IN_MESH", "SANITIZE}", "verifyCertificate")):
        assert shown(compiled(without, view)) != wanted, "it is so without the setting"


def test_a_rule_replaces_what_it_says_of_the_meshs_traffic_policy() -> None:
    """Istio takes either block as a whole."""
    settings = (
        "{defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7, connectTimeout: 3s}},"
        " outlierDetection: {interval: 2s}}}"
    )
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web.shop.svc.cluster.local, trafficPolicy: {connectionPool: {http: {maxRetries: 4}}}}
"""
    found = cluster(mesh_of(settings, rule).compile(SIDECAR), WEB)
    limits = found.circuit_breakers.thresholds[0]
    assert (limits.max_retries.value, limits.max_connections.value, found.connect_timeout.seconds) == (4, 2**32 - 1, 10)
    assert found.outlier_detection.interval.seconds == 2


CHOSEN = """
{discoverySelectors: [{matchLabels: {mesh: "yes"}}, {matchExpressions: [{key: team, operator: In, values: [a]}]}]}"""
SPACES = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: other, labels: {team: b}}}
---
{apiVersion: v1, kind: Service, metadata: {name: far, namespace: other}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: lost, namespace: nowhere}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: other}, spec: {}}
"""


def _hosts(model: MeshModel) -> set[str]:
    names = {name.rpartition("|")[2] for name in model.compile(SIDECAR)[CLUSTER] if "svc" in name}
    return {name.partition(".")[0] for name in names if ".logs." not in name}


def test_objects_count_where_a_discovery_selector_chooses_their_namespace() -> None:
    assert _hosts(mesh_of("{}", SPACES)) == {"web", "far", "lost"}
    model = mesh_of(CHOSEN.strip(), SPACES)
    assert _hosts(model) == {"web"}
    told = [(one.code, str(one.origin.ref)) for one in model.diagnostics()]
    assert told == [("FL0104", f"Namespace {name}") for name in ("logs", "nowhere", "other")]
    for change, seen in (
        ("{apiVersion: v1, kind: Namespace, metadata: {name: other, labels: {mesh: 'yes'}}}", {"web", "far"}),
        ("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: c}}}", {"far"}),
    ):
        load(model, parse_documents(change, "change"))
        assert _hosts(model) == seen
    head = "{apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, metadata: {name: istio}, spec: {}}"
    load(model, parse_documents(head, "change"))
    assert _hosts(model) == {"web", "far", "lost"}


def test_the_meshs_configmap_counts_whatever_its_namespace() -> None:
    text = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "discoverySelectors: [{matchLabels: {kubernetes.io/metadata.name: shop}}]\\nconnectTimeout: 4s"}
"""
    model = MeshModel()
    load(model, [one for part in (SCENE, SPACES, text) for one in parse_documents(part, "scene")])
    assert _hosts(model) == {"web"}
    assert cluster(model.compile(SIDECAR), WEB).connect_timeout.seconds == 4


NETWORKED = """
{apiVersion: v1, kind: Service, metadata: {name: edge, namespace: far, labels: {topology.istio.io/network: n2%s}},
 spec: {%s selector: {app: gate}, ports: [{name: tls, port: 15443, targetPort: 9443}, {name: odd, port: 8443}]}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: gate, namespace: far},
 spec: {address: 10.9.0.1, labels: {app: gate}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: web-1, namespace: shop},
 spec: {address: 10.2.0.1, serviceAccount: web,
        labels: {app: web, security.istio.io/tlsMode: istio, topology.istio.io/network: n2}}}
"""
NEAR = View("sidecar", "shop", (("app", "web"), ("topology.istio.io/network", "n1")), "web", ("10.1.0.1",))
OUT = View("sidecar", "shop", (("app", "web"),), "web", ("10.1.0.1",))
IN = View("sidecar", "shop", (("app", "web"),), "web", ("10.2.0.1",), "n2")


def _dialled(model: MeshModel, view: View) -> set[str]:
    made = ClusterLoadAssignment.FromString(model.compile(view)[ENDPOINT][WEB].body)
    dialled = (one.endpoint.address.socket_address for group in made.endpoints for one in group.lb_endpoints)
    return {f"{one.address}:{one.port_value}" for one in dialled}


@pytest.mark.parametrize(
    ("label", "outside", "view", "dialled"),
    [
        ("", "", NEAR, {"10.1.0.1:8080", "10.9.0.1:9443"}),
        (', networking.istio.io/gatewayPort: "8443"', "", NEAR, {"10.1.0.1:8080", "10.9.0.1:8443"}),
        ("", "externalIPs: [192.0.2.1],", NEAR, {"10.1.0.1:8080", "192.0.2.1:15443"}),
        ("", "", IN, {"10.1.0.1:8080", "10.2.0.1:8080"}),
        ("", "", OUT, {"10.1.0.1:8080", "10.2.0.1:8080"}),
    ],
)
def test_labels_name_networks_and_the_ways_into_them(label: str, outside: str, view: View, dialled: set[str]) -> None:
    """A proxy in no network reaches all others directly, as in Istio."""
    assert _dialled(mesh_of("{}", NETWORKED % (label, outside)), view) == dialled


def test_the_root_namespace_names_the_network_of_all_that_name_none() -> None:
    root = "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {topology.istio.io/network: n1}}}"
    model = mesh_of("{}", NETWORKED % ("", ""), root)
    assert _dialled(model, OUT) == {"10.1.0.1:8080", "10.9.0.1:9443"}


UNREACHED = """
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: hidden, namespace: shop},
 spec: {network: far, serviceAccount: %s, labels: {app: web}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {meshNetworks: '{networks: {
  far: {gateways: [%s]}, near: {endpoints: [{fromRegistry: Kubernetes}, {fromCidr: 10.0.0.0/8}]}}}'}}
"""


@pytest.mark.parametrize(
    ("account", "gateway", "view", "dialled", "said"),
    [
        ("web", "{address: 192.0.2.9, port: 15443}", NEAR, {"192.0.2.9:15443"}, ""),
        ("web", "{address: 192.0.2.9, port: 15443}", IN, set[str](), ""),
        ("web", "{address: gate.example, port: 15443}", NEAR, {"198.51.100.1:15443", "198.51.100.2:15443"}, ""),
        ("web", "{address: other.example, port: 15443}", NEAR, set[str](), ""),
        ("web", "", NEAR, set[str](), "network 'far' has no gateway"),
        ("''", "{address: 192.0.2.9, port: 15443}", NEAR, set[str](), "not known to accept it"),
    ],
)
def test_instances_without_an_address_are_behind_the_gateways_of_their_network(
    account: str, gateway: str, view: View, dialled: set[str], said: str
) -> None:
    model = MeshModel()
    text = f"{SCENE}---{UNREACHED % (account, gateway)}"
    load(model, parse_documents(text, "scene"))
    with model.engine.transaction():
        model.engine.put(GATEWAY_ADDRESSES, "gate.example", ("198.51.100.1", "198.51.100.2"))
    view = replace(view, network="far") if view is IN else view
    assert _dialled(model, view) == dialled | {"10.1.0.1:8080"}
    with model.opened(view):
        found = [one.message for one in model.diagnostics() if one.code == "FL2900"]
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_a_load_balancers_name_is_the_way_into_a_network() -> None:
    status = "status: {loadBalancer: {ingress: [{hostname: lb.example}, {ip: 192.0.2.7}]}},"
    model = mesh_of("{}", (NETWORKED % ("", "")).replace(" spec:", f" {status}\n spec:", 1))
    with model.engine.transaction():
        model.engine.put(GATEWAY_ADDRESSES, "lb.example", ("192.0.2.8",))
    assert _dialled(model, NEAR) == {"10.1.0.1:8080", "192.0.2.7:15443", "192.0.2.8:15443"}


TWO_CLUSTERS = """
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: web-1, namespace: shop},
 spec: {address: 10.2.0.1, labels: {app: web, topology.istio.io/cluster: second}}}
"""


@pytest.mark.parametrize(
    ("said", "cluster", "dialled"),
    [
        ("", "second", {"10.1.0.1:8080", "10.2.0.1:8080"}),
        (
            "{settings: {clusterLocal: true}, hosts: ['*.other.svc.cluster.local']}",
            "second",
            {"10.1.0.1:8080", "10.2.0.1:8080"},
        ),
        ("{settings: {clusterLocal: true}, hosts: ['*.shop.svc.cluster.local']}", "second", {"10.2.0.1:8080"}),
        ("{settings: {clusterLocal: true}, hosts: ['*.shop.svc.cluster.local']}", "Kubernetes", {"10.1.0.1:8080"}),
        (
            "{settings: {clusterLocal: true}, hosts: ['*']}, {hosts: [web.shop.svc.cluster.local]}",
            "second",
            {"10.1.0.1:8080", "10.2.0.1:8080"},
        ),
    ],
)
def test_cluster_local_hosts_are_called_in_their_own_cluster(said: str, cluster: str, dialled: set[str]) -> None:
    model = mesh_of(f"{{serviceSettings: [{said}]}}", TWO_CLUSTERS)
    assert _dialled(model, replace(OUT, cluster_id=cluster)) == dialled


OWN = """
gatewayTopology: {numTrustedProxies: 3, forwardClientCertDetails: SANITIZE, proxyProtocol: {}}
proxyHeaders: {server: {value: own}}
tracing: {sampling: 40, zipkin: {address: als.logs:9000}, customTags: {a: {literal: {value: b}}}}
"""


def test_a_workloads_own_settings_take_the_place_of_the_meshs() -> None:
    """The annotation, by way of the start of a proxy and its node's metadata, in its listeners and in nobody else's."""
    default = "{gatewayTopology: {numTrustedProxies: 1}, tracing: {sampling: 7, zipkin: {address: als.logs:9000}}}"
    settings = f"{{enableTracing: true, defaultConfig: {default}}}"
    start = effective(layers_of(Mesh(), (), "shop", {}), {ANNOTATION: OWN})
    node = {"NAMESPACE": "shop", "LABELS": {"app": "edge"}, METADATA: start.settings.own}
    own = view_of_node("router~10.1.0.9~edge-0.shop~shop.svc.cluster.local", node)
    model = mesh_of(settings)
    mine, theirs = manager(model.compile(own), SERVED), manager(model.compile(EDGE), SERVED)
    assert (mine.xff_num_trusted_hops, theirs.xff_num_trusted_hops) == (3, 1)
    assert (mine.forward_client_cert_details, mine.server_name) == (Manager.SANITIZE, "own")
    assert (mine.tracing.random_sampling.value, theirs.tracing.random_sampling.value) == (40, 7)
    assert "a" in {one.tag for one in mine.tracing.custom_tags}
    assert b"proxy_protocol" in model.compile(own)[LISTENER][SERVED].body
    node = {"LABELS": {"app": "web"}, METADATA: {"proxyHeaders": {"requestId": {"disabled": True}}}}
    sidecar = model.compile(view_of_node("sidecar~10.1.0.1~web-0.shop~shop.svc.cluster.local", node))
    assert [manager(sidecar, name).generate_request_id.value for name in (INBOUND, OUTBOUND)] == [False, False]


def test_each_header_that_a_workload_says_counts_by_itself() -> None:
    """As in Istio's merge of the annotation: what it does not say of headers is as the mesh says."""
    model = mesh_of("{defaultConfig: {proxyHeaders: {server: {value: mesh}, requestId: {disabled: true}}}}")
    for said, server, generates in (
        ({}, "mesh", False),
        ({"server": {"value": "own"}}, "own", False),
        ({"requestId": {}}, "mesh", True),
    ):
        mine = manager(model.compile(replace(EDGE, own=own_settings({"proxyHeaders": said}))), SERVED)
        assert (mine.server_name, mine.generate_request_id.value) == (server, generates), said


SHARED = (
    "{proxyHeaders: {attemptCount: {disabled: true}}}",
    "{proxyHeaders: {xForwardedHost: {enabled: true}}}",
    "{proxyHeaders: {preserveHttp1HeaderCase: true}}",
)


@pytest.mark.parametrize("said", SHARED)
@pytest.mark.parametrize("view", [SIDECAR, EDGE], ids=["sidecar", "gateway"])
def test_headers_in_what_workloads_share_are_a_workloads_own_too(said: str, view: View) -> None:
    """One that says them has the routes and clusters that all would have if the mesh said them, and back."""
    own = replace(view, own=own_settings(parse_documents(said, "said")[0].data))
    plain, mesh_wide = compiled("{}", view), compiled(f"{{defaultConfig: {said}}}", view)
    model = mesh_of("{}")
    mine = model.compile(own)
    assert messages(mine, ROUTE) == messages(mesh_wide, ROUTE)
    assert {name: one.body for name, one in mine[LISTENER].items()} == {
        name: one.body for name, one in mesh_wide[LISTENER].items()
    }
    wanted = messages(mesh_wide, CLUSTER)
    assert {name: one for name, one in messages(mine, CLUSTER).items() if speaks(wanted[name])} == {
        name: one for name, one in wanted.items() if speaks(one)
    }
    assert mine[CLUSTER].keys() == wanted.keys()
    assert {name: one.version for name, one in model.compile(view)[ROUTE].items()} == {
        name: one.version for name, one in plain[ROUTE].items()
    }
    unsaid = {"attemptCount": {"disabled": False}, "xForwardedHost": {}, "preserveHttp1HeaderCase": False}
    back = replace(view, own=own_settings({"proxyHeaders": unsaid}))
    again = mesh_of(f"{{defaultConfig: {said}}}").compile(back)
    assert messages(again, ROUTE) == messages(plain, ROUTE)


def messages(catalog: Catalog, type_url: str) -> dict[str, Any]:
    kind = Cluster if type_url == CLUSTER else RouteConfiguration
    return {name: kind.FromString(one.body) for name, one in catalog[type_url].items()}


def speaks(cluster: Cluster) -> bool:
    """Whether a cluster says how it speaks HTTP: of others nobody can see whether they do."""
    return bool(cluster.typed_extension_protocol_options)


HEADED = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system, labels: {{{labels}}}}}
data: {{mesh: "{{}}"}}
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}
spec: {{hosts: [{name}.svc], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}
"""
MARKED = "---".join(
    (
        ENTRY.format(name="any", labels=""),
        ENTRY.format(name="blank", labels="istio.io/rev: ''"),
        ENTRY.format(name="default", labels="istio.io/rev: default"),
        ENTRY.format(name="canary", labels="istio.io/rev: canary"),
        "\n{apiVersion: v1, kind: Service, metadata: {name: far, namespace: shop, labels: {istio.io/rev: old}},"
        " spec: {ports: [{name: http, port: 80}]}}\n",
    )
)


def test_objects_for_another_revision_have_no_effect() -> None:
    """As in Istio's `config.LabelsInRevision`; Kubernetes' own objects count for all."""
    model = mesh_of("{}", MARKED)
    always = {"web", "far", "any", "blank"}
    assert _hosts(model) == {*always, "default"}
    (told,) = [one for one in model.diagnostics() if one.code == "FL0105"]
    assert str(told.origin) == "ServiceEntry shop/canary metadata.labels[istio.io/rev]"
    assert "for revision canary, and this mesh is revision default" in told.message
    for labels, seen in (
        ("istio.io/rev: canary", "canary"),
        ("istio.io/rev: ''", "default"),
        ("istio.io/rev: third", ""),
        ("", "default"),
    ):
        load(model, parse_documents(HEADED.format(labels=labels), "change"))
        assert _hosts(model) == {*always, *filter(None, [seen])}


def test_what_is_in_a_namespace_for_another_revision_counts() -> None:
    home = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/rev: %s}}}"
    model = mesh_of("{}", home % "canary")
    assert _hosts(model) == {"web"}
    (told,) = [one for one in model.diagnostics() if one.code == "FL0105"]
    assert str(told.origin) == "Namespace shop metadata.labels[istio.io/rev]"
    assert "its objects count all the same" in told.message
    for quiet in ("default", "''"):
        assert not [one for one in mesh_of("{}", home % quiet).diagnostics() if one.code == "FL0105"]
