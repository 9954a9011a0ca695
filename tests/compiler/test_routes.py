"""Route configurations of sidecars: which virtual hosts, under which names, with whose rules."""

from __future__ import annotations

from envoy.config.route.v3 import route_pb2
from routes_facts import World, clusters, external, hosts_of, origin, route_set, rule, service, to

from fairlead.compiler.nametable import TableKey, name_table
from fairlead.compiler.routes import SidecarRouteKey, sidecar_route
from fairlead.envoy.nds_pb2 import NameTable
from fairlead.ir.host import Resolution
from fairlead.ir.mesh import Mesh
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import HttpMatch, Mirror, StringMatch
from fairlead.ir.traffic import HashPolicy, LoadBalancer, Policy, RetryPolicy, Subset, TrafficPolicy
from fairlead.ir.view import Client
from fairlead.model.ref import NamespacedName

REVIEWS = "reviews.default.svc.cluster.local"
RATINGS = "ratings.default.svc.cluster.local"


def table(world: World, name: str, namespace: str = "default", **labels: str) -> dict[str, list[str]]:
    return {at: clusters(host) for at, host in hosts_of(world.sidecar(name, namespace, **labels)).items()}


def test_a_host_answers_to_its_names_and_addresses() -> None:
    world = World(service("reviews", 9080, addresses=("10.0.0.7", "fd00::7")))
    own = hosts_of(world.sidecar("9080"))[f"{REVIEWS}:9080"]
    assert list(own.domains) == [
        REVIEWS,
        "reviews",
        "reviews.default",
        "reviews.default.svc",
        "10.0.0.7",
        "[fd00::7]",
    ]
    assert own.include_request_attempt_count
    other = hosts_of(world.sidecar("9080", "elsewhere"))[f"{REVIEWS}:9080"]
    assert list(other.domains) == [REVIEWS, "reviews.default", "reviews.default.svc", "10.0.0.7", "[fd00::7]"]


def test_a_headless_service_answers_to_its_pods_names() -> None:
    world = World(service("db", 80, resolution=Resolution.PASSTHROUGH))
    domains = list(hosts_of(world.sidecar("80"))["db.default.svc.cluster.local:80"].domains)
    assert "*.db.default.svc.cluster.local" in domains
    assert "*.db" in domains


def test_a_name_that_stands_for_a_host() -> None:
    short = ("legacy", "legacy.default", "legacy.default.svc")
    world = World(
        service("reviews", 9080, addresses=("10.0.0.7",)),
        service("old", 80, alias=REVIEWS, resolution=Resolution.DNS_LB),
        service("legacy", 9080, alias="old.default.svc.cluster.local", resolution=Resolution.DNS_LB),
        service("web", 80, alias="web.example.com", resolution=Resolution.DNS_LB),
        service("loop", 80, alias="loop.default.svc.cluster.local", resolution=Resolution.DNS_LB),
        route_set("vs", "shop.example.com", rule(to("legacy.default.svc.cluster.local", port=9080))),
    )
    domains = list(hosts_of(world.sidecar("9080"))[f"{REVIEWS}:9080"].domains)
    assert set(domains) >= {"old", "old.default.svc.cluster.local", "legacy.default.svc.cluster.local", *short}
    assert table(world, "80") == {
        "loop.default.svc.cluster.local:80": ["outbound|80||loop.default.svc.cluster.local"],
        "shop.example.com:80": [f"outbound|9080||{REVIEWS}"],
        "web.default.svc.cluster.local:80": ["outbound|80||web.default.svc.cluster.local"],
        "allow_any": ["PassthroughCluster"],
    }
    names = NameTable.FromString(world.engine.call(name_table, TableKey("", "default")).body).table
    assert list(names["legacy.default.svc.cluster.local"].ips) == ["10.0.0.7"]
    world.drop(service("reviews"))
    assert "legacy.default.svc.cluster.local:9080" in table(world, "9080"), "an ordinary host again"


