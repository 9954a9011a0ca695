"""Whatever the schemas of the kinds allow and validation accepts compiles, loads in real Envoy, and does not depend on
the order in which it came; whatever a schema forbids is refused, with the place.

`FAIRLEAD_EXAMPLES=1000` tries more examples than a run of all tests has time for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st
from listener_facts import judge
from schema_strategies import Json, changed, documents, mended, places, valid
from static_envoy import add_catalog, new_bootstrap

from fairlead.compiler.model import MeshModel
from fairlead.compiler.registry import registry
from fairlead.ir.view import View, pairs
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import AppPort, Capture
from fairlead.model.object import Object
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents

MANY = int(os.environ.get("FAIRLEAD_EXAMPLES", "0"))
KINDS = registry().kinds
MESH = tuple(one for one in KINDS if one.lower is not None or one.emit)
VERBATIM = ("EnvoyFilter", "TrafficExtension", "WasmPlugin")
"""Kinds that hand Envoy what somebody wrote for it: code and patches, which only Envoy can judge."""
JUDGED = tuple(one for one in MESH if one.kind not in VERBATIM)
PORTS = (AppPort(9080, "http", "http"), AppPort(9000, "tcp"))
EXPLICIT = Capture("explicit", app_address="127.66.64.9", outbound_address="127.66.128.9")
VIEWS = (
    View("sidecar", "shop", pairs({"app": "reviews", "version": "v1"}), addresses=("10.0.0.2",), ports=PORTS),
    View("sidecar", "other", pairs({"app": "web"}), addresses=("10.0.0.3",), capture=EXPLICIT, ports=PORTS),
    View("router", "shop", pairs({"istio": "ingressgateway"}), addresses=("10.0.0.4",), capture=Capture("none")),
)
SCENE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  clusterIP: 10.0.9.1
  selector: {app: reviews}
  ports: [{name: http, port: 80, targetPort: 9080}, {name: tcp, port: 9000}, {name: grpc, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec: {clusterIP: 10.0.9.2, selector: {app: web}, ports: [{name: http, port: 9080}, {name: tls, port: 443}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-1, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-2, namespace: shop}
spec: {address: db.example.com, labels: {app: reviews, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
"""


def examples(few: int) -> settings:
    """So many examples, the same ones in each run; more where the environment says so."""
    return settings(
        max_examples=MANY or few,
        deadline=None,
        derandomize=not MANY,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )


def scene() -> list[Object[Any]]:
    found = [registry().read(one.data)[0] for one in parse_documents(SCENE)]
    return [one for one in found if one is not None]


def objects(drawn: list[tuple[Json, Object[Any]]]) -> list[Object[Any]]:
    """Those of the scene, and those that were drawn; of two with one name the later."""
    made: dict[Ref, Object[Any]] = {one.ref: one for one in (*scene(), *(obj for _, obj in drawn))}
    for document, _ in drawn:
        note(str(document))
        event(document["kind"])
    return list(made.values())


def compiled(model: MeshModel) -> list[dict[str, dict[str, bytes]]]:
    found = [
        {kind: {name: one.body for name, one in rows.items()} for kind, rows in model.compile(view).items()}
        for view in VIEWS
    ]
    assert not model.engine.failures(), model.engine.failures()
    return found


@examples(50)
@given(valid(MESH, 1, 4), st.randoms(use_true_random=False))
def test_order_means_nothing(drawn: list[tuple[Json, Object[Any]]], chance: Any) -> None:
    given_objects = objects(drawn)
    first = MeshModel()
    first.apply(given_objects)
    wanted = compiled(first)
    chance.shuffle(given_objects)
    second = MeshModel()
    for one in given_objects:
        second.apply([one])
    assert compiled(second) == wanted


@examples(12)
@given(valid(JUDGED, 3, 7))
def test_real_envoy_takes_it(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[Json, Object[Any]]]) -> None:
    model = MeshModel()
    model.apply(objects(drawn))
    made: Bootstrap = new_bootstrap()
    for at, view in enumerate(VIEWS):
        add_catalog(made, model.compile(view), f"@{at}")
    assert not model.engine.failures()
    directory: Path = tmp_path_factory.mktemp("schema")
    judge(made, directory)


@examples(80)
@given(st.sampled_from(KINDS).flatmap(documents))
def test_a_refusal_says_where(document: Json) -> None:
    """Whatever a schema allows is taken, or refused with paths into the document."""
    obj, problems = registry().read(document)
    errors = [one for one in problems if one.severity is Severity.ERROR]
    assert (obj is None) == bool(errors)
    for one in problems:
        assert one.message
        assert one.code.startswith("FL")
        assert one.path, one
        assert one.path[0] in (*document, "spec"), one


def _breaks(value: Any) -> list[Any]:
    """Values of other types."""
    if isinstance(value, bool | int | float):
        return ["text", {"a": 1}, ["x"]]
    if isinstance(value, str):
        return [["x"], {"no-such-field": 1}]
    return [17, {"a": 1}] if isinstance(value, list) else [17]


@examples(80)
@given(st.sampled_from(KINDS).flatmap(documents), st.data())
def test_a_wrong_type_is_refused_at_its_place(document: Json, data: st.DataObject) -> None:
    found = mended(document)
    if found is None:
        return
    good, _ = found
    spots = [one for one in places(good) if one[0] not in ("apiVersion", "kind", "metadata")]
    if not spots:
        return
    path = data.draw(st.sampled_from(spots))
    holder: Any = good
    for part in path:
        holder = holder[part]
    bad = changed(good, path, lambda old: data.draw(st.sampled_from(_breaks(old))))
    obj, problems = registry().read(bad)
    if obj is not None:
        event("anything may stand there")
        return
    assert any(one.path[: len(path)] == path or path[: len(one.path)] == tuple(one.path) for one in problems), problems


@examples(50)
@given(st.sampled_from(KINDS).flatmap(documents), st.data())
def test_an_unknown_field_is_refused_at_its_place(document: Json, data: st.DataObject) -> None:
    found = mended(document)
    if found is None:
        return
    good, _ = found
    spots = [("spec",), *places(good)] if "spec" in good else list(places(good))
    holders = [one for one in spots if one[0] not in ("apiVersion", "kind", "metadata") and _is_object(good, one)]
    if not holders:
        return
    path = data.draw(st.sampled_from(holders))
    bad = changed(good, path, lambda old: {**old, "noSuchField": [[1]]})
    obj, problems = registry().read(bad)
    if obj is not None:
        event("anything may stand there")
        return
    where = (*path, "noSuchField")
    assert any(where == tuple(one.path)[: len(where)] for one in problems), problems


def _is_object(document: Json, path: tuple[str | int, ...]) -> bool:
    at: Any = document
    for part in path:
        at = at[part]
    return isinstance(at, dict)
