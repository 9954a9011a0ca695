"""Proxies that ask for clusters: what they have from the start, and what one more host costs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fairlead.compiler.model import MeshModel
from fairlead.compiler.publish import Changes
from fairlead.envoy.resource import CLUSTER, ENDPOINT
from fairlead.ir.learned import EVERYTHING, LEARNED
from fairlead.ir.view import View
from fairlead.model.launch import Capture
from fairlead.model.ref import NamespacedName

Json = dict[str, Any]
WEB = NamespacedName("ns", "web")


def _document(api: str, kind: str, name: str, **more: Any) -> Json:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "ns"}, **more}


def _service(name: str, *ports: str) -> Json:
    listed = [{"name": port, "port": 80 + at} for at, port in enumerate(ports)]
    spec = {"clusterIP": "None", "selector": {"app": name}, "ports": listed}
    return _document("v1", "Service", name, spec=spec)


class Mesh:
    """Services that speak HTTP, and a database; proxies that ask and one that does not."""

    def __init__(self, services: int, *documents: Json) -> None:
        self.model = MeshModel()
        self.put(*(_service(f"s{number}", "http") for number in range(services)), _service("db", "tcp"), *documents)

    def put(self, *documents: Json) -> None:
        found = [self.model.kinds.read(document)[0] for document in documents]
        self.model.apply([one for one in found if one is not None])

    def learn(self, workload: NamespacedName, *hosts: str) -> tuple[dict[View, Changes], Counter[str]]:
        before = self.model.engine.runs.copy()
        with self.model.engine.transaction():
            self.model.engine.put(LEARNED, workload, tuple(sorted(hosts)))
        return self.model.publisher.refresh(), self.model.engine.runs - before

    def hosts(self, view: View, type_url: str = CLUSTER) -> set[str]:
        rows = self.model.publisher.catalog(view)[type_url]
        return {name.split("|")[3].partition(".")[0] for name in rows if name.startswith("outbound|")}


def _view(workload: str = "web", on_demand: Any = "true", **more: Any) -> View:
    capture = Capture("explicit", outbound_address="127.0.0.9")
    return View("sidecar", "ns", workload_name=workload, on_demand=on_demand, capture=capture, **more)


def name(service: str) -> str:
    return f"{service}.ns.svc.cluster.local"


@pytest.mark.parametrize("services", [20, 80])
def test_one_more_host_costs_its_cluster_and_its_endpoints(services: int) -> None:
    mesh, view = Mesh(services), _view()
    mesh.learn(WEB, name("s1"))
    mesh.model.publisher.open(view)
    assert mesh.hosts(view) == {"s1", "db"}
    changed, runs = mesh.learn(WEB, name("s1"), name("s2"), "nobody.ns.svc.cluster.local")
    [found] = changed.values()
    expected = [f"outbound|80||{name('s2')}"]
    assert {kind: list(rows) for kind, rows in found.items() if rows} == {CLUSTER: expected, ENDPOINT: expected}
    assert runs["clusters.outbound_cluster"] == 1 and runs["endpoints.assignment_of"] == 1
    assert runs.total() <= 25, runs
    # A host that comes later and is known already is there with its own change; others change nothing.
    mesh.put(_service("nobody", "http"), _service("other", "http"))
    mesh.model.publisher.refresh()
    assert mesh.hosts(view) == mesh.hosts(view, ENDPOINT) == {"s1", "s2", "db", "nobody"}


def test_proxies_that_know_the_same_share_it_and_others_are_as_they_were() -> None:
    mesh = Mesh(20)
    for workload in ("web", "shop", "idle"):
        mesh.model.publisher.open(_view(workload))
    for said in ("", "auto", "false"):
        mesh.model.publisher.open(_view("plain", said))
        assert len(mesh.hosts(_view("plain", said))) == 21
    layers = mesh.model.publisher.sizes()["layers"]
    mesh.learn(WEB, name("s1"))
    mesh.learn(NamespacedName("ns", "shop"), name("s1"))
    assert mesh.model.publisher.sizes()["layers"] == layers + 2, "a list of clusters and one of endpoints"
    assert mesh.hosts(_view("shop")) == {"s1", "db"} and mesh.hosts(_view("idle")) == {"db"}
    mesh.learn(WEB, *EVERYTHING)
    assert len(mesh.hosts(_view())) == 21, "who calls too much is given all"


def test_the_mesh_decides_for_those_who_do_not() -> None:
    mesh = Mesh(20)
    for said in ("", "auto", "false"):
        mesh.model.publisher.open(_view(on_demand=said))
    data = {"mesh": "fairlead: {scope: learned}"}
    settings = _document("v1", "ConfigMap", "istio", data=data)
    settings["metadata"]["namespace"] = "istio-system"
    mesh.put(settings)
    mesh.model.publisher.refresh()
    assert mesh.hosts(_view(on_demand="auto")) == {"db"}
    assert len(mesh.hosts(_view(on_demand="false"))) == len(mesh.hosts(_view(on_demand=""))) == 21


def test_what_nobody_could_ask_for_stands() -> None:
    def to(service: str) -> Json:
        return {"destination": {"host": service, "port": {"number": 80}}}

    copying = {"hosts": ["s1"], "http": [{"route": [to("s2")], "mirror": {"host": "s3"}}]}
    bytes_ = {"hosts": ["db"], "tcp": [{"route": [to("s4")]}]}
    mesh = Mesh(
        20,
        _service("both", "http", "tcp"),
        _service("detected", "x"),
        _document("networking.istio.io/v1", "VirtualService", "copying", spec=copying),
        _document("networking.istio.io/v1", "VirtualService", "bytes", spec=bytes_),
    )
    mesh.model.publisher.open(_view())
    assert mesh.hosts(_view()) == {"db", "both", "detected", "s3", "s4"}
    rows = mesh.model.publisher.catalog(_view())[CLUSTER]
    assert f"outbound|81||{name('both')}" in rows and f"outbound|80||{name('both')}" not in rows
