"""Proxies with addresses of IPv4, of IPv6, and of both: where listeners stand, and what is dialled (Istio's IPMode)."""

from __future__ import annotations

from pathlib import Path

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig
from listener_facts import judged
from msgspec.structs import replace

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.compiler.reduced import reduced
from fairlead.envoy.nds_pb2 import NameTable
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE
from fairlead.ir.families import Families, families_of
from fairlead.ir.view import View
from fairlead.model.launch import AppPort, Capture
from fairlead.model.yaml import parse_documents

V4, V6 = "10.0.0.1", "fd00::1"
ADDRESSES: dict[Families, tuple[str, ...]] = {"IPv4": (V4,), "IPv6": (V6,), "dual": (V4, V6)}
ALL: tuple[Families, ...] = ("IPv4", "IPv6", "dual")
WEB = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: app}
spec:
  hosts: [web.example]
  addresses: [10.9.0.1, "fd09::1"]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.0.1.1}, {address: "fd00:1::1"}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: app}
spec:
  hosts: [far.example]
  ports: [{number: 81, name: http, protocol: HTTP}, {number: 91, name: tcp, protocol: TCP}]
  resolution: DNS
"""
MESH = "---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio}\nspec: "


def model(*texts: str) -> MeshModel:
    made = MeshModel()
    found = load(made, [one for text in texts for one in parse_documents(text, "mesh.yaml")])
    assert not [str(one) for one in found]
    return made


def view(families: Families, mode: str = "redirect") -> View:
    ports = (AppPort(8080, "http"),)
    return View("sidecar", "app", (("app", "x"),), addresses=ADDRESSES[families], capture=Capture(mode), ports=ports)  # type: ignore[arg-type]


def places(one: Listener) -> list[str]:
    every = (one.address, *(more.address for more in one.additional_addresses))
    return [f"{at.socket_address.address} {at.socket_address.port_value}" for at in every]


def listeners(catalog: Catalog) -> dict[str, Listener]:
    return {name: Listener.FromString(one.body) for name, one in catalog[LISTENER].items()}


def clusters(catalog: Catalog) -> dict[str, Cluster]:
    return {name: Cluster.FromString(one.body) for name, one in catalog[CLUSTER].items()}


@pytest.mark.parametrize(
    ("addresses", "families"),
    [
        ((), "IPv4"),
        ((V4, "10.0.0.2"), "IPv4"),
        ((V6, "2001:db8::1"), "IPv6"),
        ((V6, V4), "dual"),
        ((V4, "fe80::1"), "IPv4"),
        (("unix:///a:b", "name.example"), "IPv4"),
    ],
)
def test_addresses_tell_the_families(addresses: tuple[str, ...], families: Families) -> None:
    assert families_of(addresses) == families


ANYWHERE = {"IPv4": ["0.0.0.0"], "IPv6": ["::"], "dual": ["0.0.0.0", "::"]}


@pytest.mark.parametrize("families", ALL)
def test_listeners_stand_at_any_address_of_the_families(families: Families) -> None:
    catalog = model(WEB).compile(view(families))
    made, first = listeners(catalog), ANYWHERE[families][0]
    for name, port in ((f"{first}_80", 80), (f"{first}_91", 91), ("virtualOutbound", 15001), ("virtualInbound", 15006)):
        assert places(made[name]) == [f"{address} {port}" for address in ANYWHERE[families]]
    # Hosts that have addresses are where they were, whatever the proxy's own are.
    assert {"10.9.0.1_90", "fd09::1_90"} <= made.keys()
    assert f"inbound_{first}_8080;".encode() in made["virtualInbound"].SerializeToString()
    assert f"outbound_{first}_80;".encode() in made[f"{first}_80"].SerializeToString()


@pytest.mark.parametrize(
    ("families", "source", "more"), [("IPv4", "127.0.0.6", []), ("IPv6", "::6", []), ("dual", "127.0.0.6", ["::6"])]
)
def test_the_application_is_dialled_from_an_address_of_its_family(
    families: Families, source: str, more: list[str]
) -> None:
    made = clusters(model(WEB).compile(view(families)))
    for name in ("inbound|8080||", "InboundPassthroughCluster"):
        bind = made[name].upstream_bind_config
        assert bind.source_address.address == source
        assert [one.address.address for one in bind.extra_source_addresses] == more


@pytest.mark.parametrize(
    ("families", "looked_up", "dialled"),
    [
        ("IPv4", Cluster.V4_ONLY, {"10.0.1.1"}),
        ("IPv6", Cluster.V6_ONLY, {"fd00:1::1"}),
        ("dual", Cluster.ALL, {"10.0.1.1", "fd00:1::1"}),
    ],
)
def test_only_addresses_that_can_be_dialled_are(families: Families, looked_up: int, dialled: set[str]) -> None:
    catalog = model(WEB).compile(view(families))
    assert clusters(catalog)["outbound|81||far.example"].dns_lookup_family == looked_up
    found = ClusterLoadAssignment.FromString(catalog[ENDPOINT]["outbound|80||web.example"].body)
    assert {m.endpoint.address.socket_address.address for one in found.endpoints for m in one.lb_endpoints} == dialled


def test_a_host_with_addresses_of_the_other_family_only_is_dialled_at_them() -> None:
    catalog = model(WEB.replace("{address: 10.0.1.1}, ", "")).compile(view("IPv4"))
    found = ClusterLoadAssignment.FromString(catalog[ENDPOINT]["outbound|80||web.example"].body)
    assert found.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address == "fd00:1::1"


@pytest.mark.parametrize("families", ALL)
def test_gateways_stand_at_any_address_of_the_families(families: Families) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: app}
spec:
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
    - {port: {number: 81, name: own, protocol: HTTP}, hosts: ["*"], bind: 127.0.0.1}
"""
    made = listeners(model(text).compile(View("router", "app", addresses=ADDRESSES[families], capture=Capture("none"))))
    assert places(made[f"{ANYWHERE[families][0]}_80"]) == [f"{address} 80" for address in ANYWHERE[families]]
    assert places(made["127.0.0.1_81"]) == ["127.0.0.1 81"]


