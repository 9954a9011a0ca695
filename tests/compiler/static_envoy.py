"""One bootstrap that holds what several views get, for real Envoy to judge."""

from __future__ import annotations

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm

from fairlead.compiler.publish import Catalog
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE


def new_bootstrap() -> Bootstrap:
    """A bootstrap with the clusters that every agent has."""
    made = Bootstrap()
    made.node.id, made.node.cluster = "golden", "golden"
    made.dynamic_resources.ads_config.api_type = 2
    made.dynamic_resources.ads_config.transport_api_version = 2
    made.dynamic_resources.ads_config.grpc_services.add().envoy_grpc.cluster_name = "xds-grpc"
    for name in ("xds-grpc", "sds-grpc"):
        made.static_resources.clusters.add(name=name, type=Cluster.STATIC).load_assignment.cluster_name = name
    return made


def _elsewhere(listener: Listener, number: int) -> None:
    """Give the listener an address that no other view's has; nothing is bound."""
    if listener.address.HasField("pipe"):
        listener.address.pipe.path = f"@golden-{number}"
        return
    address = f"127.{200 + number // 60000}.{number // 250 % 250}.{number % 250 + 1}"
    listener.address.socket_address.address = address
    for one in listener.additional_addresses:
        one.address.socket_address.address = address


def add_catalog(made: Bootstrap, catalog: Catalog, mark: str) -> None:
    """A view's resources. Names get a mark, since many views share one Envoy here."""
    for one in catalog[CLUSTER].values():
        cluster = made.static_resources.clusters.add()
        cluster.CopyFrom(Cluster.FromString(one.body))
        cluster.name += mark
        if all(other.name != one.name for other in made.static_resources.clusters):
            # Listeners name the clusters of tracers, which Envoy looks for at once.
            made.static_resources.clusters.append(Cluster.FromString(one.body))
    for one in catalog[LISTENER].values():
        listener = made.static_resources.listeners.add()
        listener.CopyFrom(Listener.FromString(one.body))
        listener.name += mark
        _elsewhere(listener, len(made.static_resources.listeners))
    for one in catalog[ENDPOINT].values():
        cluster = made.static_resources.clusters.add(name=f"endpoints of {one.name}{mark}", type=Cluster.STRICT_DNS)
        cluster.load_assignment.CopyFrom(ClusterLoadAssignment.FromString(one.body))
        cluster.load_assignment.cluster_name = cluster.name
    for one in catalog[ROUTE].values():
        listener = made.static_resources.listeners.add(name=f"routes {one.name}{mark}")
        listener.address.socket_address.port_value = 1
        _elsewhere(listener, len(made.static_resources.listeners))
        manager = hcm.HttpConnectionManager(stat_prefix="routes")
        manager.route_config.CopyFrom(RouteConfiguration.FromString(one.body))
        manager.http_filters.add(name="envoy.filters.http.router").typed_config.CopyFrom(pack(Router()))
        chain = listener.filter_chains.add()
        chain.filters.add(name="http").typed_config.CopyFrom(pack(manager))
