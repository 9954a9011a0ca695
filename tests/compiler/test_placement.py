"""Which endpoints a caller prefers: localities, labels, shares, networks. What proxies share."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from listener_facts import World, host, origin
from msgspec.structs import replace

from fairlead.compiler.model import MeshModel
from fairlead.compiler.near import Near, Placing
from fairlead.compiler.offline import load
from fairlead.compiler.parts import layers
from fairlead.compiler.placement import placed
from fairlead.compiler.reduced import reduced
from fairlead.envoy.endpoint import LbEndpoint
from fairlead.envoy.names import LOCAL_CLUSTER
from fairlead.envoy.resource import CLUSTER, ENDPOINT
from fairlead.inc import Table
from fairlead.ir.host import Resolution
from fairlead.ir.locality import Distribution, LocalityLb, locality_covers
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.network import Network, NetworkGateway
from fairlead.ir.protocol import Protocol
from fairlead.ir.traffic import TRAFFIC_POLICIES, HashPolicy, LoadBalancer, OutlierDetection, Policy, TrafficPolicy
from fairlead.ir.view import View, view_of_node
from fairlead.ir.workload import WORKLOADS, Workload, WorkloadKey
from fairlead.model.ref import NamespacedName
from fairlead.model.yaml import parse_documents

WEB = "web.default.svc.cluster.local"
CLUSTER_NAME = f"outbound|80||{WEB}"
Row = tuple[Table[Any, Any], Any, Any]


def at(locality: str, address: str = "10.0.0.1", weight: int = 1, **labels: str) -> LbEndpoint:
    return LbEndpoint(locality, address, 80, weight, labels=tuple(sorted(labels.items())))


def order(setting: LocalityLb, near: Near, *endpoints: LbEndpoint) -> list[tuple[int, str, int]]:
    return [(one.priority, one.locality, one.weight) for one in placed(endpoints, Placing(near, setting))]


def test_the_closer_the_earlier_without_gaps() -> None:
    places = [at(one) for one in ("eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "asia/a/1")]
    ranks = {locality: priority for priority, locality, _ in order(LocalityLb(), Near("eu/a/1"), *places)}
    assert ranks == {"eu/a/1": 0, "eu/a/2": 1, "eu/b/1": 2, "us/a/1": 3, "asia/a/1": 3}
    named = LocalityLb(failover=(("eu", "asia"),))
    assert order(named, Near("eu/c"), *places[3:]) == [(0, "asia/a/1", 1), (1, "us/a/1", 1)]


def test_zones_of_a_region_are_left_to_envoy() -> None:
    places = [at(one) for one in ("eu/a/1", "eu/b/1", "us/a/1", "asia/a/1")]
    zones = LocalityLb(failover=(("eu", "asia"),), forced=True, zone_aware=True)
    ranks = {locality: priority for priority, locality, _ in order(zones, Near("eu/a/1"), *places)}
    assert ranks == {"eu/a/1": 0, "eu/b/1": 0, "asia/a/1": 1, "us/a/1": 2}
    by_label = LocalityLb(priority=("tier",), forced=True, zone_aware=True)
    told = [at("eu/b", tier="front"), at("us/a", tier="front"), at("eu/a", tier="back")]
    assert order(by_label, Near("eu/a", labels=(("tier", "front"),)), *told) == [
        (0, "eu/b", 1),
        (1, "us/a", 1),
        (2, "eu/a", 1),
    ]


def test_labels_count_in_their_order() -> None:
    setting = LocalityLb(priority=("tier", "version=v2"))
    endpoints = [
        at("eu/a", "10.0.0.1", tier="front", version="v2"),
        at("eu/a", "10.0.0.2", tier="front", version="v1"),
        at("eu/a", "10.0.0.3", tier="back", version="v2"),
    ]
    groups = placed(endpoints, Placing(Near(labels=(("tier", "front"),)), setting))
    assert [[one.address for one in group.members] for group in groups] == [["10.0.0.1"], ["10.0.0.2"], ["10.0.0.3"]]


def test_shares_and_who_gets_none() -> None:
    setting = LocalityLb(distribute=(Distribution("eu/*", (("eu/a/*", 60), ("*", 40))),))
    found = order(setting, Near("eu/a/1"), at("eu/a/1"), at("eu/a/2", weight=2), at("us/a"), at("asia/b"))
    assert found == [(0, "asia/b", 20), (0, "eu/a/1", 20), (0, "eu/a/2", 40), (0, "us/a", 20)]
    only = LocalityLb(distribute=(Distribution("eu/*", (("eu/*", 100),)),))
    assert order(only, Near("eu/a"), at("eu/a"), at("us/a")) == [(0, "eu/a", 100)]


def test_patterns() -> None:
    assert locality_covers("*", "")
    assert locality_covers("eu/*", "eu/a/1")
    assert locality_covers("eu", "eu/a")
    assert not locality_covers("eu/a", "eu/b")
    assert not locality_covers("eu/a", "eu")


def workload(name: str, address: str, locality: str, network: str = "") -> Row:
    key = WorkloadKey("WorkloadEntry", "default", name)
    made = Workload(
        key, origin("WorkloadEntry", "default", name), address, (("app", "web"),), "web", (), network, locality
    )
    made = replace(made, workload_name="web")
    return WORKLOADS, key, made


def rule(policy: Policy) -> Row:
    key = NamespacedName("default", "dr")
    return TRAFFIC_POLICIES, key, TrafficPolicy(key, origin("DestinationRule", "default", "dr"), WEB, policy)


def world(*rows: Row) -> World:
    web = host(WEB, (80, Protocol.HTTP), resolution=Resolution.CLIENT_SIDE_LB, selector={"app": "web"})
    return World(web, workload("one", "10.0.0.1", "eu/a"), workload("two", "10.0.0.2", "us/a", "far"), *rows)


def client(locality: str, network: str = "") -> View:
    return View("sidecar", "default", locality=locality, network=network)


def keys(made: World, view: View, kind: str) -> list[Any]:
    lists = [one for one in made.engine.call(layers, view) if one.type_url == kind]
    return [part for one in lists for part in made.engine.call(one.rule, one.key)]


def message(made: World, view: View, kind: str, name: str) -> Any:
    assert not made.engine.failures()
    found = [made.engine.call(one.rule, one.key) for one in keys(made, view, kind)]
    body = next(one.body for one in found if one is not None and one.name == name)
    return (Cluster if kind == CLUSTER else ClusterLoadAssignment).FromString(body)


def test_only_what_depends_on_the_place_is_made_twice() -> None:
    plain = world()
    assert keys(plain, client("eu/a"), ENDPOINT) == keys(plain, client("us/a"), ENDPOINT)
    made = world(rule(Policy(outlier=OutlierDetection(consecutive_5xx=3))))
    eu, us = (message(made, client(one), ENDPOINT, CLUSTER_NAME) for one in ("eu/a", "us/a"))
    assert [(one.locality.region, one.priority) for one in eu.endpoints] == [("eu", 0), ("us", 1)]
    assert [(one.locality.region, one.priority) for one in us.endpoints] == [("us", 0), ("eu", 1)]
    assert message(made, client("eu/a"), CLUSTER, CLUSTER_NAME).common_lb_config.HasField("locality_weighted_lb_config")
    off = Policy(LoadBalancer(locality=LocalityLb(enabled=False)), outlier=OutlierDetection())
    switched_off = world(rule(off))
    assert keys(switched_off, client("eu/a"), ENDPOINT) == keys(switched_off, client("us/a"), ENDPOINT)


def test_other_networks_are_their_gateways() -> None:
    networks = (
        Network("near", registries=("Kubernetes",)),
        Network("far", gateways=(NetworkGateway(15443, "192.0.2.1"), NetworkGateway(15443, "192.0.2.2"))),
    )
    made = world((MESHES, MESH_KEY, Mesh(networks=networks)))
    here = message(made, client("eu/a", "near"), ENDPOINT, CLUSTER_NAME)
    there = message(made, client("eu/a", "far"), ENDPOINT, CLUSTER_NAME)

    def addresses(found: ClusterLoadAssignment) -> list[tuple[str, int]]:
        ends = [one.endpoint.address.socket_address for group in found.endpoints for one in group.lb_endpoints]
        return [(one.address, one.port_value) for one in ends]

    def weights(found: ClusterLoadAssignment) -> list[int]:
        return [one.load_balancing_weight.value for group in found.endpoints for one in group.lb_endpoints]

    assert addresses(here) == [("10.0.0.1", 80), ("192.0.2.1", 15443), ("192.0.2.2", 15443)]
    # An instance behind two gateways gets as much as one that has none before it.
    assert (weights(here), weights(there)) == ([2, 1, 1], [1, 1])
    # The network of the first has no gateway: it is dialled as it is.
    assert addresses(there) == [("10.0.0.1", 80), ("10.0.0.2", 80)]


def test_a_proxy_that_names_networks_is_told_of_no_others() -> None:
    """Its own counts only if it names that; instances that are in no network are always there."""
    made = world(workload("three", "10.0.0.3", "eu/a", "further"))

    def told(names: str) -> set[str]:
        node = {"NAMESPACE": "default", "REQUESTED_NETWORK_VIEW": names}
        whole = view_of_node("sidecar~10.1.0.1~a.default~default.svc.cluster.local", node)
        seen = made.engine.call(reduced, whole)
        found = message(made, seen, ENDPOINT, CLUSTER_NAME)
        assert found == message(made, whole, ENDPOINT, CLUSTER_NAME)
        return {one.endpoint.address.socket_address.address for group in found.endpoints for one in group.lb_endpoints}

    assert told("") == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert told("far") == {"10.0.0.1", "10.0.0.2"}
    assert told(" far, further ,") == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert told("unknown") == {"10.0.0.1"}


def test_addresses_in_clusters_are_of_the_networks_that_are_named() -> None:
    """Also where a name is looked up, and in clusters that gateways choose by server name."""
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec:
  hosts: [web.example]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  endpoints:
    - {address: a.example, network: near, labels: {security.istio.io/tlsMode: istio}}
    - {address: b.example, network: far, labels: {security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: between, namespace: default}
spec:
  servers:
    - {port: {number: 15443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: AUTO_PASSTHROUGH}}
"""
    made = MeshModel()
    assert not load(made, list(parse_documents(text, "mesh.yaml")))
    catalog = made.compile(View("router", "default", addresses=("10.1.0.1",), sees=("far",)))[CLUSTER]
    for name in ("outbound|80||web.example", "outbound_.80_._.web.example"):
        found = Cluster.FromString(catalog[name].body).load_assignment.endpoints
        assert [one.endpoint.address.socket_address.address for group in found for one in group.lb_endpoints] == [
            "b.example"
        ]


