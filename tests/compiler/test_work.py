"""How much is computed and sent for each kind of change: in counts, at two sizes of the mesh."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest

from fairlead.compiler.model import MeshModel
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE
from fairlead.ir.view import View

Json = dict[str, Any]
_NETWORKING = "networking.istio.io/v1"
NAMESPACES = 4


class Work(NamedTuple):
    """What a change cost: rules run by name, resources pushed by type to each of the views, all views, and bytes."""

    runs: Counter[str]
    pushed: dict[str, int]
    views: int
    size: int


def _document(api: str, kind: str, namespace: str, name: str, spec: Json) -> Json:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _service(number: int) -> Json:
    spec = {
        "clusterIP": f"10.96.{number // 250}.{number % 250 + 1}",
        "selector": {"app": f"s{number}"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }
    return _document("v1", "Service", f"ns{number % NAMESPACES}", f"s{number}", spec)


def _entry(number: int, address: str = "") -> Json:
    spec = {
        "address": address or f"10.1.{number // 250}.{number % 250 + 1}",
        "labels": {"app": f"s{number}"},
        "serviceAccount": f"s{number}",
    }
    return _document(_NETWORKING, "WorkloadEntry", f"ns{number % NAMESPACES}", f"s{number}-0", spec)


class Mesh:
    """A mesh of a number of services, with two kinds of proxies open in each namespace, and some of each kind."""

    def __init__(self, services: int, replicas: int = 1) -> None:
        self.model = MeshModel()
        self.put(*(one for number in range(services) for one in (_service(number), _entry(number))))
        for number in range(2 * NAMESPACES):
            for replica in range(replicas):
                at = (f"10.1.{replica}.{number + 1}",)
                labels = (("app", f"s{number}"), ("pod", f"{number}-{replica}"))
                self.model.publisher.open(View("sidecar", f"ns{number % NAMESPACES}", labels, addresses=at))
        self.model.publisher.refresh()

    def put(self, *documents: Json) -> None:
        found = [self.model.kinds.read(document)[0] for document in documents]
        self.model.apply([one for one in found if one is not None])

    def drop(self, document: Json) -> None:
        found = self.model.kinds.read(document)[0]
        assert found is not None
        self.model.apply((), [found.ref])

    def work(self, document: Json, *, gone: bool = False) -> Work:
        before = self.model.engine.runs.copy()
        (self.drop if gone else self.put)(document)
        changed = self.model.publisher.refresh()
        runs = self.model.engine.runs - before
        some = next(iter(changed.values()), {})
        view = next(iter(changed), None)
        rows = self.model.publisher.catalog(view) if view is not None else {}
        size = sum(len(rows[kind][name].body) for kind, names in some.items() for name in names if name in rows[kind])
        # A type without names says that the mapping is another one.
        return Work(runs, {kind: len(names) for kind, names in some.items() if names}, len(changed), size)


HOST = "s0.ns0.svc.cluster.local"
_ROUTED = [{"route": [{"destination": {"host": HOST}}], "timeout": "3s"}]
CHANGES: dict[str, tuple[Json, dict[str, int], int]] = {
    "endpoint": (_entry(1, "10.9.9.9"), {ENDPOINT: 1}, 8),
    "route": (_document(_NETWORKING, "VirtualService", "ns0", "v", {"hosts": [HOST], "http": _ROUTED}), {ROUTE: 1}, 8),
    "private-route": (
        _document(_NETWORKING, "VirtualService", "ns0", "p", {"hosts": [HOST], "http": _ROUTED, "exportTo": ["."]}),
        {ROUTE: 1},
        2,
    ),
    "policy": (
        _document(
            _NETWORKING,
            "DestinationRule",
            "ns0",
            "d",
            {"host": HOST, "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}},
        ),
        {CLUSTER: 1},
        8,
    ),
    "permission": (
        _document(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            "ns0",
            "a",
            {"selector": {"matchLabels": {"app": "s0"}}, "rules": [{"from": [{"source": {"principals": ["x"]}}]}]},
        ),
        {LISTENER: 1},
        1,
    ),
    "service": (
        _document("v1", "Service", "ns3", "new", {"clusterIP": "10.97.0.1", "ports": [{"name": "http", "port": 80}]}),
        {CLUSTER: 1, ROUTE: 1, NAME_TABLE: 1},
        8,
    ),
}


@pytest.fixture(scope="module")
def meshes() -> tuple[Mesh, Mesh]:
    return Mesh(40), Mesh(160)


@pytest.mark.parametrize("name", list(CHANGES))
def test_work_is_that_of_the_change(meshes: tuple[Mesh, Mesh], name: str) -> None:
    document, pushed, views = CHANGES[name]
    small, large = (mesh.work(document) for mesh in meshes)
    # What first becomes special in a namespace has that namespace's own names looked up again, and nothing built.
    for work, services in ((small, 40), (large, 160)):
        assert work.runs.pop("routes_hosts.as_seen", 0) <= services // NAMESPACES
    assert small.runs == large.runs, "rules run do not depend on how many services there are"
    for work in (small, large):
        assert {kind: count for kind, count in work.pushed.items() if kind != ENDPOINT or name == "endpoint"} == pushed
        assert work.views == views
    if ROUTE not in pushed and NAME_TABLE not in pushed:
        assert small.size == large.size, "nor does what is sent"


def test_a_service_that_goes_costs_what_one_that_comes_does(meshes: tuple[Mesh, Mesh]) -> None:
    document = _document(
        "v1", "Service", "ns2", "late", {"clusterIP": "10.97.0.2", "ports": [{"name": "http", "port": 80}]}
    )
    for mesh in meshes:
        mesh.work(document)
    small, large = (mesh.work(document, gone=True) for mesh in meshes)
    assert small.runs == large.runs
    assert small.pushed == large.pushed == {CLUSTER: 1, ENDPOINT: 1, ROUTE: 1, NAME_TABLE: 1}


def test_work_does_not_depend_on_how_many_proxies_there_are() -> None:
    """Each proxy that must hear of a change hears of it; beyond that, a change costs the same for one and for ten."""
    one, ten = Mesh(20), Mesh(20, replicas=10)
    assert (one.model.publisher.sizes()["groups"], ten.model.publisher.sizes()["views"]) == (8, 80)
    for name, (document, _pushed, views) in CHANGES.items():
        few, many = one.work(document), ten.work(document)
        assert few.runs == many.runs, name
        assert (few.views, many.views) == (views, 10 * views), name
        assert (few.pushed, few.size) == (many.pushed, many.size), name


def test_what_means_nothing_costs_one_rule(meshes: tuple[Mesh, Mesh]) -> None:
    for mesh in meshes:
        document = _service(2)
        document["metadata"]["annotations"] = {"note": str(id(mesh))}
        work = mesh.work(document)
        assert work.runs.total() <= 1
        assert not work.views
        assert not mesh.work(document).runs, "the same again costs none"


def test_endpoints_touch_neither_clusters_nor_routes(meshes: tuple[Mesh, Mesh]) -> None:
    runs = meshes[0].work(_entry(3, "10.9.9.8")).runs
    assert runs["endpoints.assignment_of"] == 1
    assert not any(name.partition(".")[0] in ("clusters", "routes", "routes_hosts", "listeners") for name in runs)


def test_a_view_more_costs_what_is_its_own() -> None:
    mesh = Mesh(40)
    before, runs = mesh.model.publisher.sizes(), mesh.model.engine.runs.copy()
    mesh.model.publisher.open(View("sidecar", "ns0", (("app", "s0"),), addresses=("10.5.0.1",)))
    after = mesh.model.publisher.sizes()
    assert after["parts"] - before["parts"] < 10
    built = mesh.model.engine.runs - runs
    assert not built["clusters.outbound_cluster"]
    assert not built["endpoints.assignment_of"]
    assert not built["routes.shared_route"]
