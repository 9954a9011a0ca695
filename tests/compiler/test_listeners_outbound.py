"""Outbound listeners: which there are, how hosts share them, and that real Envoy accepts them."""

from __future__ import annotations

from pathlib import Path

import pytest
from listener_facts import World, host, http_of, is_http, judged, l4, mesh, routes, sidecar, tcp_of, to, workload

from fairlead.ir.host import Resolution
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import L4Match
from fairlead.ir.view import View, pairs
from fairlead.model.launch import Capture

WEB = host("web.default.svc.cluster.local", (80, Protocol.HTTP), addresses=["10.0.0.1"])
API = host("api.default.svc.cluster.local", (80, Protocol.GRPC), addresses=["10.0.0.2"])
DB = host("db.default.svc.cluster.local", (5432, Protocol.TCP), addresses=["10.0.0.3"])
AUTO = host("auto.default.svc.cluster.local", (7000, Protocol.AUTO), addresses=["10.0.0.4"])
TLS = host("tls.default.svc.cluster.local", (443, Protocol.TLS), addresses=["10.0.0.5"])
EXPLICIT = Capture("explicit", app_address="127.66.64.1", outbound_address="127.66.128.1")


def test_names_and_routes_follow_istio(tmp_path: Path) -> None:
    world = World(WEB, API, DB, AUTO, TLS)
    view = sidecar()
    assert world.names(view) == (
        "0.0.0.0_80",
        "10.0.0.5_443",
        "10.0.0.3_5432",
        "10.0.0.4_7000",
        "virtualOutbound",
        "virtualInbound",
    )
    assert world.routes(view) == ("80", "auto.default.svc.cluster.local:7000")
    judged(world.all(view), tmp_path)
    assert world.messages() == []


def test_virtual_outbound_keeps_its_own_port_from_itself() -> None:
    made = World(mesh(outbound_policy="REGISTRY_ONLY")).listener(sidecar(), "virtualOutbound")
    assert made.use_original_dst.value
    assert (made.address.socket_address.address, made.address.socket_address.port_value) == ("0.0.0.0", 15001)
    black_hole, rest = made.filter_chains
    assert black_hole.name == "virtualOutbound-blackhole"
    assert black_hole.filter_chain_match.destination_port.value == 15001
    assert rest.name == "virtualOutbound-catchall-tcp"
    assert tcp_of(black_hole).cluster == tcp_of(rest).cluster == "BlackHoleCluster"
    assert tcp_of(World().listener(sidecar(), "virtualOutbound").filter_chains[1]).cluster == "PassthroughCluster"


def test_http_hosts_share_a_listener_and_other_bytes_fall_through() -> None:
    made = World(WEB, API).listener(sidecar(), "0.0.0.0_80")
    assert not made.bind_to_port.value
    assert made.HasField("bind_to_port")
    assert [one.name for one in made.listener_filters] == [
        "envoy.filters.listener.tls_inspector",
        "envoy.filters.listener.http_inspector",
    ]
    (only,) = made.filter_chains
    assert list(only.filter_chain_match.application_protocols) == ["http/1.1", "h2c"]
    manager = http_of(only)
    assert manager.rds.route_config_name == "80"
    assert manager.stat_prefix == "outbound_0.0.0.0_80;"
    assert not manager.use_remote_address.value
    assert [one.name for one in manager.http_filters][-3:] == [
        "envoy.filters.http.fault",
        "envoy.filters.http.cors",
        "envoy.filters.http.router",
    ]
    assert made.default_filter_chain.name == "PassthroughFilterChain"
    assert tcp_of(made.default_filter_chain).cluster == "PassthroughCluster"


def test_detected_protocol_at_an_address_has_routes_of_its_own() -> None:
    world = World(AUTO, mesh(protocol_detection_timeout=0.1))
    made = world.listener(sidecar(), "10.0.0.4_7000")
    (http,) = made.filter_chains
    assert http_of(http).rds.route_config_name == "auto.default.svc.cluster.local:7000"
    tcp = made.default_filter_chain
    assert tcp_of(tcp).cluster == "outbound|7000||auto.default.svc.cluster.local"
    assert tcp.filters[0].name == "envoy.filters.network.set_filter_state"
    assert made.listener_filters_timeout.nanos == 100_000_000
    assert made.continue_on_listener_filters_timeout