@pytest.mark.parametrize("families", ALL)
def test_envoy_takes_gateways_of_all_families(families: Families, tmp_path: Path) -> None:
    """Over QUIC, too: that listener stands where the one for TCP does."""
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: app}
spec:
  servers:
    - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["a.example"], tls: {mode: SIMPLE, credentialName: c}}
"""
    proxy = View("router", "app", addresses=ADDRESSES[families], capture=Capture("none"))
    made = listeners(model(text, MESH + "{fairlead: {http3: true}}").compile(proxy))
    first = ANYWHERE[families][0]
    assert made.keys() == {f"{first}_443", f"udp_{first}_443"}
    for one in made.values():
        assert places(one) == [f"{address} 443" for address in ANYWHERE[families]]
    judged(list(made.values()), tmp_path)


LOOPBACK = {"IPv4": ["127.0.0.1"], "IPv6": ["::1"], "dual": ["127.0.0.1", "::1"]}
SIDECAR = """
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own, namespace: app}
spec:
  egress:
    - {port: {number: 80, name: http, protocol: HTTP}, captureMode: NONE, hosts: ["*/web.example"]}
  ingress:
    - {port: {number: 7001, name: a, protocol: HTTP}, defaultEndpoint: "127.0.0.1:1"}
    - {port: {number: 7002, name: b, protocol: HTTP}, defaultEndpoint: "[::1]:1"}
    - {port: {number: 7003, name: c, protocol: HTTP}, defaultEndpoint: "0.0.0.0:1"}
    - {port: {number: 7004, name: d, protocol: HTTP}, defaultEndpoint: "[::]:1"}
