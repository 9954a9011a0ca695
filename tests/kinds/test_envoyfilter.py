"""EnvoyFilter: goldens, validation, order, and what patches do to listeners, routes and clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from google.protobuf.wrappers_pb2 import BoolValue
from hypothesis import given, settings
from hypothesis import strategies as st
from lowering import check, inputs, read
from msgspec.structs import replace

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.registry import registry
from fairlead.envoy.merge import merge
from fairlead.envoy.resource import CLUSTER, LISTENER, ROUTE
from fairlead.ir.patch import PATCHES
from fairlead.ir.view import View
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import AppPort, Capture
from fairlead.model.yaml import parse_documents

HEAD = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: %s, namespace: %s}\nspec: %s\n"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  clusterIP: 10.96.1.1
  ports: [{name: http, port: 9080}]
"""
VIEW = View(
    "sidecar",
    "default",
    (("app", "client"),),
    addresses=("127.66.0.9",),
    ports=(AppPort(8080, "http"),),
    capture=Capture("redirect"),
)


def made(*specs: str, namespaces: tuple[str, ...] = ()) -> MeshModel:
    """A mesh with these EnvoyFilters."""
    texts = [SERVICE]
    for at, spec in enumerate(specs):
        texts.append(HEAD % (f"f{at}", namespaces[at] if namespaces else "default", spec))
    model = MeshModel()
    found = load(model, parse_documents("\n---\n".join(texts), "test.yaml"))
    assert not [one for one in found if one.severity is Severity.ERROR], found
    return model


def problems(spec: str) -> list[tuple[str, str, bool]]:
    """Field, code and whether it is an error, of every finding."""
    manifest = next(iter(parse_documents(HEAD % ("f", "default", spec), "")))
    _, found = registry().read(manifest.data)
    return [(str(one.path), one.code, one.severity is Severity.ERROR) for one in found]