def test_tcp_at_an_address_is_not_inspected() -> None:
    made = World(DB).listener(sidecar(), "10.0.0.3_5432")
    assert not made.listener_filters
    (only,) = made.filter_chains
    assert not only.HasField("filter_chain_match")
    assert tcp_of(only).cluster == "outbound|5432||db.default.svc.cluster.local"


def test_hosts_without_addresses_share_by_sni_and_the_first_tcp_host_stands(tmp_path: Path) -> None:
    world = World(
        host("b.example.com", (443, Protocol.TLS), kubernetes=False, external=True, resolution=Resolution.DNS_LB),
        host("a.example.com", (443, Protocol.HTTPS), kubernetes=False, external=True, resolution=Resolution.DNS_LB),
        host("late.example.com", (443, Protocol.TCP), created="2", kubernetes=False),
        host("early.example.com", (443, Protocol.TCP), created="1", kubernetes=False),
        host("web.example.com", (443, Protocol.HTTP), created="3", kubernetes=False),
    )
    view = sidecar()
    made = world.listener(view, "0.0.0.0_443")
    assert [list(one.filter_chain_match.server_names) for one in made.filter_chains] == [
        ["a.example.com"],
        ["b.example.com"],
        [],
    ]
    assert is_http(made.filter_chains[-1])
    assert tcp_of(made.default_filter_chain).cluster == "outbound|443||early.example.com"
    (said,) = world.messages()
    assert "late.example.com is not reachable at 0.0.0.0" in said
    judged(world.all(view), tmp_path)


def test_networks_are_matched_and_single_addresses_are_listeners(tmp_path: Path) -> None:
    world = World(
        host("net.example.com", (3306, Protocol.TCP), addresses=["10.1.0.0/16", "10.9.9.9/32"], kubernetes=False),
        host("other.example.com", (3306, Protocol.TCP), addresses=["10.2.0.0/16"], kubernetes=False),
    )
    view = sidecar()
    assert world.names(view)[:2] == ("0.0.0.0_3306", "10.9.9.9_3306")
    made = world.listener(view, "0.0.0.0_3306")
    ranges = [one.filter_chain_match.prefix_ranges[0].address_prefix for one in made.filter_chains]
    assert ranges == ["10.1.0.0", "10.2.0.0"]
    assert made.default_filter_chain.name == "PassthroughFilterChain"
    judged(world.all(view), tmp_path)


def test_shared_address_goes_to_the_first_host() -> None:
    world = World(
        host("blah1.somedomain", (9999, Protocol.TCP), addresses=["1.1.1.2"], kubernetes=False),
        host("blah2.somedomain", (9999, Protocol.TCP), addresses=["2.2.2.2", "1.1.1.2"], kubernetes=False),
    )
    for address, wanted in (("2.2.2.2", "blah2.somedomain"), ("1.1.1.2", "blah1.somedomain")):
        made = world.listener(sidecar(), f"{address}_9999")
        assert tcp_of(made.filter_chains[0]).cluster == f"outbound|9999||{wanted}"


def test_server_first_protocols_share_with_nobody() -> None:
    world = World(
        host("mysql.example.com", (3306, Protocol.MYSQL), created="1", kubernetes=False),
        host("web.example.com", (3306, Protocol.HTTP), created="2", kubernetes=False),
    )
    made = world.listener(sidecar(), "0.0.0.0_3306")
    assert not made.listener_filters
    assert not world.routes(sidecar())
    assert "port 3306 of web.example.com is not reachable" in world.messages()[0]


def test_nobody_stands_where_redirected_connections_arrive(tmp_path: Path) -> None:
    """Envoy refuses the second of two listeners at one address, which could be the one that takes all connections."""
    there = host("there.example", (15001, Protocol.HTTP), (15006, Protocol.TCP), (15090, Protocol.TCP))
    world = World(there)
    assert world.names(sidecar()) == ("0.0.0.0_15090", "virtualOutbound", "virtualInbound")
    assert "15001" not in world.routes(sidecar())
    judged(world.all(sidecar()), tmp_path)
    assert len(world.messages()) == 2


