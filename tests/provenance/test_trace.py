"""Settings of proxies, and the fields and lines that they come from."""

from __future__ import annotations

import sys

import pytest

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.envoy.settings import PathError, find, parse
from fairlead.ir.view import View
from fairlead.model.diagnostic import Position
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents
from fairlead.provenance.explained import explained, lines
from fairlead.provenance.refused import culprits
from fairlead.provenance.trace import study, trace

MESH = b"""
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}], selector: {app: cart}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c1, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: cart, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - name: first
    match: [{uri: {prefix: /a}}]
    route: [{destination: {host: cart, subset: v1}}]
  - name: old
    timeout: 5s
    route: [{destination: {host: cart}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec:
  host: cart
  trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
VIEW = View("sidecar", "shop", (("app", "cart"), ("version", "v1")), addresses=("10.0.0.1",))
V1 = "outbound|80|v1|cart.shop.svc.cluster.local"


@pytest.fixture(scope="module")
def model() -> MeshModel:
    made = MeshModel()
    assert not load(made, parse_documents(MESH, "mesh.yaml"))
    made.publisher.open(VIEW)
    return made


def places(ref: Ref, path: FieldPath) -> Position | None:
    for one in parse_documents(MESH, "mesh.yaml"):
        if (one.data["kind"], one.data["metadata"]["name"]) == (ref.kind, ref.name):
            return one.position(path)
    return None


@pytest.mark.parametrize(
    ("type_url", "name", "path", "said"),
    [
        (ROUTE, "80", "virtualHosts[cart*]/routes[1]/route/timeout", ["mesh.yaml:22:5: spec.http[1].timeout"]),
        (ROUTE, "80", "virtual_hosts[cart*]/routes[old]/route/timeout", ["mesh.yaml:22:5: spec.http[1].timeout"]),
        (
            ROUTE,
            "80",
            "virtualHosts[cart*]/routes[0]/match/prefix",
            ["mesh.yaml:19:20: spec.http[0].match[0].uri.prefix"],
        ),
        (
            CLUSTER,
            V1,
            "connect_timeout",
            [
                "mesh.yaml:30:42: spec.trafficPolicy.connectionPool.tcp.connectTimeout",
                "mesh.yaml:29:3: spec.host",
            ],
        ),
        (
            ENDPOINT,
            V1,
            "endpoints[0]/lbEndpoints[0]",
            ["mesh.yaml:5:38: spec.ports[0].targetPort", "mesh.yaml:10:8: spec.address"],
        ),
    ],
)
def test_a_setting_names_its_fields(model: MeshModel, type_url: str, name: str, path: str, said: list[str]) -> None:
    found = trace(model, VIEW, type_url, name, path, places)
    assert [f"{one.position}: {one.path}" for one in found] == said


def test_a_default_has_no_origin_but_what_carries_it(model: MeshModel) -> None:
    made = study(model, VIEW, CLUSTER, V1)
    found = made.origins(("lbPolicy",))
    assert found and {one.role for one in found} == {"carries"}
    assert {f"{one.origin.ref.kind} {one.origin.path}" for one in found} == {
        "Service spec.ports[0].port",
        "DestinationRule spec.host",
        "DestinationRule spec.subsets[0].name",
    }
    assert not made.inexact


def test_what_a_resource_is_there_for(model: MeshModel) -> None:
    plain, subset = "clusters/outbound|80||cart.shop.svc.cluster.local", f"clusters/{V1}"
    (found,) = explained(model, VIEW, subset)["resources"]
    stands = [(one["object"]["kind"], one["field"]) for one in found["standsBy"]]
    assert ("DestinationRule", "spec.subsets[0].name") in stands and ("Service", "spec.ports[0].port") in stands
    (found,) = explained(model, VIEW, plain)["resources"]
    assert {one["object"]["kind"] for one in found["standsBy"]} == {"Service"}
    (found,) = explained(model, VIEW, f"endpoints/{V1}")["resources"]
    assert "DestinationRule" in {one["object"]["kind"] for one in found["standsBy"]}
    assert "inexact" not in found


def test_mtls_of_a_server_names_the_policy(model: MeshModel) -> None:
    (name,) = (one for one in model.publisher.catalog(VIEW)[LISTENER] if one == "virtualInbound")
    found = trace(model, VIEW, LISTENER, name)
    assert Ref("security.istio.io", "PeerAuthentication", "shop", "default") in {one.ref for one in found}
    assert "spec.mtls.mode" in {str(one.path) for one in found}


BANK = b"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: shop}
spec: {hosts: [bank.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank, namespace: shop}
spec:
  host: bank.example
  workloadSelector: {matchLabels: {app: cart}}
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: bank, sni: bank.example}}
---
apiVersion: v1
kind: Secret
metadata: {name: bank, namespace: shop}
data: {ca.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=}
"""


