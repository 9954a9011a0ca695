"""Facts for route tests: written by hand, put into the tables as a kind would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2
from msgspec.structs import replace

from fairlead.compiler.delegates import DELEGATION
from fairlead.compiler.gateways import GatewaysKey
from fairlead.compiler.ingresses import GATHERING
from fairlead.compiler.routes import GatewayRouteKey, SidecarRouteKey, gateway_route, sidecar_route
from fairlead.inc import Derivation, Engine, Reader, Table
from fairlead.ir.gateway import WRITTEN_GATEWAYS, Gateway, GatewayServer, ServerTls
from fairlead.ir.host import HOSTS, Host, HostKey, HostPort, Resolution
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import MESH, WRITTEN_ROUTES, Destination, HttpMatch, HttpRule, RouteSet, WeightedDestination
from fairlead.ir.traffic import TRAFFIC_POLICIES, TrafficPolicy
from fairlead.ir.view import Client, View, pairs
from fairlead.model.diagnostic import Origin
from fairlead.model.path import FieldPath
from fairlead.model.ref import NamespacedName, Ref

Fact = Host | RouteSet | Gateway | TrafficPolicy | Mesh

_EMISSIONS: Table[str, Fact] = Table("test-emissions")


def _emit(r: Reader, name: str, fact: Fact) -> Iterable[tuple[Table[Any, Any], Any, object]]:
    if isinstance(fact, Mesh):
        yield MESHES, MESH_KEY, fact
    elif isinstance(fact, Host):
        yield HOSTS, fact.key, fact
    elif isinstance(fact, RouteSet):
        yield WRITTEN_ROUTES, fact.key, fact
    elif isinstance(fact, Gateway):
        yield WRITTEN_GATEWAYS, fact.key, fact
    else:
        yield TRAFFIC_POLICIES, fact.key, fact


class World:
    """An engine with facts, which tests read routes from."""

    def __init__(self, *facts: Fact) -> None:
        self.engine = Engine([Derivation("test-emit", _EMISSIONS, 1, _emit), DELEGATION, GATHERING])
        self.put(*facts)

    def put(self, *facts: Fact) -> None:
        with self.engine.transaction():
            for fact in facts:
                self.engine.put(_EMISSIONS, _name(fact), fact)

    def drop(self, fact: Fact) -> None:
        with self.engine.transaction():
            self.engine.delete(_EMISSIONS, _name(fact))

    def sidecar_bytes(self, name: str, namespace: str = "default", **labels: str) -> bytes:
        found = self.engine.call(sidecar_route, SidecarRouteKey(Client(namespace, pairs(labels)), name))
        assert found is not None
        assert found.name == name
        return found.body

    def sidecar(self, name: str, namespace: str = "default", **labels: str) -> route_pb2.RouteConfiguration:
        return route_pb2.RouteConfiguration.FromString(self.sidecar_bytes(name, namespace, **labels))

    def gateway(self, name: str, namespace: str = "istio-system", **labels: str) -> route_pb2.RouteConfiguration:
        view = View("router", namespace, pairs(labels or {"istio": "ingressgateway"}))
        found = self.engine.call(gateway_route, GatewayRouteKey(view, name))
        assert found is not None
        return route_pb2.RouteConfiguration.FromString(found.body)

    def messages(self) -> list[str]:
        return sorted({str(one) for one in self.engine.reports()})


INGRESS = GatewaysKey("istio-system", (("istio", "ingressgateway"),))


def _name(fact: Fact) -> str:
    return MESH_KEY if isinstance(fact, Mesh) else f"{type(fact).__name__} {fact.key}"


def origin(kind: str, namespace: str, name: str, *path: str | int, group: str = "networking.istio.io") -> Origin:
    return Origin(Ref(group, kind, namespace, name), FieldPath(path))


def service(
    name: str, *ports: int, namespace: str = "default", protocol: Protocol = Protocol.HTTP, **more: Any
) -> Host:
    return Host(
        key=HostKey(f"{name}.{namespace}.svc.cluster.local", namespace),
        origin=origin("Service", namespace, name, group=""),
        ports=tuple(HostPort(port, f"http-{port}", protocol) for port in ports or (80,)),
        resolution=more.pop("resolution", Resolution.CLIENT_SIDE_LB),
        name=name,
        **more,
    )


def external(hostname: str, *ports: int, namespace: str = "default", **more: Any) -> Host:
    return Host(
        key=HostKey(hostname, namespace),
        origin=origin("ServiceEntry", namespace, hostname),
        ports=tuple(HostPort(port, f"http-{port}", Protocol.HTTP) for port in ports or (80,)),
        resolution=Resolution.DNS_LB,
        external=True,
        kubernetes=False,
        **more,
    )


def to(host: str, port: int = 0, subset: str = "", weight: int = 0, **more: Any) -> WeightedDestination:
    return WeightedDestination(Destination(host, subset, port), weight, **more)


def rule(
    *routes: WeightedDestination | str, match: HttpMatch | tuple[HttpMatch, ...] = (), name: str = "", **more: Any
) -> HttpRule:
    return HttpRule(
        origin=origin("VirtualService", "default", "vs", "spec", "http", 0),
        name=name,
        matches=match if isinstance(match, tuple) else (match,),
        routes=tuple(to(one) if isinstance(one, str) else one for one in routes),
        **more,
    )


def route_set(
    name: str,
    hosts: str | tuple[str, ...],
    *rules: HttpRule,
    namespace: str = "default",
    gateways: tuple[str, ...] = (MESH,),
    **more: Any,
) -> RouteSet:
    return RouteSet(
        key=NamespacedName(namespace, name),
        origin=origin("VirtualService", namespace, name),
        hosts=(hosts,) if isinstance(hosts, str) else hosts,
        gateways=gateways,
        http=rules,
        **more,
    )


def server(
    *hosts: str, port: int = 80, protocol: Protocol = Protocol.HTTP, name: str = "http", tls: ServerTls | None = None
) -> GatewayServer:
    return GatewayServer(
        origin("Gateway", "default", "gw", "spec", "servers", 0), port, protocol, name, hosts=hosts, tls=tls
    )


def gateway(name: str, *servers: GatewayServer, namespace: str = "default", **more: Any) -> Gateway:
    more.setdefault("selector", (("istio", "ingressgateway"),))
    own = tuple(
        replace(one, origin=origin("Gateway", namespace, name, "spec", "servers", at)) for at, one in enumerate(servers)
    )
    return Gateway(NamespacedName(namespace, name), origin("Gateway", namespace, name), servers=own, **more)


def hosts_of(config: route_pb2.RouteConfiguration) -> dict[str, route_components_pb2.VirtualHost]:
    return {one.name: one for one in config.virtual_hosts}


def clusters(host: route_components_pb2.VirtualHost) -> list[str]:
    """Where the routes of a virtual host go, in order; weighted ones with their shares."""
    out: list[str] = []
    for one in host.routes:
        if one.route.WhichOneof("cluster_specifier") == "weighted_clusters":
            out.extend(f"{each.name}@{each.weight.value}" for each in one.route.weighted_clusters.clusters)
        elif one.WhichOneof("action") == "route":
            out.append(one.route.cluster)
        else:
            out.append(str(one.WhichOneof("action")))
    return out
