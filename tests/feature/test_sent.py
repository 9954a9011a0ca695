"""What a change of each kind makes a control plane do and send to one proxy: rules and bytes, at two sizes of the mesh.

Bytes are those of the responses, with the differences that agents take; everything is acknowledged at once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest

from fairlead.compiler.model import MeshModel
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE
from fairlead.ir.view import View
from fairlead.xds.messages import DeltaRequest
from fairlead.xds.session import Session
from fairlead.xds.wire import Encoder

Json = dict[str, Any]
NETWORKING, SECURITY = "networking.istio.io/v1", "security.istio.io/v1"
NAMESPACES = 4
KINDS = {CLUSTER: "clusters", ENDPOINT: "endpoints", LISTENER: "listeners", ROUTE: "routes", NAME_TABLE: "names"}


def document(api: str, kind: str, namespace: str, name: str, spec: Json, **meta: Json) -> Json:
    named = {"name": name, "namespace": namespace, **meta}
    return {"apiVersion": api, "kind": kind, "metadata": named, "spec": spec}


def service(number: int, name: str = "", **meta: Json) -> Json:
    called = name or f"s{number}"
    spec = {
        "clusterIP": f"10.96.{number // 250}.{number % 250 + 1}",
        "selector": {"app": called},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }
    return document("v1", "Service", f"ns{number % NAMESPACES}", called, spec, **meta)


def entry(number: int, address: str = "") -> Json:
    at = address or f"10.1.{number // 250}.{number % 250 + 1}"
    spec = {"address": at, "labels": {"app": f"s{number}"}, "serviceAccount": f"s{number}"}
    return document(NETWORKING, "WorkloadEntry", f"ns{number % NAMESPACES}", f"s{number}-0", spec)


class Sent(NamedTuple):
    """Rules run by name; how many resources of each type were sent or taken away, and in how many bytes."""

    runs: Counter[str]
    resources: dict[str, int]
    sizes: dict[str, int]


class Mesh:
    """A mesh of a number of services with a proxy of each of `proxies` of them; the first one is looked at."""

    def __init__(self, services: int, proxies: int) -> None:
        self.model = MeshModel()
        self._apply(*(one for number in range(services) for one in (service(number), entry(number))))
        views = [
            View("sidecar", f"ns{number % NAMESPACES}", (("app", f"s{number}"),), addresses=(f"10.1.0.{number + 1}",))
            for number in range(proxies)
        ]
        for view in views:
            self.model.publisher.open(view)
        self.model.publisher.refresh()
        self._view, self._encoder = views[0], Encoder()
        catalog = self.model.publisher.catalog(self._view)
        self._session = Session(catalog, delta=True, patches=True)
        for type_url in KINDS:
            names = tuple(catalog[type_url]) if type_url in (ENDPOINT, ROUTE) else ()
            self._session.receive(DeltaRequest(type_url, subscribe=names))
        self._answered()

    def _apply(self, *documents: Json) -> None:
        found = [self.model.kinds.read(one) for one in documents]
        assert not any(problems for _, problems in found), found
        self.model.apply([one for one, _ in found if one is not None])

    def _answered(self) -> tuple[dict[str, int], dict[str, int]]:
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        while (response := self._session.next()) is not None:
            counts[KINDS[response.type_url]] += len(response.resources) + len(response.removed)
            sizes[KINDS[response.type_url]] += sum(map(len, self._encoder.delta(response)))
            if response.type_url == CLUSTER:
                # As Envoy does: the endpoints of a cluster are asked for when it comes.
                new = tuple(one.name for one in response.resources)
                self._session.receive(DeltaRequest(ENDPOINT, subscribe=new))
            self._session.receive(DeltaRequest(response.type_url, nonce=response.nonce))
        return dict(counts), dict(sizes)

    def sent(self, change: Json) -> Sent:
        before = self.model.engine.runs.copy()
        self._apply(change)
        publisher = self.model.publisher
        changed = publisher.refresh().get(self._view, {})
        runs = self.model.engine.runs - before
        self._session.update(publisher.catalog(self._view), changed)
        return Sent(runs, *self._answered())


HOST = "s0.ns0.svc.cluster.local"


def routes(timeout: str) -> Json:
    spec = {"hosts": [HOST], "http": [{"route": [{"destination": {"host": HOST}}], "timeout": timeout}]}
    return document(NETWORKING, "VirtualService", "ns0", "v", spec)


def policy(balancer: str) -> Json:
    spec = {"host": HOST, "trafficPolicy": {"loadBalancer": {"simple": balancer}}}
    return document(NETWORKING, "DestinationRule", "ns0", "d", spec)


def permission(principal: str) -> Json:
    rules = [{"from": [{"source": {"principals": [principal]}}]}]
    return document(
        SECURITY, "AuthorizationPolicy", "ns0", "a", {"selector": {"matchLabels": {"app": "s0"}}, "rules": rules}
    )


class Bound(NamedTuple):
    """A change, after another one that made its object; what it may cost."""

    first: Json
    then: Json
    resources: dict[str, int]
    rules: int
    size: int


# Each namespace has a route configuration of its own, which is joined anew. A policy stands in each filter chain of a
# listener, from the first to the last of which is one difference.
CHANGES = {
    "endpoint": Bound(entry(1, "10.9.9.8"), entry(1, "10.9.9.9"), {"endpoints": 1}, 6, 700),
    "VirtualService": Bound(routes("2s"), routes("3s"), {"routes": 1}, 20, 400),
    "DestinationRule": Bound(policy("RANDOM"), policy("LEAST_REQUEST"), {"clusters": 1, "endpoints": 1}, 10, 3000),
    "AuthorizationPolicy": Bound(permission("a"), permission("b"), {"listeners": 1}, 8, 20_000),
    "new Service": Bound(
        service(9000, "first"),
        service(9004, "second"),
        {"clusters": 1, "endpoints": 1, "routes": 1, "names": 1},
        72,
        4000,
    ),
    "metadata": Bound(service(2), service(2, annotations={"note": "x"}), {}, 1, 0),
}


@pytest.fixture(scope="module")
def meshes() -> list[Mesh]:
    """Few services and proxies, more services, and more proxies of other workloads."""
    return [Mesh(24, 4), Mesh(96, 4), Mesh(96, 40)]


@pytest.mark.parametrize("name", list(CHANGES))
def test_what_is_done_and_sent_is_that_of_the_change(meshes: list[Mesh], name: str) -> None:
    change = CHANGES[name]
    for mesh in meshes:
        mesh.sent(change.first)
    few, services, proxies = (mesh.sent(change.then) for mesh in meshes)
    for sent in (few, services, proxies):
        assert sent.resources == change.resources
        assert sent.runs.total() <= change.rules, sent.runs
        assert sum(sent.sizes.values()) <= change.size
    assert few.runs == services.runs == proxies.runs, "neither services nor proxies of others are looked at"
    for kind in few.sizes:
        sizes = [one.sizes[kind] for one in (few, services, proxies)]
        # The names of a namespace are one table, of which only 4 KiB or more are sent as a difference. Places in a
        # difference are numbers, which take a byte more where they are larger.
        assert max(sizes) - min(sizes) <= (1400 if kind == "names" else 16), (kind, sizes)
    for mesh in meshes:
        again = mesh.sent(change.then)
        assert not again.runs and not again.sizes, "the same again is nothing"