def test_only_hosts_that_may_speak_http_on_the_port() -> None:
    world = World(
        service("http", 80), service("auto", 80, protocol=Protocol.AUTO), service("tcp", 80, protocol=Protocol.TCP)
    )
    assert list(table(world, "80")) == [
        "auto.default.svc.cluster.local:80",
        "http.default.svc.cluster.local:80",
        "allow_any",
    ]
    assert list(table(world, "81")) == ["allow_any"]


def test_a_route_without_rules() -> None:
    config = World(service("reviews", 9080)).sidecar("9080")
    assert config.ignore_port_in_host_matching
    assert config.HasField("validate_clusters")
    assert not config.validate_clusters.value
    assert config.max_direct_response_body_size_bytes.value == 1024 * 1024
    route = hosts_of(config)[f"{REVIEWS}:9080"].routes[0]
    assert route.name == "default"
    assert route.match.prefix == "/"
    assert route.decorator.operation == f"{REVIEWS}:9080/*"
    assert route.route.HasField("timeout")
    assert route.route.timeout.ToNanoseconds() == 0
    assert route.route.retry_policy.num_retries.value == 2
    assert route.route.retry_policy.retry_host_predicate[0].name == "envoy.retry_host_predicates.previous_hosts"


def test_hosts_that_nobody_knows() -> None:
    world = World()
    assert table(world, "80") == {"allow_any": ["PassthroughCluster"]}
    world.put(Mesh(outbound_policy="REGISTRY_ONLY"))
    blocked = hosts_of(world.sidecar("80"))["block_all"]
    assert blocked.routes[0].direct_response.status == 502


def test_one_host_on_a_detected_port() -> None:
    world = World(service("auto", 9080, protocol=Protocol.AUTO), service("reviews", 9080))
    config = world.sidecar("auto.default.svc.cluster.local:9080")
    assert [list(one.domains) for one in config.virtual_hosts] == [["*"]]
    assert not world.sidecar("gone.default.svc.cluster.local:9080").virtual_hosts


def test_names_of_no_known_form() -> None:
    world = World()
    for name in ("", "inbound", "0", "65536", "host:port", "host:", "²"):
        assert world.engine.call(sidecar_route, SidecarRouteKey(Client("default"), name)) is None


def test_what_an_application_sends_to_its_proxy() -> None:
    world = World(service("web", 80), service("reviews", 9080, protocol=Protocol.AUTO))
    config = world.sidecar("http_proxy")
    assert not config.ignore_port_in_host_matching
    found = hosts_of(config)
    assert list(found[f"{REVIEWS}:9080"].domains) == [
        f"{REVIEWS}:9080",
        "reviews:9080",
        "reviews.default:9080",
        "reviews.default.svc:9080",
    ]
    assert {"web", "web:80"} <= set(found["web.default.svc.cluster.local:80"].domains)
    assert "allow_any" in found


def test_rules_and_destinations() -> None:
    world = World(
        service("reviews", 9080, 9090),
        service("ratings", 7000),
        route_set(
            "vs",
            REVIEWS,
            rule(RATINGS, match=HttpMatch(uri=StringMatch("prefix", "/ratings"))),
            rule(to(REVIEWS, 9090), match=HttpMatch(port=9090)),
            rule(to(REVIEWS, subset="v1", weight=90), to(REVIEWS, subset="v2", weight=10), to(RATINGS, weight=0)),
            rule("never.reached"),
        ),
    )
    ratings = f"outbound|7000||{RATINGS}"
    assert table(world, "9080")[f"{REVIEWS}:9080"] == [
        ratings,
        f"outbound|9080|v1|{REVIEWS}@90",
        f"outbound|9080|v2|{REVIEWS}@10",
    ]
    assert table(world, "9090")[f"{REVIEWS}:9090"] == [ratings, f"outbound|9090||{REVIEWS}"]
    assert table(world, "7000")[f"{RATINGS}:7000"] == [ratings]