@pytest.mark.parametrize("path", inputs("envoyfilter"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def test_every_patch_of_the_golden_takes_effect() -> None:
    path = inputs("envoyfilter")[0]
    model = MeshModel()
    load(model, parse_documents(path.read_text(), path.name))
    with model.opened(VIEW):
        assert [one for one in model.diagnostics() if one.code == "FL2402"] == []


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("{configPatches: [{applyTo: CLUSTER}]}", ("spec.configPatches[0].patch", "FL0004", True)),
        (
            "{configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {conect_timeout: 1s}}}]}",
            ("spec.configPatches[0].patch.value", "FL2401", True),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, patch: {operation: ADD, value: "
            "{circuit_breakers: {thresholds: [{wrong: 1}]}}}}]}",
            ("spec.configPatches[0].patch.value.circuit_breakers.thresholds[0]", "FL2401", True),
        ),
        (
            '{configPatches: [{applyTo: HTTP_FILTER, patch: {operation: ADD, value: {name: a, typed_config: {"@type": '
            "type.googleapis.com/envoy.nothing.Here}}}}]}",
            ("spec.configPatches[0].patch.value", "FL2401", True),
        ),
        (
            "{configPatches: [{applyTo: NETWORK_FILTER, patch: {operation: ADD, value: {name: a, typed_config: "
            '{"@type": "type.googleapis.com/envoy.config.filter.network.ext_authz.v2.ExtAuthz"}}}}]}',
            ("spec.configPatches[0].patch.value", "FL2401", True),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, patch: {operation: ADD, value: {health_checks: [{timeout: 1ms2}]}}}]}",
            ("spec.configPatches[0].patch.value", "FL2401", True),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, match: {listener: {}}, patch: {operation: REMOVE}}]}",
            ("spec.configPatches[0].match.listener", "FL0001", True),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, patch: {operation: INSERT_FIRST, value: {name: a}}}]}",
            ("spec.configPatches[0].patch.operation", "FL0103", False),
        ),
        (
            '{configPatches: [{applyTo: CLUSTER, match: {proxy: {proxyVersion: "("}}, patch: {operation: REMOVE}}]}',
            ("spec.configPatches[0].match.proxy.proxyVersion", "FL0001", True),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, match: {proxy: {proxyVersion: '^1[.]20.*'}}, patch: {operation: "
            "MERGE, value: {connect_timeout: 3s}}}]}",
            ("spec.configPatches[0].match.proxy.proxyVersion", "FL0103", False),
        ),
        *(
            (
                f"{{configPatches: [{{applyTo: {to}, match: {{listener: {{filterChain: {{filter: {match}}}}}}}, "
                "patch: {operation: REMOVE}}]}",
                (f"spec.configPatches[0].match.listener.filterChain.filter{field}", code, is_error),
            )
            for to, match, field, code, is_error in (
                ("NETWORK_FILTER", "{}", ".name", "FL0004", True),
                ("HTTP_FILTER", "{name: random, subFilter: {name: a}}", ".name", "FL0001", True),
                (
                    "HTTP_FILTER",
                    "{name: envoy.filters.network.http_connection_manager, subFilter: {}}",
                    ".subFilter.name",
                    "FL0004",
                    True,
                ),
                ("FILTER_CHAIN", "{name: a}", "", "FL0103", False),
                ("NETWORK_FILTER", "{name: envoy.tcp_proxy}", ".name", "FL0103", False),
            )
        ),
        (
            "{configPatches: [{applyTo: HTTP_FILTER, patch: {operation: INSERT_FIRST, value: {}}}]}",
            ("spec.configPatches[0].patch.value.typed_config", "FL0103", False),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, match: {waypoint: {}}, patch: {operation: REMOVE}}]}",
            ("spec.configPatches[0].match", "FL0001", True),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, match: {context: WAYPOINT, cluster: {}}, "
            "patch: {operation: REMOVE}}]}",
            ("spec.configPatches[0].match", "FL0001", True),
        ),
        (
            "{configPatches: [{applyTo: CLUSTER, match: {context: WAYPOINT, waypoint: {portNumber: 65536}}, "
            "patch: {operation: REMOVE}}]}",
            ("spec.configPatches[0].match.waypoint.portNumber", "FL0001", True),
        ),
        ("{workloadSelector: {labels: {a: b}}, targetRefs: [{kind: Service, name: a}]}", ("spec", "FL0001", True)),
    ],
)
def test_refused_or_warned_about(spec: str, wanted: tuple[str, str, bool]) -> None:
    assert wanted in problems(spec)


def timeout(value: str, priority: int = 0) -> str:
    """A patch of a cluster's connect timeout."""
    match = "{cluster: {service: reviews.default.svc.cluster.local}}"
    change = f"{{operation: MERGE, value: {{connect_timeout: {value}}}}}"
    return f"{{priority: {priority}, configPatches: [{{applyTo: CLUSTER, match: {match}, patch: {change}}}]}}"


def connect_timeout(model: MeshModel) -> int:
    body = model.compile(VIEW)[CLUSTER]["outbound|9080||reviews.default.svc.cluster.local"].body
    return Cluster.FromString(body).connect_timeout.seconds


def test_later_objects_win() -> None:
    one, two = timeout("3s"), timeout("4000ms")  # a duration as Go writes it
    assert connect_timeout(made(one, two)) == 4
    assert connect_timeout(made(timeout("3s", priority=1), two)) == 3
    # The root namespace comes first, whatever the names are.
    assert connect_timeout(made(one, two, namespaces=("default", "istio-system"))) == 3
    # Other namespaces have no say.
    assert connect_timeout(made(one, two, namespaces=("default", "elsewhere"))) == 3


@pytest.mark.parametrize(
    ("proxy", "wanted"),
    [
        ("{proxyVersion: '^0[.]1'}", 3),
        ("{proxyVersion: '^1[.]2'}", 10),
        # What RE2 has and others have not, or read otherwise.
        (r"{proxyVersion: '(?i)^[[:digit:]].1.0\z'}", 3),
        (r"{proxyVersion: '\Q0.1\E.+\pN'}", 3),
        (r"{proxyVersion: '\A[[:alpha:]]'}", 10),
        ("{metadata: {WORKLOAD_NAME: web, TIER: gold}}", 3),
        ("{metadata: {TIER: silver}}", 10),
    ],
)
def test_the_proxy_matters(proxy: str, wanted: int) -> None:
    model = made(timeout("3s").replace("match: {", f"match: {{proxy: {proxy}, "))
    view = replace(VIEW, version="0.1.0", metadata=(("TIER", "gold"),), workload_name="web")
    body = model.compile(view)[CLUSTER]["outbound|9080||reviews.default.svc.cluster.local"].body
    assert Cluster.FromString(body).connect_timeout.seconds == wanted