def test_headless_instances_have_listeners_except_the_proxys_own() -> None:
    world = World(
        host("redis.default.svc.cluster.local", (6379, Protocol.TCP), selector={"app": "foo"},
             resolution=Resolution.PASSTHROUGH),
        workload("a", "1.1.1.1", {"app": "foo"}),
        workload("b", "1.1.1.9", {"app": "foo"}),
    )  # fmt: skip
    assert world.names(sidecar())[0] == "1.1.1.9_6379"
    assert "1.1.1.1_6379" not in world.names(sidecar())
    assert "1.1.1.1_6379" in world.names(sidecar(addresses=("5.5.5.5",)))


def test_tls_routes_choose_by_sni_and_weight(tmp_path: Path) -> None:
    world = World(
        host("*.example.com", (443, Protocol.TLS), kubernetes=False, external=True),
        host("egress.istio-system.svc.cluster.local", (443, Protocol.TLS), addresses=["10.0.0.9"]),
        routes(
            "split",
            ["*.example.com"],
            tls=[
                l4(to(("one.example.com", 443, 75), ("two.example.com", 443, 25)), L4Match(("one.example.com",))),
                l4(to(("x", 1)), L4Match(("two.example.com",), source_labels=(("app", "bar"),))),
                l4(to(("y", 1)), L4Match(("two.example.com",), port=444)),
                l4(to(("egress.istio-system.svc.cluster.local", 0)), L4Match(("two.example.com",))),
            ],
        ),
    )
    view = sidecar()
    made = world.listener(view, "0.0.0.0_443")
    first, second = made.filter_chains
    assert [(one.name, one.weight) for one in tcp_of(first).weighted_clusters.clusters] == [
        ("outbound|443||one.example.com", 75),
        ("outbound|443||two.example.com", 25),
    ]
    assert tcp_of(first).stat_prefix == "split.default"
    assert tcp_of(second).cluster == "outbound|443||egress.istio-system.svc.cluster.local"
    other = world.listener(sidecar(labels=pairs({"app": "bar"})), "0.0.0.0_443")
    assert tcp_of(other.filter_chains[1]).cluster == "outbound|1||x"
    judged(world.all(view), tmp_path)


def test_rules_for_one_host_of_a_wildcard() -> None:
    world = World(
        host("*.wiki.org", (443, Protocol.TLS), kubernetes=False, external=True),
        routes("en", ["en.wiki.org"], tls=[l4(to(("egress", 443)), L4Match(("en.wiki.org",)))]),
    )
    (chain,) = world.listener(sidecar(), "0.0.0.0_443").filter_chains
    assert list(chain.filter_chain_match.server_names) == ["en.wiki.org"]


def test_tcp_routes_by_subnet_and_as_a_whole(tmp_path: Path) -> None:
    world = World(
        DB,
        host("v2.default.svc.cluster.local", (5432, Protocol.TCP), addresses=["10.0.0.7"]),
        routes(
            "db",
            ["db.default.svc.cluster.local"],
            tcp=[
                l4(to(("v2.default.svc.cluster.local", 0)), L4Match(destination_subnets=("10.8.0.0/16",))),
                l4(to(("db.default.svc.cluster.local", 5432, 90), ("v2.default.svc.cluster.local", 5432, 10))),
            ],
        ),
    )
    view = sidecar()
    made = world.listener(view, "10.0.0.3_5432")
    assert made.filter_chains[0].filter_chain_match.prefix_ranges[0].prefix_len.value == 16
    assert len(tcp_of(made.default_filter_chain).weighted_clusters.clusters) == 2
    judged(world.all(view), tmp_path)


def test_namespace_capture_binds_only_the_virtual_listener_in_the_namespace(tmp_path: Path) -> None:
    world = World(WEB, DB)
    view = sidecar(Capture("netns", netns="/run/netns/app"), addresses=("127.66.0.1",))
    made = world.listener(view, "virtualOutbound").address.socket_address
    assert (made.address, made.port_value, made.network_namespace_filepath) == ("127.0.0.1", 15001, "/run/netns/app")
    assert not world.listener(view, "0.0.0.0_80").bind_to_port.value
    others = [one for one in world.all(view) if one.name != "virtualOutbound"]
    judged(others, tmp_path)


