"""Route configurations of gateways: servers merged by port, met with the rules that are bound to them."""

from __future__ import annotations

from msgspec.structs import replace
from routes_facts import INGRESS, World, clusters, gateway, hosts_of, route_set, rule, server, service, to

from fairlead.compiler.gateways import gateways_of, merged_servers
from fairlead.ir.gateway import ServerTls
from fairlead.ir.host import Host
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import HttpMatch, Redirect, Rewrite, StringMatch
from fairlead.model.ref import NamespacedName

WEB = "web.default.svc.cluster.local"
SIMPLE = ServerTls(mode="SIMPLE", credential_names=("cert",))
GW = ("default/gw",)


def table(world: World, name: str) -> dict[str, list[str]]:
    return {at: clusters(host) for at, host in hosts_of(world.gateway(name)).items()}


def test_which_gateways_bind_to_a_proxy() -> None:
    world = World(
        gateway("young", server("*"), created="2"),
        gateway("old", server("*"), created="1", namespace="far"),
        gateway("all", server("*"), created="3", selector=()),
        gateway("other", server("*"), selector=(("istio", "egressgateway"),)),
        gateway("both", server("*"), selector=(("app", "x"), ("istio", "ingressgateway"))),
    )
    assert world.engine.call(gateways_of, INGRESS) == (
        NamespacedName("far", "old"),
        NamespacedName("default", "young"),
        NamespacedName("default", "all"),
    )


def test_routes_where_server_and_rules_meet() -> None:
    world = World(
        service("web"),
        gateway("gw", server("*.example.com", "api.test")),
        route_set("a", ("shop.example.com", "elsewhere.org", "*.test"), rule(WEB), gateways=GW),
        route_set("b", "*.shop.example.com", rule(to(WEB, 8080)), gateways=GW),
        route_set("c", "unbound.example.com", rule(WEB)),
    )
    config = world.gateway("http.80")
    assert config.ignore_port_in_host_matching
    assert {name: list(one.domains) for name, one in hosts_of(config).items()} == {
        "shop.example.com:80": ["shop.example.com", "api.test"],
        "*.shop.example.com:80": ["*.shop.example.com"],
    }


def test_servers_of_several_gateways_and_rules_merge() -> None:
    world = World(
        service("web"),
        gateway("gw", server("*"), created="1"),
        gateway("more", server("shop.example.com"), created="2"),
        route_set("all", "shop.example.com", rule(WEB), gateways=GW, created="1"),
        route_set(
            "some",
            "shop.example.com",
            rule(to(WEB, subset="v2"), match=HttpMatch(uri=StringMatch("prefix", "/v2"))),
            gateways=("default/gw", "default/more"),
            created="2",
        ),
    )
    only = table(world, "http.80")["shop.example.com:80"]
    assert only == [f"outbound|80|v2|{WEB}"] * 2 + [f"outbound|80||{WEB}"], "what takes every request comes last"


def test_hosts_limited_to_a_namespace() -> None:
    world = World(
        service("web"),
        gateway("gw", server("near/a.example.com", "./b.example.com", "*/c.example.com"), namespace="default"),
        *(
            route_set(f"{where}-{name}", f"{name}.example.com", rule(WEB), gateways=GW, namespace=where)
            for where in ("default", "near")
            for name in "abc"
        ),
    )
    found = {name for one in world.gateway("http.80").virtual_hosts for name in one.domains}
    assert found == {"a.example.com", "b.example.com", "c.example.com"}
    world.drop(route_set("near-a", "a.example.com", namespace="near"))
    found = {name for one in world.gateway("http.80").virtual_hosts for name in one.domains}
    assert found == {"b.example.com", "c.example.com"}


def test_redirects_to_https() -> None:
    redirecting = ServerTls(https_redirect=True)
    world = World(
        service("web"),
        gateway("gw", server("a.example.com", "b.example.com", tls=redirecting), server("c.example.com")),
        route_set("a", ("a.example.com", "c.example.com"), rule(WEB), gateways=GW),
    )
    found = {name: one.require_tls for name, one in hosts_of(world.gateway("http.80")).items()}
    assert found == {"a.example.com:80": 2, "b.example.com:80": 2, "c.example.com:80": 0}


def test_a_tls_server_has_routes_of_its_own() -> None:
    world = World(
        service("web", 8080),
        gateway(
            "gw",
            server("*", port=443, protocol=Protocol.HTTPS, name="https", tls=SIMPLE),
            server("p", port=444, protocol=Protocol.TLS, name="tls", tls=ServerTls(mode="PASSTHROUGH")),
        ),
        route_set("a", "a.example.com", rule(WEB), gateways=GW),
        route_set(
            "b",
            "b.example.com",
            rule(redirect=Redirect(authority="c.example.com", derive_port="FROM_REQUEST_PORT")),
            gateways=GW,
        ),
    )
    assert table(world, "https.443.https.gw.default") == {
        "a.example.com:443": [f"outbound|8080||{WEB}"],
        "b.example.com:443": ["redirect"],
    }
    routes = hosts_of(world.gateway("https.443.https.gw.default"))["b.example.com:443"].routes
    assert routes[0].redirect.port_redirect == 0, "443 is https' own port"
    names = [one.route_name for port in world.engine.call(merged_servers, INGRESS) for one in port.servers]
    assert names == ["https.443.https.gw.default", ""]


