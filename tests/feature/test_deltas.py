"""Edits of objects, and exactly what they change: for which proxies, which resources, and how many rules run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fairlead.compiler.model import MeshModel
from fairlead.compiler.publish import Changes
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.ir.view import View, pairs
from fairlead.model.launch import AppPort, Capture
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents

PORTS = (AppPort(8080, "http", "http"),)


def service(name: str, port: int = 8080) -> str:
    """A Service and two instances of it."""
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  clusterIP: 10.96.0.{len(name)}
  selector: {{app: {name}}}
  ports: [{{name: http, port: {port}}}]
{instance(name, 1)}
{instance(name, 2)}
"""


def instance(name: str, number: int, *, weight: int = 1, more: str = "") -> str:
    """A WorkloadEntry."""
    return f"""
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}-{number}, namespace: shop{more}}}
spec:
  address: 10.0.{len(name)}.{number}
  weight: {weight}
  labels: {{app: {name}, version: v{number}}}
  serviceAccount: {name}
"""


def sidecar(app: str, number: int) -> View:
    """An instance's proxy."""
    labels = pairs({"app": app, "version": f"v{number}"})
    return View("sidecar", "shop", labels, app, (f"10.0.{len(app)}.{number}",), ports=PORTS)


WEB, WEB2, CATALOG = sidecar("web", 1), sidecar("web", 2), sidecar("catalog", 1)
GATEWAY = View("router", "shop", pairs({"istio": "ingressgateway"}), "gateway", ("10.9.9.9",), capture=Capture("none"))
NAMES = {CLUSTER: "clusters", ENDPOINT: "endpoints", LISTENER: "listeners", ROUTE: "routes"}


class Scene:
    """A model with proxies that are connected; each edit tells what it changed and what ran."""

    def __init__(self) -> None:
        self.model = MeshModel()
        self.edit("".join(service(name) for name in ("web", "catalog", "reviews")))
        for view in (WEB, WEB2, CATALOG, GATEWAY):
            self.model.publisher.open(view)
        self.model.publisher.refresh()
        self.ran: Counter[str] = Counter()

    def edit(self, text: str, *gone: Ref) -> dict[View, dict[str, set[str]]]:
        """Apply documents, delete others, and refresh."""
        objects: list[Any] = []
        for manifest in parse_documents(text, ""):
            if manifest.data is None:
                continue
            obj, found = self.model.kinds.read_manifest(manifest)
            assert obj is not None, found
            objects.append(obj)
        before = Counter(self.model.engine.runs)
        self.model.apply(objects, gone)
        changed = self.model.publisher.refresh()
        self.ran = self.model.engine.runs - before
        return {view: _named(changes) for view, changes in changed.items() if changes}


def _named(changes: Changes) -> dict[str, set[str]]:
    return {NAMES.get(kind, kind.rpartition(".")[2]): set(names) for kind, names in changes.items() if names}


@pytest.fixture
def scene() -> Scene:
    return Scene()


EDS = "outbound|8080||reviews.shop.svc.cluster.local"


def test_a_weight_changes_one_assignment(scene: Scene) -> None:
    changed = scene.edit(instance("reviews", 1, weight=7))
    wanted = {"endpoints": {EDS}}
    assert changed == {WEB: wanted, WEB2: wanted, CATALOG: wanted, GATEWAY: wanted}
    # Lowering, the endpoints, their assignment: no cluster, no route, no listener.
    assert not {name for name in scene.ran if "cluster" in name or "route" in name or "listener" in name}
    assert sum(scene.ran.values()) <= 12, scene.ran


def test_an_instance_that_goes_leaves_one_assignment(scene: Scene) -> None:
    gone = Ref("networking.istio.io", "WorkloadEntry", "shop", "reviews-2")
    changed = scene.edit("", gone)
    assert {view: set(kinds) for view, kinds in changed.items()} == {
        view: {"endpoints"} for view in (WEB, WEB2, CATALOG, GATEWAY)
    }


def test_metadata_changes_nothing(scene: Scene) -> None:
    assert scene.edit(instance("reviews", 1, more=", annotations: {note: hello}")) == {}
    assert set(scene.ran) <= {"lower"}, scene.ran
    assert scene.edit(instance("reviews", 1, more=', generation: 7, resourceVersion: "99"')) == {}


def test_the_same_again_runs_nothing(scene: Scene) -> None:
    assert scene.edit(service("reviews")) == {}
    assert not scene.ran


def test_a_write_of_status_that_means_nothing_runs_one_lowering(scene: Scene) -> None:
    text = instance("reviews", 1) + "status: {conditions: [{type: Healthy, status: 'True'}]}\n"
    assert scene.edit(text) == {}
    assert set(scene.ran) <= {"lower"}, scene.ran
    sick = instance("reviews", 1) + "status: {conditions: [{type: Healthy, status: 'False'}]}\n"
    assert scene.edit(sick)[WEB] == {"endpoints": {EDS}}


ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http: [{timeout: %s, route: [{destination: {host: reviews}}]}]
"""


def test_a_virtual_service_changes_the_routes_of_its_port(scene: Scene) -> None:
    changed = scene.edit(ROUTES % "2s")
    assert changed == {view: {"routes": {"8080"}} for view in (WEB, WEB2, CATALOG)}
    scene.edit(ROUTES % "2s")
    assert not scene.ran
    assert scene.edit(ROUTES % "3s") == {view: {"routes": {"8080"}} for view in (WEB, WEB2, CATALOG)}
    # Virtual hosts of other services are not made anew.
    assert scene.ran["routes_hosts.sidecar_virtual_host"] == 1, scene.ran
    assert not {name for name in scene.ran if "cluster" in name or "listener" in name}


def test_a_destination_rule_with_subsets_brings_clusters(scene: Scene) -> None:
    changed = scene.edit("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}]
""")
    new = "outbound|8080|v1|reviews.shop.svc.cluster.local"
    assert changed[WEB] == {"clusters": {EDS, new}, "endpoints": {new}}
    assert set(changed) == {WEB, WEB2, CATALOG, GATEWAY}


def test_a_policy_concerns_the_workloads_it_selects(scene: Scene) -> None:
    changed = scene.edit("""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: catalog, namespace: shop}
spec:
  selector: {matchLabels: {app: catalog}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
""")
    assert changed == {CATALOG: {"listeners": {"virtualInbound"}}}


def test_peer_authentication_tells_callers_by_endpoints(scene: Scene) -> None:
    changed = scene.edit("""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: DISABLE}
""")
    own = "outbound|8080||web.shop.svc.cluster.local"
    assert changed[CATALOG] == {"endpoints": {own}}
    assert changed[WEB] == changed[WEB2] == {"endpoints": {own}, "listeners": {"virtualInbound"}}


def test_a_gateway_concerns_gateways(scene: Scene) -> None:
    changed = scene.edit("""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8443, name: http, protocol: HTTP}, hosts: ["*"]}]
""")
    assert set(changed) == {GATEWAY}
    assert changed[GATEWAY] == {"listeners": {"0.0.0.0_8443"}, "routes": {"http.8443"}}


def test_a_service_of_another_namespace_is_not_read_by_those_who_do_not_see_it(scene: Scene) -> None:
    changed = scene.edit("""
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: other, annotations: {networking.istio.io/exportTo: "."}}
spec:
  clusterIP: 10.96.9.9
  ports: [{name: http, port: 8080}]
""")
    assert changed == {}