def test_tls_to_a_server_names_the_rule_and_its_secret() -> None:
    """The settings of the cluster, and the credential itself, whose name has slashes."""
    made = MeshModel()
    assert not load(made, parse_documents(BANK, "bank.yaml"))
    made.publisher.open(VIEW)

    def origins(words: str) -> set[str]:
        (found,) = explained(made, VIEW, words)["resources"]
        return {f"{one['object']['kind']} {one['field']}" for at in found["settings"] for one in at["origins"]}

    tls = "cluster/outbound|80||bank.example/transportSocket/typedConfig"
    assert origins(f"{tls}/sni") == {"DestinationRule spec.trafficPolicy.tls.sni"}
    assert "DestinationRule spec.trafficPolicy.tls.credentialName" in origins(f"{tls}/commonTlsContext/combined*")
    for words in ("secrets/kubernetes://bank-cacert", "kubernetes://bank-cacert"):
        assert "Secret data[ca.crt]" in origins(words)


def test_nothing_of_the_mesh_is_touched(model: MeshModel) -> None:
    before = {at: dict(rows) for at, rows in model.publisher.catalog(VIEW).items()}
    runs = dict(model.engine.runs)
    trace(model, VIEW, ROUTE, "80")
    assert {at: dict(rows) for at, rows in model.publisher.catalog(VIEW).items()} == before
    assert dict(model.engine.runs) == runs and not model.publisher.refresh()


def test_what_is_not_there_is_said(model: MeshModel) -> None:
    with pytest.raises(PathError, match="no Cluster 'nothing'"):
        trace(model, VIEW, CLUSTER, "nothing")
    with pytest.raises(PathError, match="nothing stands at outlierDetection"):
        trace(model, VIEW, CLUSTER, V1, "outlierDetection")
    with pytest.raises(PathError, match="bracket"):
        trace(model, VIEW, CLUSTER, V1, "a[b")


def many_services() -> MeshModel:
    text = "\n---\n".join(
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: s{at}, namespace: shop}}\n"
        f"spec: {{clusterIP: 10.97.{at // 200}.{at % 200 + 1}, ports: [{{name: http, port: 80}}]}}"
        for at in range(200)
    )
    made = MeshModel()
    assert not load(made, [*parse_documents(text.encode(), "many.yaml"), *parse_documents(MESH, "mesh.yaml")])
    made.publisher.open(VIEW)
    return made


def test_one_virtual_host_among_very_many() -> None:
    made = many_services()
    before = made.engine.runs.total()
    found = trace(made, VIEW, ROUTE, "80", "virtualHosts[cart*]/routes[old]/route/timeout", places)
    assert [str(one.path) for one in found] == ["spec.http[1].timeout"]
    assert made.engine.runs.total() == before


def test_an_answer_that_is_not_exact_says_so() -> None:
    made = many_services()
    whole = study(made, VIEW, ROUTE, "80")
    assert "objects made this" in whole.inexact
    element = next(path for path, _ in find(whole.message, ("virtualHosts[cart*]",)))
    read = {one.origin.ref for one in whole.origins((*element, "routes[old]", "route", "timeout"))}
    assert {one.kind for one in read} >= {"Service", "VirtualService"}
    assert Ref("", "Service", "shop", "s7") not in read
    assert {str(one.origin.path) for one in whole.origins(element)} == {""}
    (found,) = explained(made, VIEW, "routes/80")["resources"]
    assert any(text.startswith("  not exact: ") and "--exact" in text for _, text in lines({"resources": [found]}))

    one = study(made, VIEW, ROUTE, "80", element[0])
    assert not one.inexact


