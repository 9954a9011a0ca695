"""Compiling for all namespaces at once gives each what compiling for it alone would give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.compiler.model import MeshModel
from fairlead.compiler.scope import Special, special
from fairlead.envoy.resource import ROUTE
from fairlead.ir.view import View
from fairlead.model.launch import Capture

Json = dict[str, Any]
NAMESPACES = ("istio-system", "a", "b", "c")
NAMES = ("web", "db", "web.a")
_NETWORKING = "networking.istio.io/v1"


def _document(api: str, kind: str, namespace: str, name: str, spec: Json) -> Json:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


HOSTS = st.sampled_from(
    [
        *(f"{name}.{where}.svc.cluster.local" for name in ("web", "db") for where in NAMESPACES),
        "api.example.com",
        "web.a",
        "web",
        "10.96.0.7",
        "*.b.svc.cluster.local",
        "*.example.com",
        "*.local",
    ]
)
EXPORTS = st.sampled_from([None, None, ["*"], ["."], ["b"], ["a", "c"], ["~"]])
WHERE = st.sampled_from(NAMESPACES)


def _with(spec: Json, export_to: list[str] | None) -> Json:
    return spec if export_to is None else {**spec, "exportTo": export_to}


@st.composite
def services(draw: st.DrawFn) -> Json:
    ports = draw(st.sampled_from([[("http", 80)], [("http", 80), ("tcp-x", 9000)], [("web", 8080)], [("tcp", 80)]]))
    made = _document(
        "v1",
        "Service",
        draw(WHERE),
        draw(st.sampled_from(["web", "db"])),
        {
            "clusterIP": draw(st.sampled_from(["10.96.0.7", "10.96.0.8", "None"])),
            "selector": {"app": draw(st.sampled_from(["web", "db"]))},
            "ports": [{"name": name, "port": number} for name, number in ports],
        },
    )
    export = draw(EXPORTS)
    if export is not None:
        made["metadata"]["annotations"] = {"networking.istio.io/exportTo": ",".join(export)}
    return made


@st.composite
def entries(draw: st.DrawFn) -> Json:
    spec = {
        "hosts": [draw(HOSTS.filter(lambda one: one not in ("*.local", "web", "10.96.0.7")))],
        "addresses": draw(st.sampled_from([[], ["10.96.0.7"]])),
        "ports": [{"number": 80, "name": "http", "protocol": draw(st.sampled_from(["HTTP", "TCP"]))}],
        "resolution": "STATIC",
        "endpoints": [{"address": "10.9.9.9"}],
    }
    return _document(_NETWORKING, "ServiceEntry", draw(WHERE), draw(st.sampled_from("xy")), _with(spec, draw(EXPORTS)))


@st.composite
def routes(draw: st.DrawFn) -> Json:
    match: Json = {"uri": {"prefix": "/a"}}
    if draw(st.booleans()):
        match["sourceNamespace"] = draw(WHERE)
    if draw(st.booleans()):
        match["sourceLabels"] = {"app": "web"}
    to = {"route": [{"destination": {"host": draw(HOSTS.filter(lambda one: "*" not in one))}}]}
    spec = {"hosts": [draw(HOSTS)], "http": [{"match": [match], **to}, {"timeout": "3s", **to}]}
    if draw(st.booleans()):
        # `z` is a delegate: what it says holds where another one names it.
        spec["http"].insert(0, {"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "z"}})
        if draw(st.booleans()):
            delegated = _with({"http": [{"timeout": "4s", **to}]}, draw(EXPORTS))
            return _document(_NETWORKING, "VirtualService", draw(WHERE), "z", delegated)
    return _document(
        _NETWORKING, "VirtualService", draw(WHERE), draw(st.sampled_from("xy")), _with(spec, draw(EXPORTS))
    )


IMPORTS = st.sampled_from(
    [
        "*/*",
        "./*",
        "a/*",
        "b/web.b.svc.cluster.local",
        "*/*.example.com",
        "~/db.a.svc.cluster.local",
        "~b/*",
        "*/api.example.com",
    ]
)


@st.composite
def sidecars(draw: st.DrawFn) -> Json:
    hosts = st.lists(IMPORTS, min_size=1, max_size=3)
    egress: list[Json] = [{"hosts": draw(hosts)}]
    if draw(st.booleans()):
        egress.insert(0, {"port": {"number": 9000, "protocol": "TCP", "name": "tcp"}, "hosts": draw(hosts)})
    spec: Json = {"egress": egress}
    if draw(st.booleans()):
        spec["workloadSelector"] = {"labels": {"app": draw(st.sampled_from(["web", "db"]))}}
    if draw(st.booleans()):
        spec["outboundTrafficPolicy"] = {"mode": draw(st.sampled_from(["REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS"]))}
    return _document(_NETWORKING, "Sidecar", draw(WHERE), draw(st.sampled_from("xy")), spec)


@st.composite
def http_routes(draw: st.DrawFn) -> Json:
    parent = {"group": "", "kind": "Service", "name": draw(st.sampled_from(["web", "db"])), "namespace": draw(WHERE)}
    if draw(st.booleans()):
        parent["port"] = 80
    match = {"path": {"type": "PathPrefix", "value": draw(st.sampled_from(["/", "/a", "/a/b"]))}}
    backend = {"name": draw(st.sampled_from(["web", "db"])), "port": draw(st.sampled_from([80, 8080]))}
    spec = {"parentRefs": [parent], "rules": [{"matches": [match], "backendRefs": [backend]}]}
    return _document("gateway.networking.k8s.io/v1", "HTTPRoute", draw(WHERE), draw(st.sampled_from("xy")), spec)


@st.composite
def policies(draw: st.DrawFn) -> Json:
    hashed = {"loadBalancer": {"consistentHash": {"httpHeaderName": draw(st.sampled_from(["x-a", "x-b"]))}}}
    spec: Json = {"host": draw(HOSTS), "trafficPolicy": hashed, "subsets": [{"name": "v1", "labels": {"v": "1"}}]}
    if draw(st.booleans()):
        spec["workloadSelector"] = {"matchLabels": {"app": "web"}}
    return _document(
        _NETWORKING, "DestinationRule", draw(WHERE), draw(st.sampled_from("xy")), _with(spec, draw(EXPORTS))
    )


@st.composite
def aliases(draw: st.DrawFn) -> Json:
    target = draw(HOSTS.filter(lambda one: "*" not in one and one.count(".") > 1 and not one[0].isdigit()))
    spec = {"type": "ExternalName", "externalName": target, "ports": [{"name": "http", "port": 80}]}
    return _document("v1", "Service", draw(WHERE), draw(st.sampled_from(["ext", "db"])), spec)


def _views() -> list[View]:
    explicit = Capture("explicit", outbound_address="127.0.0.9")
    captures = (*((one, Capture("redirect")) for one in NAMESPACES), ("a", explicit), ("b", explicit))
    return [
        View("sidecar", namespace, (("app", "web"),), addresses=("10.0.0.1",), capture=capture)
        for namespace, capture in captures
    ]


def _load(documents: list[Json]) -> MeshModel:
    model = MeshModel()
    for document in documents:
        found, _ = model.kinds.read(document)
        if found is not None:
            model.apply([found])
    return model


def _everything(model: MeshModel) -> dict[View, Any]:
    for view in _views():
        model.publisher.open(view)
    found = {view: {kind: dict(rows) for kind, rows in model.publisher.catalog(view).items()} for view in _views()}
    assert not model.engine.failures()
    return found


@pytest.fixture(scope="module")
def alone() -> Any:
    """What compiles each namespace for itself."""

    def compiled(documents: list[Json]) -> dict[View, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(special, "run", lambda r, namespace: Special(namespace, every=True))
            return _everything(_load(documents))

    return compiled


def test_a_wildcard_covers_what_some_namespaces_see(alone: Any) -> None:
    """Where a host is seen that the wildcard of a rule covers, the wildcard is no virtual host; elsewhere it is."""
    covered = _document(
        "v1",
        "Service",
        "b",
        "web",
        {"clusterIP": "10.96.0.7", "selector": {"app": "web"}, "ports": [{"name": "tcp", "port": 80}]},
    )
    covered["metadata"]["annotations"] = {"networking.istio.io/exportTo": "a,c"}
    rule = {"hosts": ["*.b.svc.cluster.local"], "http": [{"directResponse": {"status": 200}}]}
    plain = {"clusterIP": "10.96.0.8", "ports": [{"name": "http", "port": 80}]}
    other = _document("v1", "Service", "istio-system", "db", plain)
    documents = [other, covered, _document(_NETWORKING, "VirtualService", "istio-system", "x", rule)]
    found, expected = _everything(_load(documents)), alone(documents)
    routes = {view: {name: one.body for name, one in kinds[ROUTE].items()} for view, kinds in found.items()}
    assert routes == {view: {name: one.body for name, one in kinds[ROUTE].items()} for view, kinds in expected.items()}
    names = {view.namespace: rows["80"] for view, rows in routes.items() if "80" in rows}
    assert b"*.b.svc" not in names["a"]
    assert b"*.b.svc" in names["b"]


_OBJECTS = (services(), services(), aliases(), entries(), routes(), policies(), sidecars(), http_routes())
_MESHES = st.lists(st.one_of(*_OBJECTS), max_size=11)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents=_MESHES)
def test_sharing_changes_nothing(documents: list[Json], alone: Any) -> None:
    expected = alone(documents)
    for view, found in _everything(_load(documents)).items():
        for kind, rows in found.items():
            assert rows.keys() == expected[view][kind].keys(), (view, kind)
            for name, one in rows.items():
                assert one.body == expected[view][kind][name].body, (view, kind, name)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=_MESHES, after=_MESHES)
def test_refreshed_equals_fresh(before: list[Json], after: list[Json]) -> None:
    """Views that were open through changes have what newly opened ones have, and are told of each difference."""
    model = _load(before)
    was = _everything(model)
    for document in after:
        found, _ = model.kinds.read(document)
        if found is not None:
            model.apply([found])
    changed = model.publisher.refresh()
    fresh = _everything(_load([*before, *after]))
    for view, kinds in fresh.items():
        for kind, rows in kinds.items():
            now = dict(model.publisher.catalog(view)[kind])
            assert {name: one.body for name, one in now.items()} == {name: one.body for name, one in rows.items()}
            differing = {name for name in {**was[view][kind], **now} if was[view][kind].get(name) != now.get(name)}
            told = changed.get(view, {}).get(kind, {})
            assert differing <= told.keys()
            assert all(told[name] == was[view][kind].get(name) for name in differing)
