"""Facts for listener tests, put into the tables as a kind would, and a real Envoy to judge the listeners."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from msgspec.structs import replace

from fairlead.compiler.delegates import DELEGATION
from fairlead.compiler.ingresses import GATHERING
from fairlead.compiler.parts import Part, PartsKey, parts
from fairlead.envoy.resource import LISTENER, ROUTE, Resource
from fairlead.inc import Derivation, Engine, Reader, Table
from fairlead.ir.gateway import WRITTEN_GATEWAYS, Gateway, GatewayServer, ServerTls
from fairlead.ir.host import HOSTS, Host, HostKey, HostPort, Resolution
from fairlead.ir.kind import Emission
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import MESH, WRITTEN_ROUTES, Destination, L4Match, L4Rule, RouteSet, WeightedDestination
from fairlead.ir.security import PEER_POLICIES, MtlsMode, PeerPolicy
from fairlead.ir.view import View, pairs
from fairlead.ir.workload import ENDPOINTS, WORKLOADS, Endpoint, EndpointKey, Workload, WorkloadKey
from fairlead.model.diagnostic import Origin
from fairlead.model.launch import Capture
from fairlead.model.ref import NamespacedName, Ref

_EMISSIONS: Table[int, Emission] = Table("test-emissions")
ENVOY = Path(sys.executable).parent / "envoy"


def _emit(_: Reader, __: int, emission: Emission) -> Iterable[Emission]:
    return [emission]


class World:
    """An engine with facts."""

    def __init__(self, *emissions: Emission) -> None:
        self.engine = Engine([Derivation("test-emit", _EMISSIONS, 1, _emit), DELEGATION, GATHERING])
        self._count = 0
        self.put(*emissions)

    def put(self, *emissions: Emission) -> int:
        with self.engine.transaction():
            for one in emissions:
                self._count += 1
                self.engine.put(_EMISSIONS, self._count, one)
        return self._count

    def drop(self, number: int) -> None:
        with self.engine.transaction():
            self.engine.delete(_EMISSIONS, number)

    def names(self, view: View) -> tuple[str, ...]:
        """The names of all listeners of a view, in order."""
        found = [self._made(part) for part in self._parts(LISTENER, view)]
        return tuple(one.name for one in found if one is not None)

    def routes(self, view: View) -> tuple[str, ...]:
        """The names of all route configurations of a view, in order."""
        return tuple(part.key.name for part in self._parts(ROUTE, view))  # type: ignore[attr-defined]

    def resource(self, view: View, name: str) -> Resource:
        found = next(
            (one for part in self._parts(LISTENER, view) if (one := self._made(part)) and one.name == name), None
        )
        assert found is not None, f"no listener {name}"
        return found

    def _parts(self, kind: str, view: View) -> tuple[Part, ...]:
        return self.engine.call(parts, PartsKey(kind, view))

    def _made(self, part: Part) -> Resource | None:
        return self.engine.call(part.rule, part.key)

    def listener(self, view: View, name: str) -> Listener:
        return Listener.FromString(self.resource(view, name).body)

    def all(self, view: View) -> list[Listener]:
        return [self.listener(view, name) for name in self.names(view)]

    def messages(self) -> list[str]:
        assert not self.engine.failures()
        return sorted({str(one) for one in self.engine.reports()})


def origin(kind: str, namespace: str, name: str) -> Origin:
    return Origin(Ref("", kind, namespace, name))


def host(
    name: str,
    *ports: tuple[int, Protocol] | HostPort,
    namespace: str = "default",
    addresses: Sequence[str] = (),
    selector: dict[str, str] | None = None,
    resolution: Resolution = Resolution.CLIENT_SIDE_LB,
    created: str = "",
    external: bool = False,
    kubernetes: bool = True,
) -> Emission:
    key = HostKey(name, namespace)
    made = tuple(
        one if isinstance(one, HostPort) else HostPort(one[0], f"{one[1].value.lower()}-{one[0]}", one[1])
        for one in ports
    )
    fact = Host(
        key,
        origin("Service", namespace, name),
        made,
        resolution,
        tuple(addresses),
        selector=pairs(selector) if selector is not None else None,
        created=created,
        external=external,
        kubernetes=kubernetes,
    )
    return HOSTS, key, fact


def mesh(**settings: Any) -> Emission:
    return MESHES, MESH_KEY, Mesh(**settings)


def policy(
    mode: MtlsMode,
    *,
    name: str = "default",
    namespace: str = "default",
    selector: dict[str, str] | None = None,
    ports: dict[int, MtlsMode] | None = None,
    created: str = "",
) -> Emission:
    key = NamespacedName(namespace, name)
    fact = PeerPolicy(
        key,
        origin("PeerAuthentication", namespace, name),
        pairs(selector or {}),
        mode,
        tuple(sorted((ports or {}).items())),
        created,
    )
    return PEER_POLICIES, key, fact


def to(*destinations: tuple[str, int] | tuple[str, int, int]) -> tuple[WeightedDestination, ...]:
    """Destinations as (host, port) or (host, port, weight)."""
    return tuple(
        WeightedDestination(Destination(one[0], port=one[1]), one[2] if len(one) == 3 else 0) for one in destinations
    )


def l4(routes: tuple[WeightedDestination, ...], *matches: L4Match) -> L4Rule:
    return L4Rule(origin("VirtualService", "default", "rule"), matches, routes)


def routes(
    name: str,
    hosts: Sequence[str],
    *,
    namespace: str = "default",
    gateways: Sequence[str] = (MESH,),
    tls: Sequence[L4Rule] = (),
    tcp: Sequence[L4Rule] = (),
) -> Emission:
    key = NamespacedName(namespace, name)
    where = origin("VirtualService", namespace, name)
    tls, tcp = (tuple(replace(one, origin=where) for one in rules) for rules in (tls, tcp))
    fact = RouteSet(key, where, tuple(hosts), tuple(gateways), tls=tls, tcp=tcp)
    return WRITTEN_ROUTES, key, fact


def workload(
    name: str, address: str, labels: dict[str, str], *, namespace: str = "default", ports: dict[str, int] | None = None
) -> Emission:
    key = WorkloadKey("WorkloadEntry", namespace, name)
    where = origin("WorkloadEntry", namespace, name)
    return WORKLOADS, key, Workload(key, where, address, pairs(labels), "default", tuple((ports or {}).items()))


def endpoint(of: str, address: str, *, namespace: str = "default", ports: dict[str, int] | None = None) -> Emission:
    key = EndpointKey(HostKey(of, namespace), 0)
    where = origin("ServiceEntry", namespace, of)
    return ENDPOINTS, key, Endpoint(key, where, address, ports=tuple((ports or {}).items()))


def gateway(name: str, *servers: GatewayServer, namespace: str = "istio-system") -> Emission:
    key = NamespacedName(namespace, name)
    fact = Gateway(key, origin("Gateway", namespace, name), pairs({"istio": "ingressgateway"}), servers)
    return WRITTEN_GATEWAYS, key, fact


def server(
    port: int, protocol: Protocol, *hosts: str, name: str = "", tls: ServerTls | None = None, bind: str = ""
) -> GatewayServer:
    where = origin("Gateway", "istio-system", "gw")
    return GatewayServer(where, port, protocol, name or f"{protocol.value.lower()}-{port}", "", bind, hosts, tls)


def sidecar(capture: Capture | None = None, **settings: Any) -> View:
    settings.setdefault("labels", pairs({"app": "foo"}))
    settings.setdefault("addresses", ("1.1.1.1",))
    return View("sidecar", settings.pop("namespace", "default"), capture=capture or Capture("redirect"), **settings)


def router(**settings: Any) -> View:
    settings.setdefault("labels", pairs({"istio": "ingressgateway"}))
    return View("router", "istio-system", addresses=("1.1.1.1",), capture=Capture("none"), **settings)


def http_of(chain: FilterChain) -> HttpConnectionManager:
    manager = HttpConnectionManager()
    assert chain.filters[-1].typed_config.Unpack(manager), chain.filters[-1].name
    return manager


def tcp_of(chain: FilterChain) -> TcpProxy:
    proxy = TcpProxy()
    assert chain.filters[-1].typed_config.Unpack(proxy), chain.filters[-1].name
    return proxy


def is_http(chain: FilterChain) -> bool:
    return chain.filters[-1].name == "envoy.filters.network.http_connection_manager"


def clusters_of(listeners: Iterable[Listener]) -> set[str]:
    """The clusters to which listeners refer without a route configuration of their own."""
    found = {"sds-grpc", "ads"}
    for one in listeners:
        for chain in (*one.filter_chains, one.default_filter_chain):
            if not chain.filters:
                continue
            if is_http(chain):
                inline = http_of(chain).route_config
                found.update(route.route.cluster for vhost in inline.virtual_hosts for route in vhost.routes)
            else:
                proxy = tcp_of(chain)
                found.update([proxy.cluster, *(each.name for each in proxy.weighted_clusters.clusters)])
    return found - {""}


def bootstrap(listeners: Sequence[Listener], clusters: Iterable[Cluster] = ()) -> Bootstrap:
    """A bootstrap with these listeners; clusters that are not given lead nowhere."""
    made = Bootstrap()
    made.node.id, made.node.cluster = "test", "test"
    made.static_resources.listeners.extend(listeners)
    given = list(clusters)
    made.static_resources.clusters.extend(given)
    for name in sorted(clusters_of(listeners) - {one.name for one in given}):
        cluster = made.static_resources.clusters.add(name=name, type=Cluster.STATIC)
        cluster.load_assignment.cluster_name = name
    made.dynamic_resources.ads_config.api_type = 2
    made.dynamic_resources.ads_config.transport_api_version = 2
    made.dynamic_resources.ads_config.grpc_services.add().envoy_grpc.cluster_name = "ads"
    return made


def judged(listeners: Sequence[Listener], directory: Path) -> None:
    """Fail unless real Envoy accepts these listeners."""
    judge(bootstrap(listeners), directory)


_KEPT = (
    *("Cluster.dns_refresh_rate", "Cluster.dns_jitter", "Cluster.respect_dns_ttl"),
    "Principal.metadata",
)
"""Deprecated in favour of newer fields. Istio sets them, and so do we, as EnvoyFilters and tools reach for them."""


def judge(made: Bootstrap, directory: Path) -> None:
    """Fail unless real Envoy accepts this bootstrap."""
    if not ENVOY.exists():
        pytest.skip(f"no Envoy at {ENVOY}")
    path = directory / "bootstrap.pb"
    path.write_bytes(made.SerializeToString())
    done = subprocess.run(
        [ENVOY, "--mode", "validate", "-c", path, "-l", "warning"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    # Envoy 1.40 says OK and then crashes while it tears down a validated stats access logger: the verdict counts.
    verdict = f"configuration '{path}' OK" in done.stdout
    assert verdict and done.returncode in (0, -signal.SIGSEGV, -signal.SIGABRT), done.stderr + done.stdout
    complaints = [
        line for line in done.stderr.splitlines() if "deprecated" in line.lower() and not any(map(line.count, _KEPT))
    ]
    assert not complaints, complaints