def test_what_depends_on_the_client() -> None:
    world = World(
        service("reviews"),
        service("ratings"),
        route_set(
            "vs",
            REVIEWS,
            rule(RATINGS, match=HttpMatch(source_labels=(("app", "web"),))),
            rule(to(RATINGS, subset="x"), match=HttpMatch(source_namespace="far")),
            rule(to(RATINGS, subset="gw"), match=HttpMatch(gateways=("default/gw",))),
        ),
    )
    at = f"{REVIEWS}:80"
    assert table(world, "80", app="web", tier="a")[at] == [f"outbound|80||{RATINGS}"]
    assert table(world, "80", app="db")[at] == [f"outbound|80||{REVIEWS}"], "no rule holds: the default route"
    assert table(world, "80", "far")[at] == [f"outbound|80|x|{RATINGS}"]


def test_clients_share_what_no_rule_tells_apart() -> None:
    world = World(*(service(f"s{number}") for number in range(20)))
    world.sidecar("80", app="a")
    world.engine.runs.clear()
    world.sidecar("80", app="b", version="7")
    assert world.engine.runs == {"routes.sidecar_route": 1}


def test_an_edit_rebuilds_one_virtual_host() -> None:
    facts = [service(f"s{number}") for number in range(50)]
    rules = [route_set(f"r{number}", one.key.hostname, rule(one.key.hostname)) for number, one in enumerate(facts)]
    world = World(*facts, *rules)
    before = world.sidecar_bytes("80")
    world.engine.runs.clear()
    world.put(route_set("r7", facts[7].key.hostname, rule(facts[8].key.hostname)))
    after = world.sidecar_bytes("80")
    assert before != after
    runs = world.engine.runs
    assert runs["routes_hosts.sidecar_virtual_host"] == 1
    assert runs["routes_rules.http_routes"] <= 2
    assert runs["routes_groups.sites"] == 0
    assert sum(runs.values()) < 15, runs


def test_incremental_equals_from_scratch() -> None:
    facts = [service("reviews"), service("ratings"), external("api.example.com")]
    first = route_set("a", REVIEWS, rule(RATINGS), created="2020")
    second = route_set("b", (REVIEWS, "free.example.com"), rule("api.example.com"), created="2019")
    world = World(*facts, first)
    world.sidecar_bytes("80")
    world.put(second)
    world.sidecar_bytes("80")
    world.drop(facts[1])
    world.sidecar_bytes("80")
    world.drop(first)
    assert world.sidecar_bytes("80") == World(facts[0], facts[2], second).sidecar_bytes("80")


def test_the_oldest_claim_stands() -> None:
    world = World(
        service("reviews"),
        route_set("young", REVIEWS, rule("young.example.com"), created="2024-01-01T00:00:00Z"),
        route_set("old", REVIEWS, rule("old.example.com"), namespace="far", created="2020-01-01T00:00:00Z"),
        route_set("hidden", REVIEWS, rule("h.example.com"), namespace="far", created="2019", export_to=(".",)),
    )
    assert table(world, "80")[f"{REVIEWS}:80"] == ["outbound|80||old.example.com"]
    assert table(world, "80", "far")[f"{REVIEWS}:80"] == ["outbound|80||h.example.com"]


def test_gateway_api_routes_of_the_clients_own_namespace_come_first() -> None:
    world = World(
        service("reviews"),
        route_set("a", REVIEWS, rule("stranger.example.com"), namespace="far", created="1", gateway_api=True),
        route_set("b", REVIEWS, rule("producer.example.com"), created="2", gateway_api=True),
        route_set("c", REVIEWS, rule("consumer.example.com"), namespace="near", created="3", gateway_api=True),
    )
    assert table(world, "80", "near")[f"{REVIEWS}:80"] == ["outbound|80||consumer.example.com"]
    assert table(world, "80", "third")[f"{REVIEWS}:80"] == ["outbound|80||producer.example.com"]


def test_wildcards() -> None:
    world = World(
        service("reviews"),
        service("ratings"),
        route_set("wide", "*.cluster.local", rule("wide.example.com"), created="1"),
        route_set("narrow", "*.default.svc.cluster.local", rule("narrow.example.com"), created="2"),
        route_set("exact", REVIEWS, rule("exact.example.com"), created="3"),
        route_set("free", "*.tld", rule("free.example.com")),
    )
    assert table(world, "80") == {
        "*.tld:80": ["outbound|80||free.example.com"],
        f"{RATINGS}:80": ["outbound|80||narrow.example.com"],
        f"{REVIEWS}:80": ["outbound|80||exact.example.com"],
        "allow_any": ["PassthroughCluster"],
    }


