"""Sidecars with IPv6 addresses, and with addresses of both families: real capture rules, kernel and Envoy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from fairlead.cli.capture import capture
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.ir.view import View
from fairlead.model.launch import AppPort, Capture
from fairlead.model.yaml import parse_documents
from tests.node.pod import Pod

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None or not Path("/proc/net/if_inet6").exists(),
    reason="needs root, ip and IPv6",
)

SERVICES = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: app}
spec: {mtls: {mode: DISABLE}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: world, namespace: app}
spec:
  hosts: [world.example]
  addresses: [10.231.9.9, "fd00:231:9::9"]
  ports: [{number: 9000, name: http, protocol: HTTP}, {number: 9001, name: tcp, protocol: TCP}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: 10.231.7.1}, {address: "fd00:231:7::1"}]
"""


def bootstrap(catalog: Catalog) -> Bootstrap:
    """All listeners and clusters, with their routes and endpoints put in: Envoy needs no server."""
    made = Bootstrap()
    made.node.id, made.node.cluster = "pod", "pod"
    routes = {name: RouteConfiguration.FromString(one.body) for name, one in catalog[ROUTE].items()}
    for one in catalog[LISTENER].values():
        listener = made.static_resources.listeners.add()
        listener.ParseFromString(one.body)
        _put_in(listener, routes)
    for name, one in catalog[CLUSTER].items():
        cluster = made.static_resources.clusters.add()
        cluster.ParseFromString(one.body)
        if cluster.type == Cluster.EDS:
            cluster.type = Cluster.STATIC
            cluster.ClearField("eds_cluster_config")
            cluster.load_assignment.CopyFrom(ClusterLoadAssignment.FromString(catalog[ENDPOINT][name].body))
    return made


def _put_in(listener: Listener, routes: dict[str, RouteConfiguration]) -> None:
    for chain in (*listener.filter_chains, listener.default_filter_chain):
        manager = HttpConnectionManager()
        if chain.filters and chain.filters[-1].typed_config.Unpack(manager) and manager.HasField("rds"):
            manager.route_config.CopyFrom(routes[manager.rds.route_config_name])
            chain.filters[-1].typed_config.CopyFrom(pack(manager))
    if not listener.default_filter_chain.filters:
        listener.ClearField("default_filter_chain")


@pytest.fixture(params=[(6,), (4, 6)], ids=["IPv6", "both"])
def pod(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pod]:
    try:
        made = Pod(tmp_path, *request.param)
    except RuntimeError as error:
        pytest.skip(f"no network namespaces with IPv6 here: {error}")
    try:
        yield made
    finally:
        made.close()


def test_calls_of_every_family_of_the_workload_pass_through_its_sidecar(pod: Pod) -> None:
    chosen = ("inbound-ports-include=*", "outbound-ip-ranges-include=*", "enable-ipv6=true")
    options = [part for one in chosen for part in ("--set", one)]
    done = CliRunner().invoke(capture, ["rules", *options, "--apply", pod.name])
    assert done.exit_code == 0, done.output
    model = MeshModel()
    load(model, parse_documents(SERVICES, "services.yaml"))
    ports = (AppPort(8080, "http"),)
    view = View("sidecar", "app", addresses=tuple(pod.addresses), ports=ports, capture=Capture("redirect"))
    pod.run(bootstrap(model.compile(view)))
    families = {"fd00:231:7::2": ("fd00:231:7::1", "fd00:231:9::9", "::6")}
    families["10.231.7.2"] = ("10.231.7.1", "10.231.9.9", "127.0.0.6")
    for own in pod.addresses:
        outside = families[own][0]
        pod.serve(pod.name, "app", 8080, own)
        for port in (9000, 9001, 9002):
            pod.serve(pod.world, "world", port, outside)
    for own in pod.addresses:
        outside, virtual, source = families[own]
        assert pod.ask(pod.world, own, 8080, "envoy") == (f"app saw {source}", "envoy")
        # By HTTP, by bytes, and to a port of which the mesh knows nothing. Where both families are, either may be
        # dialled for a virtual address.
        said, through = pod.ask(pod.name, virtual, 9000, "proxied")
        assert said.removeprefix("world saw ") in pod.addresses
        assert through == "proxied"
        said, through = pod.ask(pod.name, virtual, 9001)
        assert said.removeprefix("world saw ") in pod.addresses
        assert through is None
        assert pod.ask(pod.name, outside, 9002) == (f"world saw {own}", None)


EDGE = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: app}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: app}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: world.example, port: {number: 9000}}}]}]
"""


def test_a_gateway_is_reached_at_its_addresses_of_every_family(pod: Pod) -> None:
    model = MeshModel()
    load(model, parse_documents(SERVICES + EDGE, "services.yaml"))
    pod.run(bootstrap(model.compile(View("router", "app", addresses=tuple(pod.addresses), capture=Capture("none")))))
    outside = {"fd00:231:7::2": "fd00:231:7::1", "10.231.7.2": "10.231.7.1"}
    for own in pod.addresses:
        pod.serve(pod.world, "world", 9000, outside[own])
    for own in pod.addresses:
        said, _ = pod.ask(pod.world, own, 80)
        assert said.removeprefix("world saw ") in pod.addresses