def test_explicit_capture_binds_ports_at_the_outbound_address(tmp_path: Path) -> None:
    world = World(
        WEB,
        host("web2.default.svc.cluster.local", (8080, Protocol.HTTP), addresses=["10.0.0.6"]),
        host("auto.default.svc.cluster.local", (7000, Protocol.AUTO), addresses=["10.0.0.4"]),
        host("db.default.svc.cluster.local", (5432, Protocol.TCP), addresses=["10.0.0.3"]),
        host("db2.default.svc.cluster.local", (5432, Protocol.TCP), addresses=["10.0.0.8"]),
        host("tls.default.svc.cluster.local", (8443, Protocol.TLS), addresses=["10.0.0.5"]),
    )
    view = sidecar(EXPLICIT, addresses=("127.66.0.1",))
    assert world.names(view) == (
        "127.66.128.1_5432",
        "127.66.128.1_7000",
        "127.66.128.1_8080",
        "127.66.128.1_8443",
        "127.66.128.1_15002",
        "virtualInbound",
    )
    assert world.routes(view) == ("7000", "8080", "http_proxy")
    plain = world.listener(view, "127.66.128.1_8080")
    assert not plain.listener_filters
    assert not plain.HasField("bind_to_port")
    assert http_of(plain.filter_chains[0]).rds.route_config_name == "8080"
    tcp = world.listener(view, "127.66.128.1_5432")
    assert tcp_of(tcp.filter_chains[0]).cluster == "outbound|5432||db.default.svc.cluster.local"
    assert [one for one in world.messages() if "db2.default.svc.cluster.local" in one]
    tls = world.listener(view, "127.66.128.1_8443")
    assert list(tls.filter_chains[0].filter_chain_match.server_names) == ["tls.default.svc.cluster.local"]
    assert tcp_of(tls.default_filter_chain).cluster == "BlackHoleCluster"
    proxy = http_of(world.listener(view, "127.66.128.1_15002").filter_chains[0])
    assert proxy.rds.route_config_name == "http_proxy"
    assert [one.upgrade_type for one in proxy.upgrade_configs] == ["websocket", "CONNECT"]
    judged(world.all(view), tmp_path)


def test_no_capture_no_listeners() -> None:
    world = World(WEB)
    assert world.names(sidecar(Capture("none"))) == ()
    assert world.names(sidecar(Capture("explicit"))) == ("virtualInbound",)


def test_a_listener_depends_on_its_own_hosts_only() -> None:
    world = World(WEB, DB, AUTO)
    view = sidecar()
    before = {name: world.resource(view, name) for name in world.names(view)}
    world.engine.runs.clear()
    number = world.put(host("db2.default.svc.cluster.local", (5432, Protocol.TCP), addresses=["10.0.0.33"]))
    assert set(world.names(view)) - set(before) == {"10.0.0.33_5432"}
    after = {name: world.resource(view, name) for name in world.names(view)}
    assert all(after[name] is before[name] for name in before)
    built = world.engine.runs["outbound.outbound_listener"]
    assert built == 1, built
    world.drop(number)
    assert {name: world.resource(view, name) for name in world.names(view)} == before


@pytest.mark.parametrize("namespace", ["default", "other"])
def test_callers_with_other_labels_share_listeners(namespace: str) -> None:
    world = World(WEB)
    one = world.resource(View("sidecar", namespace, pairs({"app": "a"}), addresses=("1.1.1.1",)), "0.0.0.0_80")
    two = world.resource(View("sidecar", namespace, pairs({"app": "b"}), addresses=("1.1.1.2",)), "0.0.0.0_80")
    assert one is two


def test_names_of_a_wildcard_host_are_looked_up(tmp_path: Path) -> None:
    anywhere = {"resolution": Resolution.DYNAMIC_DNS, "kubernetes": False, "external": True}
    world = World(host("*.example.com", (443, Protocol.TLS), (80, Protocol.HTTP), **anywhere))
    (secure,) = world.listener(sidecar(), "0.0.0.0_443").filter_chains
    assert list(secure.filter_chain_match.server_names) == ["*.example.com"]
    assert [one.name for one in secure.filters] == [
        "envoy.filters.network.sni_dynamic_forward_proxy",
        "envoy.filters.network.tcp_proxy",
    ]
    (plain,) = world.listener(sidecar(), "0.0.0.0_80").filter_chains
    assert "envoy.filters.http.dynamic_forward_proxy" in [one.name for one in http_of(plain).http_filters]
    judged(world.all(sidecar()), tmp_path)