def test_a_patch_that_matches_nothing_is_a_warning() -> None:
    model = made("{configPatches: [{applyTo: CLUSTER, match: {cluster: {name: nobody}}, patch: {operation: REMOVE}}]}")
    with model.opened(VIEW):
        found = [one for one in model.diagnostics() if one.code == "FL2402"]
        assert [str(one.origin.path) for one in found] == ["spec.configPatches[0]"]


def test_proxies_that_nothing_selects_keep_their_parts() -> None:
    spec = "{workloadSelector: {labels: {app: other}}, " + timeout("3s")[1:]
    plain = made()
    plain.publisher.open(VIEW)
    patched = made(spec)
    patched.publisher.open(VIEW)
    assert patched.publisher.sizes() == plain.publisher.sizes()


def test_a_change_of_one_patch_rebuilds_what_it_touches() -> None:
    model = made(timeout("3s"))
    model.publisher.open(VIEW)
    model.apply(read(HEAD % ("f0", "default", timeout("9s"))))
    changes = model.publisher.refresh()[VIEW]
    assert {type_url: list(names) for type_url, names in changes.items() if names} == {
        CLUSTER: ["outbound|9080||reviews.default.svc.cluster.local"]
    }


def test_inbound_routes_are_patched_in_the_listener() -> None:
    model = made(
        "{configPatches: [{applyTo: HTTP_ROUTE, match: {context: SIDECAR_INBOUND, routeConfiguration: {portNumber: "
        "8080}}, patch: {operation: MERGE, value: {route: {timeout: 7s}}}}]}"
    )
    listener = Listener.FromString(model.compile(VIEW)[LISTENER]["virtualInbound"].body)
    found = [
        HttpConnectionManager.FromString(one.typed_config.value).route_config.virtual_hosts[0].routes[0].route.timeout
        for chain in listener.filter_chains
        for one in chain.filters
        if one.name.endswith("http_connection_manager") and chain.filter_chain_match.destination_port.value == 8080
    ]
    assert found and all(one.seconds == 7 for one in found)


ROUTES = "routeConfiguration: {name: '9080', vhost: {name: 'reviews.default.svc.cluster.local:9080'%s}}"
TEAPOT = "name: tea, match: {path: /tea}, direct_response: {status: 418}"
RBAC = "'@type': type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"
TLS = "'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
MANAGER = "listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}"
REVIEWS = SERVICE.replace("spec:", "spec:\n  selector: {app: client}").replace("9080}", "9080, targetPort: 8080}")


def change(to: str, operation: str, match: str = "", value: str = "") -> str:
    """One patch."""
    said = f", value: {{{value}}}" if value else ""
    return f"{{applyTo: {to}, match: {{{match}}}, patch: {{operation: {operation}{said}}}}}"


def patched(*patches: str) -> dict[str, Any]:
    """What a sidecar gets with these patches of one object: the messages by name."""
    model = made("{configPatches: [" + ", ".join(patches) + "]}")
    load(model, parse_documents(REVIEWS, "test.yaml"))
    found = model.compile(VIEW)
    messages = {CLUSTER: Cluster, LISTENER: Listener, ROUTE: RouteConfiguration}
    return {name: kind.FromString(one.body) for url, kind in messages.items() for name, one in found[url].items()}


def first_filters(listener: Listener, port: int) -> list[Filter]:
    """The first network filters of a port's chains."""
    chains = (one for one in listener.filter_chains if one.filter_chain_match.destination_port.value == port)
    return [one.filters[0] for one in chains]


