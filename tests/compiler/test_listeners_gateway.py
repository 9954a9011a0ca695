"""Gateway listeners: servers by port, certificates, TLS and TCP routes; real Envoy accepts them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from listener_facts import World, gateway, host, http_of, judged, l4, mesh, router, routes, server, tcp_of, to

from fairlead.envoy.names import dns_srv_pattern
from fairlead.ir.gateway import ServerTls
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import L4Match

SIMPLE = ServerTls("SIMPLE", credential_names=("cert",), min_version="TLSV1_2", max_version="TLSV1_3")
MUTUAL = ServerTls("MUTUAL", credential_names=("cert",), subject_alt_names=("client.example.com",))
PASSTHROUGH = ServerTls("PASSTHROUGH")


def _tls(chain: FilterChain) -> DownstreamTlsContext:
    context = DownstreamTlsContext()
    assert chain.transport_socket.typed_config.Unpack(context)
    return context


def test_plain_http_servers_share_a_listener(tmp_path: Path) -> None:
    world = World(
        gateway("a", server(80, Protocol.HTTP, "a.example.com"), server(8080, Protocol.HTTP, "*", bind="127.0.0.1")),
        gateway("b", server(80, Protocol.HTTP, "b.example.com")),
        mesh(num_trusted_proxies=2),
    )
    view = router()
    assert world.names(view) == ("0.0.0.0_80", "127.0.0.1_8080")
    assert world.routes(view) == ("http.80", "http.8080.127.0.0.1")
    made = world.listener(view, "0.0.0.0_80")
    (only,) = made.filter_chains
    manager = http_of(only)
    assert manager.rds.route_config_name == "http.80"
    assert manager.use_remote_address.value
    assert manager.xff_num_trusted_hops == 2
    assert manager.forward_client_cert_details == HttpConnectionManager.SANITIZE_SET
    assert not made.listener_filters
    judged(world.all(view), tmp_path)


def test_https_servers_have_a_chain_each(tmp_path: Path) -> None:
    world = World(
        gateway(
            "gw",
            server(443, Protocol.HTTPS, "a.example.com", "ns/b.example.com", name="one", tls=SIMPLE),
            server(443, Protocol.HTTPS, "c.example.com", name="two", tls=MUTUAL),
            server(443, Protocol.HTTPS, "*", name="three", tls=ServerTls("ISTIO_MUTUAL")),
        )
    )
    view = router()
    made = world.listener(view, "0.0.0.0_443")
    one, two, three = made.filter_chains
    assert list(one.filter_chain_match.server_names) == ["a.example.com", "b.example.com"]
    assert not three.HasField("filter_chain_match")
    assert http_of(one).rds.route_config_name == "https.443.one.gw.istio-system"
    assert world.routes(view)[0] == "https.443.one.gw.istio-system"
    assert _tls(one).common_tls_context.tls_certificate_sds_secret_configs[0].name == "kubernetes://cert"
    assert not _tls(one).require_client_certificate.value
    roots = _tls(two).common_tls_context.combined_validation_context
    assert roots.validation_context_sds_secret_config.name == "kubernetes://cert-cacert"
    assert _tls(two).require_client_certificate.value
    assert _tls(three).common_tls_context.tls_certificate_sds_secret_configs[0].name == "default"
    assert not made.continue_on_listener_filters_timeout
    judged(world.all(view), tmp_path)


def test_passed_through_tls_goes_by_sni(tmp_path: Path) -> None:
    rule = [l4(to(("web.default.svc.cluster.local", 0)), L4Match(("a.example.com",), port=443))]
    world = World(
        host("web.default.svc.cluster.local", (8443, Protocol.TLS)),
        gateway("gw", server(443, Protocol.TLS, "*.example.com", tls=PASSTHROUGH)),
        routes("vs1", ["a.example.com"], gateways=["istio-system/gw"], tls=rule),
        routes("vs2", ["a.example.com"], gateways=["istio-system/gw"], tls=rule),
        routes("vs3", ["b.other.com"], gateways=["istio-system/gw"], tls=rule),
    )
    view = router()
    made = world.listener(view, "0.0.0.0_443")
    (only,) = made.filter_chains
    assert list(only.filter_chain_match.server_names) == ["a.example.com"]
    assert tcp_of(only).cluster == "outbound|8443||web.default.svc.cluster.local"
    assert [one.name for one in made.listener_filters] == ["envoy.filters.listener.tls_inspector"]
    (said,) = world.messages()
    assert "a.example.com at listener 0.0.0.0_443" in said
    judged(world.all(view), tmp_path)


def test_tcp_servers_forward_by_the_first_rule_that_holds(tmp_path: Path) -> None:
    world = World(
        gateway(
            "gw",
            server(31400, Protocol.TCP, "*"),
            server(31401, Protocol.TLS, "*", tls=SIMPLE),
            server(31402, Protocol.TCP, "nobody.example.com"),
        ),
        routes(
            "tcp",
            ["tcp.example.com"],
            gateways=["istio-system/gw"],
            tcp=[
                l4(to(("a", 1)), L4Match(port=1)),
                l4(to(("v1", 9000, 80), ("v2", 9000, 20)), L4Match(gateways=("istio-system/gw",))),
            ],
        ),
    )
    view = router()
    assert world.names(view) == ("0.0.0.0_31400", "0.0.0.0_31401")
    plain, ended = world.all(view)
    assert [one.weight for one in tcp_of(plain.filter_chains[0]).weighted_clusters.clusters] == [80, 20]
    assert ended.filter_chains[0].HasField("transport_socket")
    judged([plain, ended], tmp_path)


def test_a_namespaced_server_host_takes_only_routes_of_that_namespace() -> None:
    world = World(
        gateway("gw", server(31400, Protocol.TCP, "other/*")),
        routes("tcp", ["tcp.example.com"], gateways=["istio-system/gw"], tcp=[l4(to(("a", 1)))]),
    )
    assert world.names(router()) == ()
    world.put(routes("tcp", ["x.com"], namespace="other", gateways=["istio-system/gw"], tcp=[l4(to(("b", 2)))]))
    assert tcp_of(world.listener(router(), "0.0.0.0_31400").filter_chains[0]).cluster == "outbound|2||b"


def test_joining_networks_goes_by_server_name() -> None:
    world = World(gateway("gw", server(15443, Protocol.TLS, "*.local", tls=ServerTls("AUTO_PASSTHROUGH"))))
    made = world.listener(router(), "0.0.0.0_15443")
    assert [list(one.filter_chain_match.server_names) for one in made.filter_chains] == [["*.local"]]
    assert "istio-peer-exchange" in made.filter_chains[0].filter_chain_match.application_protocols
    assert [one.name for one in made.filter_chains[0].filters] == [
        "envoy.filters.network.rbac",
        "envoy.filters.network.sni_cluster",
        "envoy.filters.network.tcp_proxy",
    ]
    exact = World(gateway("gw", server(15443, Protocol.TLS, "./a.local", tls=ServerTls("AUTO_PASSTHROUGH"))))
    (only,) = exact.listener(router(), "0.0.0.0_15443").filter_chains
    assert list(only.filter_chain_match.server_names) == ["*.a.local"], "port and subset stand before it"


@pytest.mark.parametrize(
    ("host", "name", "covered"),
    [
        ("*.local", "outbound_.80_._.web.shop.svc.cluster.local", True),
        ("*.local", "outbound_.80_.v1_.web.shop.svc.cluster.local", True),
        ("*", "outbound_.80_._.example.com", True),
        ("web.local", "outbound_.80_._.web.local", True),
        ("web.local", "outbound_.80_._.a.web.local", False),
        ("*.local", "outbound|80||web.shop.svc.cluster.local", False),
        ("*", "inbound|80||", False),
        ("*", "sds-grpc", False),
    ],
)
def test_a_stranger_names_no_cluster_but_those_of_mesh_mtls(host: str, name: str, *, covered: bool) -> None:
    assert bool(re.fullmatch(dns_srv_pattern(host), name)) is covered


def test_mesh_certificates_may_be_revoked_by_a_list_in_a_file() -> None:
    tls = ServerTls("ISTIO_MUTUAL", ca_crl="/etc/revoked.pem")
    world = World(gateway("gw", server(443, Protocol.HTTPS, "*", name="one", tls=tls)))
    (only,) = world.listener(router(), "0.0.0.0_443").filter_chains
    wanted = _tls(only).common_tls_context.combined_validation_context
    assert wanted.default_validation_context.crl.filename == "/etc/revoked.pem"
    assert wanted.validation_context_sds_secret_config.name == "ROOTCA"
