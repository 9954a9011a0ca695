"""Where egress listeners of Sidecars stand: bound or not, at addresses and Unix sockets, for each way of capture."""

from __future__ import annotations

from pathlib import Path

import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from listener_facts import tcp_of

import fairlead.kinds
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.envoy.resource import LISTENER, ROUTE
from fairlead.ir.view import View
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents

SOCKETS = Path(fairlead.kinds.__file__).parent / "sidecar" / "testdata" / "sockets.in.yaml"
HTTP, TCP = "unix:///run/web.sock_0", "unix://@db_0"


def compiled(capture: Capture, *changes: tuple[str, str]) -> Catalog:
    return told(capture, *changes)[0]


def told(capture: Capture, *changes: tuple[str, str]) -> tuple[Catalog, list[str]]:
    """What a proxy gets, and what is reported meanwhile."""
    text = SOCKETS.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    model = MeshModel()
    assert not [one for one in load(model, parse_documents(text)) if one.severity is Severity.ERROR]
    view = View("sidecar", "shop", (("app", "web"),), addresses=("10.0.0.1",), capture=capture)
    with model.opened(view) as catalog:
        assert not model.engine.failures()
        return catalog, [f"{one.code} {one.origin}" for one in model.diagnostics()]


def listener(catalog: Catalog, name: str) -> Listener:
    return Listener.FromString(catalog[LISTENER][name].body)


@pytest.mark.parametrize("mode", ["redirect", "netns"])
def test_without_a_port_all_ports_are_bound(mode: str) -> None:
    """captureMode NONE of the listener for all other ports, whose hosts are then dialled at the loopback address."""
    capture = Capture(mode, netns="/var/run/netns/x" if mode == "netns" else "")  # type: ignore[arg-type]
    catalog = compiled(capture)
    bound = listener(catalog, "127.0.0.1_6379")
    assert not bound.HasField("bind_to_port")
    assert bound.address.socket_address.network_namespace_filepath == capture.netns
    assert tcp_of(bound.filter_chains[0]).cluster == "outbound|6379||cache.shop.svc.cluster.local"
    redirected = listener(compiled(capture, ("captureMode: NONE", "captureMode: IPTABLES")), "10.96.0.12_6379")
    assert not redirected.bind_to_port.value


@pytest.mark.parametrize(
    "capture",
    [Capture("redirect"), Capture("explicit", app_address="127.66.64.9", outbound_address="127.66.128.9")],
    ids=["redirected", "explicit"],
)
def test_sockets(capture: Capture) -> None:
    catalog = compiled(capture)
    assert listener(catalog, HTTP).address.pipe.path == "/run/web.sock"
    assert listener(catalog, TCP).address.pipe.path == "@db"
    assert tcp_of(listener(catalog, TCP).filter_chains[0]).cluster == "outbound|5432||db.shop.svc.cluster.local"
    (routes,) = [one for name, one in catalog[ROUTE].items() if name == "unix:///run/web.sock"]
    found = {
        one.domains[0]: one.routes[0].route.cluster for one in RouteConfiguration.FromString(routes.body).virtual_hosts
    }
    web = "web.shop.svc.cluster.local"
    assert found == {
        f"{web}:8080": f"outbound|8080||{web}",
        f"{web}:9090": f"outbound|9090||{web}",
        "*": "",
    }, "a request says which port it is for"
    assert not [name for name in catalog[LISTENER] if name.endswith(("_8080", "_9090", "_5432"))], "only there"


def test_a_listener_that_is_an_http_proxy_shows_all_ports_of_its_hosts() -> None:
    change = ("{protocol: HTTP, name: http}", "{number: 3128, protocol: HTTP_PROXY, name: http}")
    catalog = compiled(Capture("redirect"), change, ("bind: unix:///run/web.sock", "bind: 127.0.0.1"))
    assert listener(catalog, "127.0.0.1_3128").filter_chains[0].filters[0].name.endswith("http_connection_manager")
    routes = RouteConfiguration.FromString(catalog[ROUTE]["http_proxy"].body)
    web = "web.shop.svc.cluster.local"
    assert [one.domains[0] for one in routes.virtual_hosts] == [f"{web}:8080", f"{web}:9090", "*"]
    assert not [name for name in catalog[LISTENER] if name.endswith(("_8080", "_9090"))], "only there"


def test_destination_subnets_mean_nothing_at_a_socket() -> None:
    rules = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec:
  hosts: [db]
  tcp: [{match: [{destinationSubnets: [10.96.0.0/16]}], route: [{destination: {host: cache}}]}]
---
"""
    sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\n"
    catalog = compiled(Capture("redirect"), (sidecar, rules + sidecar))
    (only,) = listener(catalog, TCP).filter_chains
    assert not only.HasField("filter_chain_match")
    assert tcp_of(only).cluster == "outbound|6379||cache.shop.svc.cluster.local"


def test_bytes_go_to_a_host_with_one_port() -> None:
    """Which of several is meant nobody says: the host is not reached, and that is told."""
    several = "[{name: tcp, port: 1}, {name: tcp-2, port: 2}]"
    catalog, said = told(Capture("redirect"), ("[{name: tcp, port: 5432}]", several))
    assert tcp_of(listener(catalog, TCP).filter_chains[0]).cluster == "BlackHoleCluster"
    assert said == ["FL0311 Service shop/db"]