def test_a_service_in_front_of_the_gateway_maps_ports() -> None:
    def ingress(name: str, target: int, **more: object) -> Host:
        found = service(name, 80, namespace="istio-system", selector=INGRESS.labels, **more)
        return replace(found, ports=(replace(found.ports[0], target=target),))

    world = World(
        service("web"),
        ingress("ingress", 8080),
        ingress("direct", 8081, labels=(("experimental.istio.io/disable-gateway-port-translation", "true"),)),
        gateway("gw", server("*"), server("*", port=8081), server("*", port=90)),
        route_set("a", "a.example.com", rule(WEB), gateways=GW),
    )
    assert [one.port for one in world.engine.call(merged_servers, INGRESS)] == [90, 8080, 8081]
    assert list(table(world, "http.8080")) == ["a.example.com:80"]
    assert list(table(world, "http.8081")) == ["a.example.com:8081"]


def test_a_gateway_that_names_services_is_served_behind_them_only() -> None:
    def ingress(name: str, port: int, target: int, **more: object) -> Host:
        found = service(name, port, selector=INGRESS.labels, **{"namespace": "istio-system", **more})
        return replace(found, ports=(replace(found.ports[0], target=target),))

    named = ("one.istio-system.svc.cluster.local", "two.istio-system.svc.cluster.local")
    world = World(
        ingress("one", 80, 8080, labels=(("experimental.istio.io/disable-gateway-port-translation", "true"),)),
        ingress("two", 81, 8081),
        ingress("other", 82, 8082),
        ingress("foreign", 80, 8083, namespace="default"),
        gateway(
            "gw", server("*"), server("*", port=81), server("*", port=82), namespace="istio-system", services=named
        ),
        gateway("elsewhere", server("*"), services=("foreign.default.svc.cluster.local",)),
    )
    found = world.engine.call(merged_servers, INGRESS)
    assert [(one.port, one.servers[0].server.port) for one in found] == [(8080, 80), (8081, 81)]


def test_no_rules_and_no_servers() -> None:
    world = World(gateway("gw", server("*", port=8080)))
    only = world.gateway("http.8080").virtual_hosts
    assert [(one.name, list(one.domains), len(one.routes)) for one in only] == [("blackhole:8080", ["*"], 0)]
    assert not world.gateway("http.9999").virtual_hosts


def test_servers_that_cannot_share_a_port() -> None:
    https = Protocol.HTTPS
    world = World(
        gateway("a", server("x.example.com", port=443, protocol=https, name="https", tls=SIMPLE), created="1"),
        gateway("b", server("x.example.com", port=443, protocol=https, name="https", tls=SIMPLE), created="2"),
        gateway("c", server("y.example.com", port=443, protocol=https, name="https", tls=SIMPLE), created="3"),
        gateway("d", server("z.example.com", port=443), created="4"),
        gateway("e", server("*", port=80), server("*", port=80, protocol=Protocol.TCP, name="tcp"), created="5"),
    )
    found = world.engine.call(merged_servers, INGRESS)
    assert [(one.port, one.tls, [str(each.gateway) for each in one.servers]) for one in found] == [
        (80, False, ["default/e"]),
        (443, True, ["default/a", "default/c"]),
    ]
    said = world.messages()
    assert len(said) == 3
    assert any("host x.example.com on port 443 is already served by Gateway default/a" in one for one in said)


def test_the_gateway_api() -> None:
    world = World(
        service("web"),
        gateway("gw", server("*")),
        route_set(
            "r",
            "a.example.com",
            rule(WEB, match=HttpMatch(uri=StringMatch("prefix", "/api/")), rewrite=Rewrite(uri="/")),
            rule(to(WEB, weight=0), to(WEB, weight=0)),
            gateways=GW,
            gateway_api=True,
        ),
    )
    first, second = hosts_of(world.gateway("http.80"))["a.example.com:80"].routes
    assert first.match.path_separated_prefix == "/api"
    assert first.route.regex_rewrite.pattern.regex == "^/api(/?)(.*)"
    assert first.route.cluster_not_found_response_code == 2
    assert second.direct_response.status == 500


def test_an_edit_rebuilds_one_virtual_host() -> None:
    sets = [route_set(f"r{number}", f"h{number}.example.com", rule(WEB), gateways=GW) for number in range(50)]
    world = World(service("web"), gateway("gw", server("*")), *sets)
    world.gateway("http.80")
    world.engine.runs.clear()
    world.put(route_set("r9", "h9.example.com", rule(to(WEB, subset="v2")), gateways=GW))
    world.gateway("http.80")
    runs = world.engine.runs
    assert runs["routes_gateway.gateway_virtual_host"] == 1
    assert runs["routes_gateway.gateway_hosts"] == 0
    assert sum(runs.values()) < 10, runs