def test_ports_of_listeners_are_not_those_of_their_chains() -> None:
    match = "listener: {portNumber: 8080}"
    added = change("NETWORK_FILTER", "INSERT_FIRST", match, f"name: mine, typed_config: {{{RBAC}}}")
    # A filter stands in the chains of the port, whatever the listener's own port is; the listener itself stays.
    listener = patched(change("LISTENER", "REMOVE", match), added)["virtualInbound"]
    assert {one.name for one in first_filters(listener, 8080)} == {"mine"}
    assert "mine" not in {one.name for one in first_filters(listener, 0)}


@pytest.mark.parametrize(
    "patch",
    [
        change("NETWORK_FILTER", "REMOVE"),
        change("HTTP_FILTER", "REMOVE", MANAGER),
        change("LISTENER_FILTER", "REMOVE"),
        change("HTTP_FILTER", "MERGE", value="name: other"),
    ],
)
def test_what_names_no_filter_changes_none(patch: str) -> None:
    assert patched(patch) == patched()


def test_filters_are_added_and_removed_before_they_are_merged() -> None:
    at = "context: SIDECAR_INBOUND, listener: {portNumber: 8080%s}"
    named = at % ", filterChain: {filter: {name: mine}}"
    merged = change("NETWORK_FILTER", "MERGE", named, f"typed_config: {{{RBAC}, stat_prefix: told}}")
    added = change("NETWORK_FILTER", "INSERT_FIRST", at % "", f"name: mine, typed_config: {{{RBAC}}}")
    found = first_filters(patched(merged, added)["virtualInbound"], 8080)
    assert found and all(b"told" in one.typed_config.value for one in found)


def test_routes_are_changed_and_removed_before_others_are_added() -> None:
    added = change("HTTP_ROUTE", "ADD", ROUTES % "", TEAPOT)
    removed = change("HTTP_ROUTE", "REMOVE", ROUTES % "")
    nowhere = change("HTTP_ROUTE", "INSERT_FIRST", ROUTES % ", route: {name: nobody}", TEAPOT)
    hosts = {one.name: one for one in patched(added, removed, nowhere)["9080"].virtual_hosts}
    assert [one.name for one in hosts["reviews.default.svc.cluster.local:9080"].routes] == ["tea"]


def test_virtual_hosts_are_replaced() -> None:
    replaced = change("VIRTUAL_HOST", "REPLACE", ROUTES % "", "name: mine, domains: [mine.test]")
    hosts = [one.name for one in patched(replaced)["9080"].virtual_hosts]
    assert "mine" in hosts and "reviews.default.svc.cluster.local:9080" not in hosts


def test_clusters_by_service_and_socket() -> None:
    match = "context: %s, cluster: {service: reviews.default.svc.cluster.local}"
    socket = f"transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {{{TLS}, sni: mine}}}}"
    found = patched(
        change("CLUSTER", "MERGE", match % "SIDECAR_INBOUND", "connect_timeout: 3s"),
        change("CLUSTER", "MERGE", match % "SIDECAR_OUTBOUND", socket),
        change("CLUSTER", "INSERT_FIRST", value="name: mine, connect_timeout: 1s"),
    )
    assert (found["inbound|8080||"].connect_timeout.seconds, found["mine"].connect_timeout.seconds) == (3, 1)
    cluster = found["outbound|9080||reviews.default.svc.cluster.local"]
    # Beside those between which endpoints choose Envoy would refuse another socket.
    assert not cluster.HasField("transport_socket")
    tls = UpstreamTlsContext.FromString(cluster.transport_socket_matches[0].transport_socket.typed_config.value)
    assert tls.sni == "mine" and tls.common_tls_context.alpn_protocols