def test_the_exact_answer_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, model: MeshModel) -> None:
    wanted = "virtualHosts[cart*]/routes[old]/route/timeout"
    usual = study(model, VIEW, ROUTE, "80")
    module = sys.modules["fairlead.provenance.trace"]  # the package has a function of this name
    monkeypatch.setattr(module, "MOST_OBJECTS", 1)
    assert study(model, VIEW, ROUTE, "80").inexact
    exact = study(model, VIEW, ROUTE, "80", exact=True)
    (at,) = (path for path, _ in find(exact.message, parse(wanted)))
    sets = [one for one in usual.origins(at) if one.role == "sets"]
    assert sets and [one for one in exact.origins(at) if one.role == "sets"] == sets and not exact.inexact

    monkeypatch.setattr(module, "MOST_SINGLE", 0)
    searched = study(model, VIEW, ROUTE, "80", exact=True)
    for path, _ in find(exact.message, ("virtualHosts[*]", "routes[*]", "*")):
        assert searched.origins(path) == exact.origins(path), "groups find what single trials do"

    monkeypatch.setattr(module, "MOST_OBJECTS", 150)
    monkeypatch.setattr(module, "MOST_TRIALS", 8)
    few = study(model, VIEW, ROUTE, "80")
    assert "after 8 trials" in few.inexact
    # Objects come first: what matters is named, only not how narrowly.
    assert {one.origin.ref for one in sets} <= {one.origin.ref for one in few.origins(at)}
    assert not study(model, VIEW, ROUTE, "80", exact=True).inexact


REFUSED = """
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: tuned, namespace: shop}
spec:
  configPatches:
    - {applyTo: CLUSTER, patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 1000}}}
    - {applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 0s, dns_refresh_rate: 0s}}}
"""


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("ValidationError.ConnectTimeout: too small", ["spec.configPatches[1].patch.value.connect_timeout"]),
        (
            "something is wrong",
            [
                "spec.configPatches[0].patch.value.per_connection_buffer_limit_bytes",
                "spec.configPatches[1].patch.value.connect_timeout",
                "spec.configPatches[1].patch.value.dns_refresh_rate",
            ],
        ),
    ],
)
def test_what_is_refused_comes_from_what_differs_from_what_is_held(words: str, fields: list[str]) -> None:
    before, after = MeshModel(), MeshModel()
    assert not load(before, parse_documents(MESH, "mesh.yaml"))
    assert not load(after, parse_documents(MESH + REFUSED.encode(), "mesh.yaml"))
    for one in (before, after):
        one.publisher.open(VIEW)
    held = before.publisher.catalog(VIEW)[CLUSTER][V1].body
    found = culprits(after, VIEW, (CLUSTER, V1), held, words, ())
    assert sorted(str(one.path) for one in found) == fields
    assert {one.ref.kind for one in found} == {"EnvoyFilter"}


def test_an_address_that_cannot_be_bound_comes_from_the_gateway() -> None:
    text = b"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {selector: {app: edge}, servers: [{port: {number: 8443, name: http, protocol: HTTP}, hosts: ["*"]}]}
"""
    made, view = MeshModel(), View("router", "shop", (("app", "edge"),), addresses=("10.0.0.7",))
    assert not load(made, parse_documents(text, "mesh.yaml"))
    made.publisher.open(view)
    (name,) = made.publisher.catalog(view)[LISTENER]
    (found,) = culprits(made, view, (LISTENER, name), b"", "cannot bind '0.0.0.0:8443': Address already in use", ())
    assert (found.ref.name, str(found.path)) == ("edge", "spec.servers[0].port.number")
