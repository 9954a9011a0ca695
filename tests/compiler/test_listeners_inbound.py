"""Inbound listeners: which ports, which mTLS, which chains; real Envoy accepts them."""

from __future__ import annotations

from pathlib import Path

import pytest
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from listener_facts import World, endpoint, host, http_of, is_http, judged, mesh, policy, sidecar, tcp_of, workload

from fairlead.compiler.inbound import InboundPort, inbound_listener, inbound_ports
from fairlead.compiler.mtls import MtlsKey, inbound_mtls
from fairlead.envoy.resource import LISTENER, Resource, apart
from fairlead.inc import Reader, rule
from fairlead.ir.host import HostPort
from fairlead.ir.protocol import Protocol
from fairlead.ir.view import View, pairs
from fairlead.model.launch import AppPort, Capture

WEB = host(
    "web.default.svc.cluster.local",
    HostPort(80, "http", Protocol.HTTP, 8080),
    HostPort(9000, "tcp", Protocol.TCP),
    HostPort(7000, "any", Protocol.AUTO),
    selector={"app": "foo"},
    created="1",
)


@rule
def _ports(r: Reader, view: View) -> tuple[InboundPort, ...]:
    return inbound_ports(r, view)


def _inbound(world: World, view: View | None = None) -> Listener:
    return world.listener(view or sidecar(), "virtualInbound")


def _ways(made: Listener, port: int) -> list[tuple[str, str, bool, bool]]:
    """(transport, first application protocol, TLS ended, HTTP parsed) of a port's chains."""
    return [
        (
            one.filter_chain_match.transport_protocol,
            (list(one.filter_chain_match.application_protocols) or [""])[0],
            one.HasField("transport_socket"),
            is_http(one),
        )
        for one in made.filter_chains
        if one.filter_chain_match.destination_port.value == port
    ]


def _chain(made: Listener, port: int, transport: str) -> FilterChain:
    return next(
        one
        for one in made.filter_chains
        if one.filter_chain_match.destination_port.value == port
        and one.filter_chain_match.transport_protocol == transport
    )


def test_permissive_by_default(tmp_path: Path) -> None:
    world = World(WEB)
    made = _inbound(world)
    socket = made.address.socket_address
    assert (socket.address, socket.port_value) == ("0.0.0.0", 15006)
    assert made.filter_chains[0].name == "virtualInbound-blackhole"
    assert _ways(made, 15006) == [("", "", False, False)]
    detected = [
        ("tls", "istio-http/1.0", True, True),
        ("raw_buffer", "http/1.1", False, True),
        ("tls", "istio-peer-exchange", True, False),
        ("raw_buffer", "", False, False),
        ("tls", "", False, False),
    ]
    assert _ways(made, 0) == detected
    assert _ways(made, 7000) == detected
    assert _ways(made, 8080) == [("tls", "istio", True, True), ("raw_buffer", "", False, True)]
    assert _ways(made, 9000) == [
        ("tls", "istio", True, False),
        ("raw_buffer", "", False, False),
        ("tls", "", False, False),
    ]
    names = [one.name for one in made.filter_chains]
    assert names[1:6] == [
        "virtualInbound-catchall-http",
        "virtualInbound-catchall-http",
        "virtualInbound",
        "virtualInbound",
        "virtualInbound",
    ]
    assert names[6] == "0.0.0.0_7000"
    assert [one.name.rpartition(".")[2] for one in made.listener_filters] == [
        "original_dst",
        "tls_inspector",
        "http_inspector",
    ]
    disabled = made.listener_filters[2].filter_disabled.or_match.rules
    assert [one.destination_port_range.start for one in disabled] == [8080, 9000, 15006]
    judged(world.all(sidecar()), tmp_path)


def test_http_names_peers_and_sends_to_the_application() -> None:
    manager = http_of(_chain(_inbound(World(WEB)), 8080, "raw_buffer"))
    assert manager.stat_prefix == "inbound_0.0.0.0_8080;"
    assert manager.server_name == "istio-envoy"
    assert manager.forward_client_cert_details == HttpConnectionManager.APPEND_FORWARD
    shown = manager.set_current_client_cert_details
    assert (shown.subject.value, shown.uri, shown.dns, shown.cert) == (True, True, True, False)
    assert manager.stream_idle_timeout.seconds == 0
    assert manager.HasField("stream_idle_timeout")
    (vhost,) = manager.route_config.virtual_hosts
    assert manager.route_config.name == "inbound|8080||"
    assert vhost.name == "inbound|http|80"
    assert vhost.routes[0].route.cluster == "inbound|8080||"
    assert vhost.routes[0].decorator.operation == "web.default.svc.cluster.local:80/*"


