"""Which of several objects stands, and what of the others is joined to it, as in Istio's push context."""

from __future__ import annotations

import json
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.envoy.resource import CLUSTER, LISTENER, ROUTE
from fairlead.ir.view import View
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import Capture
from fairlead.model.manifest import Manifest

Json = dict[str, Any]
ROOT = "istio-system"
WEB = "web.shop.svc.cluster.local"
SERVICE: Json = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]},
}


def networking(kind: str, name: str, spec: Json, namespace: str = "shop", created: int = 0) -> Json:
    meta = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-01T00:00:{created:02}Z"}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def compiled(*documents: Json, view: View) -> Catalog:
    model = MeshModel()
    found = load(model, [Manifest(json.loads(json.dumps(one))) for one in documents])
    assert [one for one in found if one.severity is Severity.ERROR] == []
    made = model.compile(view)
    assert model.engine.failures() == []
    return made


def rule(namespace: str, created: int, limit: int = 0, **spec: Any) -> Json:
    """A DestinationRule; `limit` is told by its number of connections, 0 says nothing of the whole host."""
    pool = {"connectionPool": {"tcp": {"maxConnections": limit}}}
    said = {"host": WEB, **({"trafficPolicy": pool} if limit else {}), **spec}
    return networking("DestinationRule", f"dr{created}", said, namespace, created)


def subset(name: str) -> Json:
    return {"subsets": [{"name": name, "labels": {"v": name}}]}


MINE = {"workloadSelector": {"matchLabels": {"app": "me"}}}


@pytest.mark.parametrize(
    ("client", "rules", "limit", "subsets"),
    [
        pytest.param(ROOT, [rule(ROOT, 1, 1), rule("shop", 2, 2)], 2, [], id="root-says-to-all-after-the-owner"),
        pytest.param(
            ROOT, [rule(ROOT, 1, 1, exportTo=["."]), rule("shop", 2, 2)], 1, [], id="root-says-to-itself-first"
        ),
        pytest.param("far", [rule(ROOT, 1, 1), rule("shop", 2, 2)], 2, [], id="owner-before-root"),
        pytest.param("far", [rule("far", 3, 3), rule("shop", 2, 2)], 3, [], id="client-before-owner"),
        pytest.param(
            "far",
            [rule("shop", 1, 1, host="*.svc.cluster.local"), rule("shop", 2, 2, host=f"*{WEB[1:]}")],
            2,
            [],
            id="longest-wildcard",
        ),
        pytest.param(
            "far", [rule("shop", 1, **subset("a")), rule("shop", 2, 2, **subset("b"))], 2, ["a", "b"], id="joined"
        ),
        pytest.param(
            "far",
            [rule("shop", 1, 1, exportTo=["*"], **subset("a")), rule("shop", 2, 2, exportTo=["far"], **subset("b"))],
            1,
            ["a"],
            id="exported-otherwise-not-joined",
        ),
        pytest.param(
            "shop",
            [rule("shop", 1, 1, **subset("a")), rule("shop", 2, 2, **subset("b"), **MINE)],
            2,
            ["a", "b"],
            id="for-these-clients",
        ),
        pytest.param(
            "shop",
            [rule("shop", 1, **subset("a"), **MINE), rule("shop", 2, 2, **subset("b"))],
            2,
            ["a", "b"],
            id="for-these-clients-without-limits",
        ),
    ],
)
def test_destination_rules(client: str, rules: list[Json], limit: int, subsets: list[str]) -> None:
    view = View("sidecar", client, (("app", "me"),), addresses=("10.1.1.1",))
    found = {
        name.split("|")[2]: Cluster.FromString(one.body)
        for name, one in compiled(SERVICE, *rules, view=view)[CLUSTER].items()
        if name.startswith("outbound|80|")
    }
    assert found[""].circuit_breakers.thresholds[0].max_connections.value == limit
    assert sorted(found) == ["", *subsets]


def prefix(path: str) -> Json:
    return {"uri": {"prefix": path}}


