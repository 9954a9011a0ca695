"""What of a view counts: proxies that are alike share everything, and nothing that matters is left out."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from mesh_strategies import meshes
from test_incremental import VIEWS, read

import fairlead.ir
from fairlead.compiler.model import MeshModel
from fairlead.compiler.parts import layers
from fairlead.compiler.publish import Changes, Publisher
from fairlead.compiler.reduced import reduced
from fairlead.envoy.resource import LISTENER, Resource
from fairlead.inc import Reader
from fairlead.ir import (
    authn,
    extension,
    gateway,
    host,
    patch,
    proxystart,
    ratelimit,
    route,
    security,
    selecting,
    sidecar,
    telemetry,
    traffic,
)
from fairlead.ir.view import View
from fairlead.model.ref import Ref

Json = dict[str, Any]
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
MORE = (
    *VIEWS,
    View("sidecar", "one", (("app", "a"), ("hash", "1"), ("version", "v2")), "x", ("10.0.0.2", "10.0.0.3"), "", "r/z"),
    View("sidecar", "two", (("app", "a"),), "x", ("10.0.0.2",), workload_name="known", on_demand="true"),
    View("router", "one", (("istio", "ingressgateway"), ("app", "c")), "gw", ("10.0.0.3",), workload_name="edge"),
)


def _shown(publisher: Publisher, view: View) -> dict[str, dict[str, bytes]]:
    return {kind: {name: one.body for name, one in rows.items()} for kind, rows in publisher.catalog(view).items()}


@QUICK
@given(meshes)
def test_what_is_left_out_changes_nothing(documents: list[Json]) -> None:
    """Each view has what it would have if it were compiled as the proxy says it."""
    objects = list(read(documents).values())
    model, whole = MeshModel(), MeshModel()
    model.apply(objects)
    whole.apply(objects)
    for view in MORE:
        model.publisher.open(view)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(reduced, "run", lambda r, view: view)
        for view in MORE:
            whole.publisher.open(view)
            assert _shown(model.publisher, view) == _shown(whole.publisher, view), view


def test_every_selector_has_its_index() -> None:
    """A fact that chooses proxies by labels is of a table whose index says so (see `fairlead.ir.selecting`)."""
    tables = {
        host.Host: host.HOSTS,
        gateway.Gateway: gateway.GATEWAYS,
        route.HttpMatch: route.ROUTES,
        route.L4Match: route.ROUTES,
        traffic.TrafficPolicy: traffic.TRAFFIC_POLICIES,
        security.PeerPolicy: security.PEER_POLICIES,
        security.AccessPolicy: security.ACCESS_POLICIES,
        authn.RequestPolicy: authn.REQUEST_POLICIES,
        telemetry.TelemetryPolicy: telemetry.TELEMETRY,
        sidecar.Sidecar: sidecar.SIDECARS,
        patch.PatchSet: patch.PATCHES,
        extension.Extension: extension.EXTENSIONS,
        ratelimit.RatePolicy: ratelimit.RATE_POLICIES,
    }
    # How a proxy is started is asked for each workload by itself, and no view depends on it.
    beside = {proxystart.ProxyStart}
    indexed = {one.table for one in selecting.SELECTING}
    for found in pkgutil.iter_modules(fairlead.ir.__path__):
        module = importlib.import_module(f"fairlead.ir.{found.name}")
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, msgspec.Struct) and one.__module__ == module.__name__:
                fields = one.__struct_fields__
                if one not in beside and any(
                    name in fields for name in ("selector", "source_labels", "workload_selector")
                ):
                    assert tables.get(one) in indexed, f"{one.__name__} chooses by labels and has no index in selecting"


def _service(name: str) -> Json:
    spec = {"clusterIP": "10.96.0.1", "selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ns"}, "spec": spec}


def _policy(labels: dict[str, str]) -> Json:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"selector": {"matchLabels": labels}, "action": "DENY", "rules": [{}]},
    }


def _put(model: MeshModel, document: Json) -> dict[View, Changes]:
    found, problems = model.kinds.read(document)
    assert found is not None, problems
    model.apply([found])
    return model.publisher.refresh()


def _proxy(number: int, version: str) -> View:
    return View(
        "sidecar", "ns", (("app", "web"), ("version", version)), f"sa{number}", (f"10.1.0.{number}",), workload_name="w"
    )


@pytest.fixture
def web() -> tuple[MeshModel, list[View]]:
    """A service with three proxies, one of them of another version."""
    model = MeshModel()
    _put(model, _service("web"))
    proxies = [_proxy(1, "v1"), _proxy(2, "v1"), _proxy(3, "v2")]
    for one in proxies:
        model.publisher.open(one)
    return model, proxies


def test_proxies_that_are_alike_are_one_group(web: tuple[MeshModel, list[View]]) -> None:
    model, proxies = web
    sizes = model.publisher.sizes()
    assert (sizes["views"], sizes["groups"]) == (3, 1)
    assert model.publisher.catalog(proxies[0]) is model.publisher.catalog(proxies[2])
    runs = model.engine.runs.copy()
    model.publisher.open(_proxy(4, "v1"))
    assert dict(model.engine.runs - runs) == {"reduced.reduced": 1}, "one more costs only its reduction"
    assert model.publisher.sizes() == {**sizes, "views": 4}


def test_a_label_that_is_asked_for_moves_its_proxies(web: tuple[MeshModel, list[View]]) -> None:
    model, proxies = web
    before = [dict(model.publisher.catalog(one)[LISTENER]) for one in proxies]
    changed = _put(model, _policy({"version": "v2"}))
    assert list(changed) == [proxies[2]]
    assert changed[proxies[2]][LISTENER] == {"virtualInbound": before[2]["virtualInbound"]}
    assert b"rbac" in model.publisher.catalog(proxies[2])[LISTENER]["virtualInbound"].body
    assert [dict(model.publisher.catalog(one)[LISTENER]) for one in proxies[:2]] == before[:2]
    assert model.publisher.sizes()["groups"] == 2
    denied = model.publisher.catalog(proxies[2])[LISTENER]["virtualInbound"]
    model.apply((), [Ref("security.istio.io", "AuthorizationPolicy", "ns", "p")])
    back = model.publisher.refresh()
    assert back == {proxies[2]: {LISTENER: {"virtualInbound": denied}}}
    assert model.publisher.sizes()["groups"] == 1


def test_a_label_and_a_change_at_once_are_told_from_what_was_there(web: tuple[MeshModel, list[View]]) -> None:
    """A view that moves and whose new group changes in one pass hears of both, with what it had before."""
    model, proxies = web
    was = dict(model.publisher.catalog(proxies[2])[LISTENER])
    model.apply(
        [one for document in (_policy({"version": "v2"}), _service("db")) if (one := model.kinds.read(document)[0])]
    )
    changed = model.publisher.refresh()
    assert set(changed) == set(proxies)
    now: dict[str, Resource] = dict(model.publisher.catalog(proxies[2])[LISTENER])
    differing = {name for name in {**was, **now} if was.get(name) != now.get(name)}
    assert {name: changed[proxies[2]][LISTENER][name] for name in differing} == {
        name: was.get(name) for name in differing
    }
    assert changed[proxies[0]] is changed[proxies[1]], "those that hear the same are told by one value"


def test_a_rule_that_fails_leaves_a_view_with_what_it_had(
    web: tuple[MeshModel, list[View]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, proxies = web
    was = _shown(model.publisher, proxies[2])
    right = layers.run

    def wrong(r: Reader, view: View) -> Any:
        if ("version", "v2") in view.labels:
            raise ValueError("a defect")
        return right(r, view)

    monkeypatch.setattr(layers, "run", wrong)
    _put(model, _policy({"version": "v2"}))
    assert _shown(model.publisher, proxies[2]) == was
    monkeypatch.setattr(layers, "run", right)
    assert _put(model, _policy({"version": "v2", "app": "web"})) or model.publisher.refresh()
    assert _shown(model.publisher, proxies[2]) != was


def test_an_address_counts_where_something_is_said_of_it() -> None:
    model = MeshModel()
    _put(model, _service("web"))
    view = _proxy(1, "v1")
    assert model.engine.call(reduced, view).addresses == ()
    listing = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "e", "namespace": "ns"},
        "spec": {
            "hosts": ["vm.example"],
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "ports": [{"number": 7000, "name": "tcp", "protocol": "TCP"}],
            "endpoints": [{"address": "10.1.0.1"}],
        },
    }
    _put(model, listing)
    assert model.engine.call(reduced, view).addresses == ("10.1.0.1",)
    assert model.engine.call(reduced, _proxy(2, "v1")).addresses == ()