def test_mesh_tls_requires_a_certificate() -> None:
    context = DownstreamTlsContext()
    assert _chain(_inbound(World(WEB)), 8080, "tls").transport_socket.typed_config.Unpack(context)
    assert context.require_client_certificate.value
    common = context.common_tls_context
    assert common.tls_certificate_sds_secret_configs[0].name == "default"
    assert common.combined_validation_context.validation_context_sds_secret_config.name == "ROOTCA"
    assert list(common.alpn_protocols) == ["h2", "http/1.1"]


@pytest.mark.parametrize(
    ("mode", "web", "tcp", "auto"),
    [
        ("STRICT", [("tls", "", True, True)], [("tls", "", True, False)], 2),
        ("DISABLE", [("raw_buffer", "", False, True)], [("raw_buffer", "", False, False)], 2),
    ],
)
def test_strict_and_disabled(tmp_path: Path, mode: str, web: object, tcp: object, auto: int) -> None:
    world = World(WEB, policy(mode))  # type: ignore[arg-type]
    made = _inbound(world)
    assert _ways(made, 8080) == web
    assert _ways(made, 9000) == tcp
    assert len(_ways(made, 0)) == len(_ways(made, 7000)) == auto
    judged(world.all(sidecar()), tmp_path)


def test_port_modes_reach_ports_that_no_host_has() -> None:
    made = _inbound(World(WEB, policy("STRICT", selector={"app": "foo"}, ports={9999: "DISABLE", 8080: "PERMISSIVE"})))
    assert [one[0] for one in _ways(made, 9999)] == ["raw_buffer", "raw_buffer"]
    bytes_chain = [one for one in made.filter_chains if one.filter_chain_match.destination_port.value == 9999][1]
    assert tcp_of(bytes_chain).cluster == "InboundPassthroughCluster"
    assert [one[0] for one in _ways(made, 8080)] == ["tls", "raw_buffer"]
    assert [one[0] for one in _ways(made, 9000)] == ["tls"]
    tls = next(one for one in made.listener_filters if one.name.endswith("tls_inspector"))
    assert [one.destination_port_range.start for one in tls.filter_disabled.or_match.rules] == [9999, 15006]


def _mode(world: World, port: int = 0, namespace: str = "default", **labels: str) -> str:
    return world.engine.call(inbound_mtls, MtlsKey(namespace, pairs(labels), port))


def test_the_narrower_policy_wins_and_unset_inherits() -> None:
    world = World(policy("STRICT", namespace="istio-system"))
    assert _mode(World()) == "PERMISSIVE"
    assert _mode(world) == "STRICT"
    world.put(policy("DISABLE"))
    assert _mode(world) == "DISABLE"
    assert _mode(world, namespace="other") == "STRICT"
    world.put(policy("UNSET", name="w", selector={"app": "a"}, ports={80: "PERMISSIVE", 81: "UNSET"}))
    assert _mode(world, app="a") == "DISABLE"
    assert _mode(world, 80, app="a") == "PERMISSIVE"
    assert _mode(world, 81, app="a") == "DISABLE"
    assert _mode(world, 80, app="b") == "DISABLE"


def test_the_oldest_policy_of_a_kind_wins() -> None:
    world = World(policy("STRICT", name="a", created="2"), policy("DISABLE", name="b", created="1"))
    assert _mode(world) == "DISABLE"
    world.put(policy("STRICT", namespace="istio-system", name="x", selector={"app": "a"}))
    assert _mode(world, namespace="istio-system", app="a") == "PERMISSIVE", "a selector says nothing in the root"


def test_ports_come_from_hosts_endpoints_and_the_application() -> None:
    world = World(
        WEB,
        host("se.example.com", HostPort(443, "tls", Protocol.TLS), HostPort(81, "h", Protocol.HTTP), kubernetes=False),
        endpoint("se.example.com", "1.1.1.1", ports={"tls": 8443}),
        host("named.default.svc.cluster.local", HostPort(80, "http", Protocol.HTTP, "metrics"), selector={"app": "foo"},
             created="2"),
        workload("w", "1.1.1.1", {"app": "foo"}, ports={"metrics": 9100}),
        host("no.default.svc.cluster.local", (1, Protocol.HTTP), selector={"app": "foo", "version": "v2"}),
        host("far.other.svc.cluster.local", (2, Protocol.HTTP), selector={"app": "foo"}, namespace="other"),
    )  # fmt: skip
    view = sidecar(ports=(AppPort(8080, "http", "grpc"), AppPort(5000, "http-admin")))
    found = world.engine.call(_ports, view)
    assert [(one.port, one.protocol, one.service_port) for one in found] == [
        (81, Protocol.HTTP, 81),
        (5000, Protocol.HTTP, 5000),
        (7000, Protocol.AUTO, 7000),
        (8080, Protocol.HTTP, 80),
        (8443, Protocol.TLS, 443),
        (9000, Protocol.TCP, 9000),
        (9100, Protocol.HTTP, 80),
    ]