def test_names_without_a_host() -> None:
    world = World(
        service("reviews", 9080),
        route_set("free", "free.example.com", rule(to(REVIEWS, 9080))),
        route_set("mixed", ("mixed.example.com", REVIEWS), rule(to(REVIEWS, 9080))),
    )
    assert {"free.example.com:80", "mixed.example.com:80"} <= set(table(world, "80"))
    assert set(table(world, "9080")) == {"mixed.example.com:9080", f"{REVIEWS}:9080", "allow_any"}
    assert world.messages() == []


def test_no_name_twice() -> None:
    """Envoy refuses a whole configuration in which a domain stands twice."""
    world = World(
        service("reviews", addresses=("10.0.0.1",)),
        external("reviews.default", addresses=("10.0.0.1",)),
        external("a.example.com", addresses=("10.0.0.1", "10.0.0.2")),
        route_set("short", ("reviews.default.svc", "10.0.0.2"), rule("a.example.com")),
    )
    found = hosts_of(world.sidecar("80"))
    assert list(found[f"{REVIEWS}:80"].domains) == [REVIEWS, "reviews"]
    assert list(found["a.example.com:80"].domains) == ["a.example.com", "10.0.0.1"]
    domains = [name for one in found.values() for name in one.domains]
    assert len(domains) == len(set(domains))


def test_what_does_not_exist_is_named() -> None:
    world = World(
        service("reviews", 9080, 9090),
        route_set("vs", REVIEWS, rule(to("gone.example.com", weight=1), to(REVIEWS, 1, weight=1))),
        route_set("other", RATINGS, rule(to(REVIEWS, 9080, subset="v9"))),
    )
    assert table(world, "9080")[f"{REVIEWS}:9080"] == ["outbound|9080||gone.example.com@1", f"outbound|1||{REVIEWS}@1"]
    world.sidecar("80")
    found = world.messages()
    assert any("no host gone.example.com is known: requests" in one for one in found)
    assert any(f"host {REVIEWS} has no port 1; it has 9080, 9090" in one for one in found)
    assert any(f"no DestinationRule gives host {REVIEWS} a subset 'v9'" in one for one in found)
    assert all(one.startswith("VirtualService default/vs spec.http[0]: warning:") for one in found)
    world.put(external("gone.example.com", 9080))
    world.sidecar("9080")
    world.sidecar("80")
    assert not any("gone.example.com" in one for one in world.messages())


def policy(**more: object) -> TrafficPolicy:
    by_user = LoadBalancer(hash=HashPolicy(header="x-user"))
    by_ip = LoadBalancer(hash=HashPolicy(source_ip=True))
    at = origin("DestinationRule", "default", "dr")
    subset = Subset("ip", (("v", "1"),), Policy(load_balancer=by_ip), (), at)
    return TrafficPolicy(
        NamespacedName("default", "dr"), at, REVIEWS, Policy(load_balancer=by_user), subsets=(subset,), **more
    )


def test_what_requests_are_hashed_by() -> None:
    world = World(service("reviews"), service("ratings"), policy())
    at = f"{REVIEWS}:80"
    route = hosts_of(world.sidecar("80"))[at].routes[0].route
    assert route.hash_policy[0].header.header_name == "x-user"
    world.put(route_set("vs", REVIEWS, rule(to(REVIEWS, subset="ip"))))
    route = hosts_of(world.sidecar("80"))[at].routes[0].route
    assert route.hash_policy[0].connection_properties.source_ip
    assert not route.retry_policy.retry_host_predicate, "a retry belongs to the host that the hash chose"
    assert world.messages() == []


def test_a_policy_for_some_clients_only() -> None:
    world = World(service("reviews"), policy(selector=(("app", "web"),)))
    at = f"{REVIEWS}:80"
    assert hosts_of(world.sidecar("80", app="web"))[at].routes[0].route.hash_policy
    assert not hosts_of(world.sidecar("80", app="db"))[at].routes[0].route.hash_policy


