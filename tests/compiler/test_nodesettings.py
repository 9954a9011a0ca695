"""What a proxy's node says of connections, and what is asked before a body is sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from listener_facts import World, host, sidecar
from live_envoy import all_to, envoy, local, to_address
from tests.loopback import free_port

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.resource import LISTENER
from fairlead.ir.protocol import Protocol
from fairlead.ir.view import View, view_of_node
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents

MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: app}
spec:
  hosts: [web.example]
  addresses: [10.9.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.0.1.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: slow, namespace: app}
spec:
  hosts: [slow.example]
  addresses: [10.9.0.2]
  ports: [{number: 91, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.0.1.1}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: slow, namespace: app}
spec: {host: slow.example, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 60s}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: app}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
"""
ID = "sidecar~10.0.0.1~x.app~app.svc.cluster.local"


def listeners(view: View) -> dict[str, Listener]:
    model = MeshModel()
    load(model, parse_documents(MESH, "mesh.yaml"))
    return {name: Listener.FromString(one.body) for name, one in model.compile(view)[LISTENER].items()}


def node(kind: str = "sidecar", **metadata: object) -> View:
    return view_of_node(ID.replace("sidecar", kind), {"FAIRLEAD_PORTS": [{"port": 8080}], **metadata})


def _managers(made: Listener) -> Iterator[HttpConnectionManager]:
    for one in (*made.filter_chains, made.default_filter_chain):
        found = HttpConnectionManager()
        if one.filters and one.filters[-1].typed_config.Unpack(found):
            yield found


def _idle(chains: Iterator[FilterChain]) -> set[int]:
    found: set[int] = set()
    for one in chains:
        proxy = TcpProxy()
        if one.filters and one.filters[-1].typed_config.Unpack(proxy) and proxy.cluster != "BlackHoleCluster":
            found.add(proxy.idle_timeout.seconds if proxy.HasField("idle_timeout") else -1)
    return found


def _chains(made: Listener) -> Iterator[FilterChain]:
    yield from made.filter_chains
    yield made.default_filter_chain


@pytest.mark.parametrize(("said", "seconds"), [("30s", 30), ("", -1), ("invalid-30s", -1), ("-1s", -1)])
def test_connections_without_traffic_end(said: str, seconds: int) -> None:
    """As Istio's `TestOutboundNetworkFilterIdleTimeout`: the traffic policy of a host goes first."""
    made = listeners(node(IDLE_TIMEOUT=said))
    for name in ("virtualInbound", "virtualOutbound", "0.0.0.0_80", "10.9.0.1_90"):
        assert _idle(_chains(made[name])) == {seconds}, name
    assert _idle(_chains(made["10.9.0.2_91"])) == {60}
    for name in ("virtualInbound", "0.0.0.0_80"):
        for one in _managers(made[name]):
            idle = one.common_http_protocol_options
            assert (idle.idle_timeout.seconds if idle.HasField("idle_timeout") else -1) == seconds


def test_old_clients_are_served_where_a_workload_says_so() -> None:
    for kind, names in (("sidecar", ("virtualInbound", "0.0.0.0_80")), ("router", ("0.0.0.0_80",))):
        for said, wanted in (("1", True), ("0", False)):
            made = listeners(node(kind, HTTP10=said))
            found = {one.http_protocol_options.accept_http_10 for name in names for one in _managers(made[name])}
            assert found == {wanted}


def test_workers_take_connections_in_turn_where_a_workload_says_so() -> None:
    inbound = listeners(node(INBOUND_LISTENER_EXACT_BALANCE="true"))
    outbound = listeners(node(OUTBOUND_LISTENER_EXACT_BALANCE="true"))
    balanced = [
        {name for name, one in made.items() if one.connection_balance_config.HasField("exact_balance")}
        for made in (inbound, outbound)
    ]
    # Not where redirected connections arrive: they go on to the others.
    assert balanced == [{"virtualInbound"}, {"0.0.0.0_80", "10.9.0.1_90", "10.9.0.2_91"}]
    edge = listeners(node("router", OUTBOUND_LISTENER_EXACT_BALANCE="true"))
    assert edge["0.0.0.0_80"].connection_balance_config.HasField("exact_balance")


def test_a_workload_may_have_an_http_proxy_of_its_own() -> None:
    assert "127.0.0.1_15080" in listeners(node(HTTP_PROXY_PORT="15080"))
    for said in ("", "x", "123456"):
        assert listeners(node(HTTP_PROXY_PORT=said)).keys() == listeners(node()).keys()


class _Refusing:
    """Answers 417 to the head of a request, and reads nothing more."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server(("127.66.64.78", port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._socket.accept()
                with stream:
                    stream.recv(65536)
                    stream.sendall(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.mark.e2e
def test_the_server_says_whether_it_wants_a_body(tmp_path: Path) -> None:
    bound = "127.66.128.78"
    called, real = free_port(bound), free_port("127.66.64.78")
    name = "web.default.svc.cluster.local"
    world = World(host(name, (called, Protocol.HTTP)))
    view = sidecar(Capture("explicit", outbound_address=bound), addresses=("127.66.0.78",))
    cluster = f"outbound|{called}||{name}"
    made = local(world.listener(view, f"{bound}_{called}"), routes={str(called): all_to(str(called), cluster)})
    server = _Refusing(real)
    try:
        with (
            envoy([made], [to_address(cluster, "127.66.64.78", real)], tmp_path),
            socket.create_connection((bound, called), timeout=10) as stream,
        ):
            stream.sendall(b"POST / HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
            assert stream.recv(65536).startswith(b"HTTP/1.1 417")
    finally:
        server.close()