@pytest.mark.parametrize(
    ("root", "leaf", "paths"),
    [
        ([prefix("/a")], [prefix("/a/b")], ["/a/b"]),
        ([prefix("/a"), prefix("/c")], [prefix("/a/b"), prefix("/c/d")], ["/a/b", "/c/d"]),
        # One condition that is not narrower takes the whole rule away; the service's own is left.
        ([prefix("/a")], [prefix("/a/b"), prefix("/c")], ["/"]),
        ([{"uri": {"regex": "/a.*"}}], [{"uri": {"regex": "/a.*"}}], ["/"]),
        ([{"headers": {"x": {}}}], [{"headers": {"x": {"exact": "1"}}}], ["/"]),
        ([prefix("/a")], [{**prefix("/a/b"), "ignoreUriCase": True}], ["/"]),
        ([{**prefix("/a"), "sourceNamespace": "far"}], [prefix("/a/b")], ["/"]),
    ],
)
def test_conditions_of_delegates(root: list[Json], leaf: list[Json], paths: list[str]) -> None:
    to = {"route": [{"destination": {"host": "web"}}]}
    above = networking(
        "VirtualService", "above", {"hosts": ["web"], "http": [{"match": root, "delegate": {"name": "below"}}]}
    )
    below = networking("VirtualService", "below", {"http": [{"match": leaf, **to}]})
    view = View("sidecar", "far", (), addresses=("10.1.1.1",))
    routes = RouteConfiguration.FromString(compiled(SERVICE, above, below, view=view)[ROUTE]["80"].body)
    host = next(one for one in routes.virtual_hosts if f"{WEB}:80" == one.name)
    assert [
        one.match.prefix or one.match.path_separated_prefix or one.match.safe_regex.regex for one in host.routes
    ] == paths


def test_plain_http_servers_of_any_version_share_a_port() -> None:
    def gateway(name: str, protocol: str) -> Json:
        server = {"port": {"number": 8080, "name": "a", "protocol": protocol}, "hosts": [f"{name}.test"]}
        return networking("Gateway", name, {"selector": {"app": "edge"}, "servers": [server]})

    names = {"one": "HTTP", "two": "HTTP2", "three": "GRPC"}
    rules = [
        networking(
            "VirtualService",
            name,
            {"hosts": [f"{name}.test"], "gateways": [name], "http": [{"route": [{"destination": {"host": "web"}}]}]},
        )
        for name in names
    ]
    view = View("router", "shop", (("app", "edge"),), addresses=("10.1.1.1",))
    found = compiled(SERVICE, *(gateway(*one) for one in names.items()), *rules, view=view)
    assert [len(Listener.FromString(one.body).filter_chains) for one in found[LISTENER].values()] == [1]
    routes = RouteConfiguration.FromString(found[ROUTE]["http.8080"].body)
    assert sorted(one.name for one in routes.virtual_hosts) == ["one.test:8080", "three.test:8080", "two.test:8080"]


@pytest.mark.parametrize(
    ("more", "limits"),
    [
        ([], (0, "")),
        ([rule("shop", 1, 7)], (7, "shop/destination-rule/dr1")),
        ([rule("shop", 1, 0, trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}})], (0, "")),
        (
            [
                rule("shop", 1, 7),
                networking(
                    "Sidecar",
                    "s",
                    {"inboundConnectionPool": {"tcp": {"maxConnections": 8}}, "egress": [{"hosts": ["*/*"]}]},
                ),
            ],
            (8, ""),
        ),
    ],
)
def test_limits_of_connections_to_the_application(more: list[Json], limits: tuple[int, str]) -> None:
    service = {**SERVICE, "spec": {**SERVICE["spec"], "selector": {"app": "me"}}}
    view = View("sidecar", "shop", (("app", "me"),), addresses=("10.1.1.1",), capture=Capture("redirect"))
    found = Cluster.FromString(compiled(service, *more, view=view)[CLUSTER]["inbound|80||"].body)
    most = found.circuit_breakers.thresholds[0].max_connections.value
    config = found.metadata.filter_metadata["istio"].fields["config"].string_value
    assert (most if most < 100 else 0, config.rpartition("namespaces/")[2]) == limits


def test_capitals_in_names_mean_nothing() -> None:
    # Envoy refuses a route configuration in which names differ in nothing else.
    to = {"http": [{"match": [prefix("/a")], "route": [{"destination": {"host": "API.example.com"}}]}]}
    entry = {"resolution": "STATIC", "ports": [{"number": 80, "name": "http"}]}
    entries = [networking("ServiceEntry", f"{at}", {**entry, "hosts": [f"{at}.Example.com"]}) for at in ("api", "more")]
    entries.append(networking("ServiceEntry", "same", {**entry, "hosts": ["Api.Example.com"]}))
    rules = networking("VirtualService", "web", {"hosts": ["Web.shop.svc.cluster.local"], **to})
    limited = networking(
        "Sidecar", "default", {"egress": [{"hosts": ["*/Api.example.com", "./web.shop.svc.cluster.local"]}]}
    )
    view = View("sidecar", "shop", (), addresses=("10.1.1.1",))
    made = compiled(SERVICE, rules, *entries, limited, view=view)
    routes = RouteConfiguration.FromString(made[ROUTE]["80"].body)
    found = {one.name: one for one in routes.virtual_hosts}
    assert list(found) == ["api.example.com:80", f"{WEB}:80", "allow_any"]
    assert found[f"{WEB}:80"].routes[0].route.cluster == "outbound|80||api.example.com"