"""


@pytest.mark.parametrize(
    ("families", "dialled"),
    [
        ("IPv4", ["127.0.0.1", "127.0.0.1", V4, "::1"]),
        ("IPv6", ["::1", "::1", "127.0.0.1", V6]),
        ("dual", ["127.0.0.1", "::1", V4, V6]),
    ],
)
def test_a_sidecars_own_listeners_and_endpoints(families: Families, dialled: list[str]) -> None:
    catalog = model(WEB, SIDECAR, MESH + "{proxyHttpPort: 15080}").compile(view(families))
    made = listeners(catalog)
    for port in (80, 15080):
        found = made[f"{LOOPBACK[families][0]}_{port}"]
        assert places(found) == [f"{address} {port}" for address in LOOPBACK[families]]
    known = clusters(catalog)
    found = [known[f"inbound|{port}||"].load_assignment for port in (7001, 7002, 7003, 7004)]
    assert [one.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address for one in found] == dialled


@pytest.mark.parametrize(("said", "port"), [("", 0), (', defaultEndpoint: ":7001"', 0), (', defaultEndpoint: ":1"', 1)])
def test_an_endpoint_without_an_address_is_the_one_that_was_called(said: str, port: int) -> None:
    ingress = f"""
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own, namespace: app}}
spec: {{ingress: [{{port: {{number: 7001, name: a, protocol: HTTP}}{said}}}]}}
"""
    found = clusters(model(WEB, ingress).compile(view("dual")))["inbound|7001||"]
    assert found.type == Cluster.ORIGINAL_DST
    assert found.original_dst_lb_config.upstream_port_override.value == port
    apart = replace(view("dual"), capture=Capture("explicit", app_address="127.66.0.9"))
    known = clusters(model(WEB, ingress).compile(apart))["inbound|7001||"].load_assignment.endpoints[0]
    at = known.lb_endpoints[0].endpoint.address.socket_address
    assert (at.address, at.port_value) == ("127.66.0.9", port or 7001)


@pytest.mark.parametrize("families", ALL)
def test_applications_that_listen_on_loopback_only(families: Families) -> None:
    made = clusters(model(MESH + "{inboundTrafficPolicy: {mode: LOCALHOST}}").compile(view(families)))
    at = made["inbound|8080||"].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    assert at.address == LOOPBACK[families][0]


def test_without_redirection_both_addresses_of_the_workload_are_bound() -> None:
    inside = replace(view("dual"), capture=Capture("netns", netns="/run/netns/app"))
    made = listeners(model(WEB).compile(inside))
    assert places(made["virtualInbound"]) == [f"{V4} 15006", f"{V4} 8080", f"{V6} 15006", f"{V6} 8080"]
    assert places(made["virtualOutbound"]) == ["127.0.0.1 15001", "::1 15001"]


def test_names_that_clients_give_are_looked_up_for_the_families() -> None:
    made = model(WEB, MESH + "{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}")
    for families, wanted in zip(ALL, (Cluster.V4_PREFERRED, Cluster.AUTO, Cluster.ALL), strict=True):
        catalog = made.compile(view(families))
        config = ClusterConfig()
        assert clusters(catalog)["AllowAnyDynamicDNSCluster"].cluster_type.typed_config.Unpack(config)
        assert config.dns_cache_config.dns_lookup_family == wanted
        # Envoy takes only one cache of a name, so that filters must have the very same.
        cache = config.dns_cache_config.SerializeToString(deterministic=True)
        for name in ("virtualOutbound", f"{ANYWHERE[families][0]}_80"):
            assert cache in catalog[LISTENER][name].body


def test_proxies_of_the_same_families_are_alike() -> None:
    made = model(WEB)
    one = made.engine.call(reduced, view("dual"))
    other = replace(view("dual"), addresses=("fd00::9", "10.0.0.9"))
    assert one == made.engine.call(reduced, other)
    assert one.addresses == ()
    assert one.speaks == "dual"


GIVEN = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: given, namespace: app}
spec:
  hosts: [given.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  resolution: DNS
status: {addresses: [{value: 240.240.1.2, host: given.example}, {value: "2001:2::102", host: given.example}]}
"""


@pytest.mark.parametrize(
    ("families", "stands"),
    [
        ("IPv4", {"240.240.1.2_90", "0.0.0.0_90"}),
        ("IPv6", {"2001:2::102_90", "::_90"}),
        ("dual", {"240.240.1.2_90", "2001:2::102_90", "0.0.0.0_90"}),
    ],
)
def test_of_the_addresses_that_a_host_was_given_clients_call_those_of_their_families(
    families: Families, stands: set[str]
) -> None:
    catalog = model(GIVEN).compile(view(families))
    assert {name for name in catalog[LISTENER] if name.endswith("_90")} == stands
    (table,) = catalog[NAME_TABLE].values()
    assert list(NameTable.FromString(table.body).table["given.example"].ips) == ["240.240.1.2", "2001:2::102"]