def test_a_cluster_says_how_zones_are_minded() -> None:
    def zones(setting: LocalityLb) -> tuple[Cluster.CommonLbConfig, list[tuple[int, str]]]:
        made = world(rule(Policy(LoadBalancer(locality=setting))))
        found = message(made, client("eu/a"), ENDPOINT, CLUSTER_NAME).endpoints
        config = message(made, client("eu/a"), CLUSTER, CLUSTER_NAME).common_lb_config
        return config, [(one.priority, one.locality.region) for one in found]

    on, ranks = zones(LocalityLb(forced=True, zone_aware=True, minimum=2))
    assert on.zone_aware_lb_config.routing_enabled.value == 100 and ranks == [(0, "eu"), (1, "us")]
    assert on.zone_aware_lb_config.min_cluster_size.value == 2 and not on.HasField("locality_weighted_lb_config")
    off, ranks = zones(LocalityLb(enabled=False, forced=True, zone_aware=True))
    assert off.HasField("zone_aware_lb_config") and off.zone_aware_lb_config.routing_enabled.value == 0
    assert ranks == [(0, "eu"), (0, "us")]


def test_the_mesh_minds_zones_where_rules_say_nothing() -> None:
    zones = (MESHES, MESH_KEY, Mesh(locality=LocalityLb(forced=True, zone_aware=True)))
    made = world(zones)
    found = message(made, client("eu/a"), CLUSTER, CLUSTER_NAME).common_lb_config
    assert found.zone_aware_lb_config.routing_enabled.value == 100
    ranks = message(made, client("eu/a"), ENDPOINT, CLUSTER_NAME).endpoints
    assert [(one.priority, one.locality.region) for one in ranks] == [(0, "eu"), (1, "us")]
    hashed = world(zones, rule(Policy(LoadBalancer(hash=HashPolicy(source_ip=True)))))
    assert not message(hashed, client("eu/a"), CLUSTER, CLUSTER_NAME).common_lb_config.HasField("zone_aware_lb_config")


def test_who_asks_is_told_of_its_peers() -> None:
    zones = rule(Policy(LoadBalancer(locality=LocalityLb(forced=True, zone_aware=True))))
    made = world(zones, workload("three", "10.0.0.3", "eu/b"))
    plain = View("sidecar", "default", workload_name="web", locality="eu/a")
    assert len(keys(made, plain, ENDPOINT)) == 1
    found = message(made, replace(plain, knows_peers=True), ENDPOINT, LOCAL_CLUSTER).endpoints
    assert [(one.priority, one.locality.region, one.locality.zone) for one in found] == [
        (0, "eu", "a"),
        (0, "eu", "b"),
        (1, "us", "a"),
    ]