def test_merge() -> None:
    old, new = Cluster(name="a", connect_timeout={"seconds": 5, "nanos": 7}), Cluster(connect_timeout={"seconds": 9})
    old.circuit_breakers.thresholds.add(track_remaining=True)
    new.circuit_breakers.thresholds.add().max_retries.value = 3
    old.ignore_health_on_host_removal = True
    whole = Cluster.FromString(old.SerializeToString())
    merge(old, new)
    assert (old.name, old.connect_timeout.nanos, len(old.circuit_breakers.thresholds)) == ("a", 0, 2)
    merge(whole, new, replace_lists=True)
    assert len(whole.circuit_breakers.thresholds) == 1
    one, two = Filter(name="a"), Filter()
    one.typed_config.Pack(HttpConnectionManager(stat_prefix="a", normalize_path=BoolValue(value=True)))
    two.typed_config.Pack(HttpConnectionManager(normalize_path=BoolValue(value=False), via="x"))
    merge(one, two)
    manager = HttpConnectionManager.FromString(one.typed_config.value)
    assert (manager.stat_prefix, manager.via, manager.normalize_path.value) == ("a", "x", False)


NAMES = st.sampled_from(
    ["", "envoy.filters.network.http_connection_manager", "envoy.filters.network.tcp_proxy", "virtualInbound", "x"]
)
STRUCT = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}
VALUES: dict[str, Any] = {
    "LISTENER": {"per_connection_buffer_limit_bytes": 4096, "name": "new"},
    "FILTER_CHAIN": {"name": "mine"},
    "LISTENER_FILTER": {"name": "envoy.filters.listener.http_inspector"},
    "NETWORK_FILTER": {
        "name": "f",
        "typed_config": STRUCT,
    },
    "HTTP_FILTER": {"name": "f", "typed_config": STRUCT},
    "ROUTE_CONFIGURATION": {"request_headers_to_remove": ["x-a"]},
    "VIRTUAL_HOST": {"name": "h", "domains": ["h.test"]},
    "HTTP_ROUTE": {"match": {"prefix": "/"}, "direct_response": {"status": 418}},
    "CLUSTER": {"name": "c", "connect_timeout": "3s"},
    "EXTENSION_CONFIG": {
        "name": "e",
        "typed_config": STRUCT,
    },
}
OPERATIONS = ["MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"]


@st.composite
def patches(draw: st.DrawFn) -> dict[str, Any]:
    """A random patch; not every one is valid."""
    apply_to = draw(st.sampled_from(sorted(VALUES)))
    context = draw(st.sampled_from(["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"]))
    match: dict[str, Any] = {"context": context}
    if apply_to in ("LISTENER", "FILTER_CHAIN", "LISTENER_FILTER", "NETWORK_FILTER", "HTTP_FILTER"):
        chain = {"name": draw(NAMES), "destinationPort": draw(st.sampled_from([0, 8080]))}
        if apply_to.endswith("K_FILTER") or apply_to == "HTTP_FILTER":
            chain["filter"] = {"name": draw(NAMES)}
        match["listener"] = {"name": draw(NAMES), "portNumber": draw(st.sampled_from([0, 9080])), "filterChain": chain}
    operation = draw(st.sampled_from([*OPERATIONS, "REPLACE"]))
    change: dict[str, Any] = {"operation": operation, "value": VALUES[apply_to]}
    return {"applyTo": apply_to, "match": match, "patch": change}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(patches(), max_size=4), min_size=1, max_size=3))
def test_any_order_of_insertion_gives_the_same_bytes(sets: list[list[dict[str, Any]]]) -> None:
    objects = [*read(SERVICE)]
    for at, one in enumerate(sets):
        document = {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": f"f{at}", "namespace": "default"},
            "spec": {"configPatches": one},
        }
        obj, found = registry().read(document)
        assert (obj is None) == any(problem.severity is Severity.ERROR for problem in found)
        objects += [obj] if obj is not None else []
    whole, turned = MeshModel(), MeshModel()
    whole.apply(objects)
    for obj in reversed(objects):
        turned.apply([obj])
    first, second = whole.compile(VIEW), turned.compile(VIEW)
    for type_url in (CLUSTER, LISTENER, ROUTE):
        assert {name: one.body for name, one in first[type_url].items()} == {
            name: one.body for name, one in second[type_url].items()
        }
    assert whole.engine.failures() == []
    assert len(list(whole.engine.items(PATCHES))) == len(objects) - 1