def test_hosts_that_disagree_are_reported() -> None:
    world = World(
        WEB, host("late.default.svc.cluster.local", (8080, Protocol.TCP), selector={"app": "foo"}, created="2")
    )
    assert _ways(_inbound(world), 8080)[0][3]
    (said,) = world.messages()
    assert "late.default.svc.cluster.local" in said
    assert "port 8080" in said


@pytest.mark.parametrize("mode", ["explicit", "netns"])
def test_without_redirection_every_port_is_bound_at_the_workloads_address(tmp_path: Path, mode: str) -> None:
    capture = Capture(mode, netns="/run/netns/a" if mode == "netns" else "", outbound_address="127.66.128.1")  # type: ignore[arg-type]
    view = sidecar(capture, addresses=("127.66.0.1",), ports=(AppPort(5000, "tcp"),))
    world = World(WEB, policy("STRICT"))
    made = _inbound(world, view)
    assert made.address.socket_address.address == "127.66.0.1"
    assert not made.address.socket_address.network_namespace_filepath
    more = [one.address.socket_address for one in made.additional_addresses]
    assert [(one.address, one.port_value) for one in more] == [
        ("127.66.0.1", 5000),
        ("127.66.0.1", 7000),
        ("127.66.0.1", 8080),
        ("127.66.0.1", 9000),
    ]
    assert all(one.name != "virtualInbound" for one in made.filter_chains)
    assert "envoy.filters.listener.original_dst" not in [one.name for one in made.listener_filters]
    judged([made], tmp_path)


def test_access_logs(tmp_path: Path) -> None:
    world = World(WEB, mesh(access_log_file="/dev/stdout"))
    made = _inbound(world)
    assert made.access_log[0].filter.response_flag_filter.flags == ["NR"]
    manager = http_of(_chain(made, 8080, "raw_buffer"))
    # On a chain without mutual TLS a second one counts the callers in plain text.
    counted = "envoy.access_loggers.stats"
    assert [one.name for one in manager.access_log] == [counted, counted, "envoy.access_loggers.file", counted]
    assert b"%UPSTREAM_CLUSTER_RAW%" in manager.access_log[2].typed_config.value
    judged(world.all(sidecar()), tmp_path)
    for text in ("", '{"who": "%REQ(:AUTHORITY)%"}'):
        other = World(WEB, mesh(access_log_file="/dev/stdout", access_log_encoding="JSON", access_log_format=text))
        judged(other.all(sidecar()), tmp_path)


def test_bytes_are_the_same_in_another_engine() -> None:
    facts = [WEB, policy("STRICT"), mesh(access_log_file="/dev/stdout", access_log_encoding="JSON")]
    one, two = World(*facts), World(*reversed(facts))
    for name in one.names(sidecar()):
        assert one.resource(sidecar(), name) == two.resource(sidecar(), name)


def test_pieces_come_to_the_bytes_of_the_message_and_what_is_alike_is_shared() -> None:
    """Serialised anew the listener has the same bytes, and two workloads differ in their routes alone."""
    other = host(
        "api.default.svc.cluster.local", HostPort(80, "http", Protocol.HTTP, 8080), selector={"app": "bar"}, created="1"
    )
    like = host(
        "web.default.svc.cluster.local", HostPort(80, "http", Protocol.HTTP, 8080), selector={"app": "foo"}, created="1"
    )
    engine = World(like, other).engine
    one, two = (engine.call(inbound_listener, sidecar(labels=pairs({"app": name}))) for name in ("foo", "bar"))
    assert one is not None and two is not None
    for found in (one, two):
        assert Listener.FromString(found.body).SerializeToString(deterministic=True) == found.body
        assert found.version == Resource.of(LISTENER, found.name, found.body).version
    kept = {id(piece) for piece in one.pieces}
    own = [piece.body for piece in two.pieces if id(piece) not in kept]
    assert own and all(b"api.default" in body for body in own)
    assert sum(map(len, own)) * 5 < two.size
    assert apart(one, two) == (one.body, two.body), "pieces of a chain say nothing by themselves"
