"""Clusters of clients that name whom they call: none may dial the connection's original destination, the proxy."""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig
from listener_facts import World, endpoint, host, origin, sidecar

from fairlead.compiler.publish import Publisher
from fairlead.envoy.resource import CLUSTER
from fairlead.ir.host import Resolution
from fairlead.ir.protocol import Protocol
from fairlead.ir.traffic import TRAFFIC_POLICIES, LoadBalancer, Policy, TrafficPolicy
from fairlead.ir.view import View
from fairlead.model.launch import Capture
from fairlead.model.ref import NamespacedName

EXPLICIT = sidecar(Capture("explicit", app_address="127.66.64.5", outbound_address="127.66.128.5"))
WEB = "web.default.svc.cluster.local"


def clusters(world: World, view: View) -> dict[str, Cluster]:
    publisher = Publisher(world.engine)
    publisher.open(view)
    assert not world.engine.failures()
    return {name: Cluster.FromString(one.body) for name, one in publisher.catalog(view)[CLUSTER].items()}


def test_nothing_goes_to_the_original_destination() -> None:
    policy = Policy(load_balancer=LoadBalancer(simple="PASSTHROUGH"))
    key = NamespacedName("default", "dr")
    anywhere = {"resolution": Resolution.PASSTHROUGH, "kubernetes": False, "external": True}
    world = World(
        host(WEB, (80, Protocol.HTTP), (9080, Protocol.HTTP)),
        host(
            "pods.default.svc.cluster.local",
            (5432, Protocol.TCP),
            resolution=Resolution.PASSTHROUGH,
            selector={"app": "db"},
        ),
        host("*.example.com", (443, Protocol.TLS), **anywhere),
        host("listed.example.com", (8443, Protocol.TLS), **anywhere),
        endpoint("listed.example.com", "10.0.0.9"),
        (TRAFFIC_POLICIES, key, TrafficPolicy(key, origin("DestinationRule", "default", "dr"), WEB, policy)),
    )
    found = clusters(world, EXPLICIT)
    kinds = {name: one.cluster_type.name or Cluster.DiscoveryType.Name(one.type) for name, one in found.items()}
    assert kinds == {
        "BlackHoleCluster": "STATIC",
        "PassthroughCluster": "envoy.clusters.dynamic_forward_proxy",
        "http_proxy|9080||": "STATIC",
        f"outbound|80||{WEB}": "EDS",
        f"outbound|9080||{WEB}": "EDS",
        "outbound|5432||pods.default.svc.cluster.local": "EDS",
        "outbound|443||*.example.com": "envoy.clusters.dynamic_forward_proxy",
        "outbound|8443||listed.example.com": "EDS",
    }
    caches: set[bytes] = set()
    for one in found.values():
        config = ClusterConfig()
        if one.cluster_type.typed_config.Unpack(config):
            caches.add(config.dns_cache_config.SerializeToString(deterministic=True))
    assert len(caches) == 1, "Envoy refuses two settings for one cache"
    redirected = clusters(world, sidecar())
    assert redirected["PassthroughCluster"].type == Cluster.ORIGINAL_DST
    assert redirected[f"outbound|80||{WEB}"].type == Cluster.ORIGINAL_DST
    assert "InboundPassthroughCluster" in redirected