def test_an_older_rule_that_names_subsets_only_leaves_the_rest_to_others() -> None:
    at = origin("DestinationRule", "default", "subsets")
    named = Subset("v1", (("v", "1"),), Policy(), (), at)
    older = TrafficPolicy(NamespacedName("default", "subsets"), at, REVIEWS, Policy(), subsets=(named,), created="1")
    world = World(service("reviews"), older, policy(created="2"))
    route = hosts_of(world.sidecar("80"))[f"{REVIEWS}:80"].routes[0].route
    assert route.hash_policy[0].header.header_name == "x-user"
    world.put(route_set("vs", REVIEWS, rule(to(REVIEWS, subset="v1"))))
    assert world.messages() == []


def test_the_mesh_default_of_retries() -> None:
    world = World(service("reviews"), Mesh(default_retry=RetryPolicy(attempts=0)))
    assert not hosts_of(world.sidecar("80"))[f"{REVIEWS}:80"].routes[0].route.HasField("retry_policy")


def test_where_a_route_comes_from() -> None:
    world = World(service("reviews"), route_set("vs", REVIEWS, rule(REVIEWS, name="all"), namespace="far"))
    route = hosts_of(world.sidecar("80"))[f"{REVIEWS}:80"].routes[0]
    assert route.name == "all"
    assert (
        route.metadata.filter_metadata["istio"]["config"]
        == "/apis/networking.istio.io/v1/namespaces/far/virtual-service/vs"
    )


def test_hosts_outside_the_mesh_learn_nothing_of_workloads() -> None:
    inside, outside = "web.default.svc.cluster.local", "api.example.com"
    world = World(
        service("web"),
        external(outside),
        route_set(
            "split",
            "split.example.com",
            rule(to(inside, weight=1), to(outside, weight=1), match=HttpMatch(uri=StringMatch("prefix", "/w"))),
            rule(inside, mirrors=(Mirror(to(outside).destination, 100.0),)),
        ),
    )
    found = hosts_of(world.sidecar("80"))
    assert list(found[f"{outside}:80"].routes[0].request_headers_to_remove) == ["x-fairlead-peer"]
    assert list(found[f"{outside}:80"].routes[0].response_headers_to_remove) == ["x-fairlead-peer"]
    assert list(found["allow_any"].routes[0].request_headers_to_remove) == ["x-fairlead-peer"]
    assert not found[f"{inside}:80"].routes[0].request_headers_to_remove
    split, mirrored = found["split.example.com:80"].routes
    shares = {one.name: list(one.request_headers_to_remove) for one in split.route.weighted_clusters.clusters}
    assert shares == {f"outbound|80||{inside}": [], f"outbound|80||{outside}": ["x-fairlead-peer"]}
    assert not mirrored.request_headers_to_remove
    assert mirrored.route.request_mirror_policies[0].request_headers_mutations[0].remove == "x-fairlead-peer"


def test_an_http_proxy_tunnels_to_every_port() -> None:
    world = World(
        service("web", 80, 9080),
        service("db", 5432, protocol=Protocol.TCP),
        Mesh(outbound_policy="REGISTRY_ONLY"),
    )
    key = SidecarRouteKey(Client("default"), "http_proxy", explicit=True)
    found = hosts_of(route_pb2.RouteConfiguration.FromString(world.engine.call(sidecar_route, key).body))
    tunnels = {name: host.routes[0].route.cluster for name, host in found.items()}
    assert tunnels == {
        "web.default.svc.cluster.local:80": "outbound|80||web.default.svc.cluster.local",
        "web.default.svc.cluster.local:9080": "http_proxy|9080||",
        "db.default.svc.cluster.local:5432": "outbound|5432||db.default.svc.cluster.local",
        "block_all": "",
    }
    assert all(host.routes[0].match.HasField("connect_matcher") for host in found.values())
    assert found["block_all"].routes[0].direct_response.status == 502
    assert len(found["db.default.svc.cluster.local:5432"].routes) == 1
    plain = hosts_of(world.sidecar("http_proxy"))
    assert not any(one.match.HasField("connect_matcher") for host in plain.values() for one in host.routes)
