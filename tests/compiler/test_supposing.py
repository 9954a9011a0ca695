"""The mesh as if something were applied: what would differ, and nothing afterwards."""

from __future__ import annotations

from typing import Any

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.resource import CLUSTER, LISTENER, ROUTE
from fairlead.ir.view import View
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents

MESH = b"""
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec: {hosts: [cart], http: [{name: old, route: [{destination: {host: cart}}]}]}
"""
VIEW = View("sidecar", "shop")
SERVICE = Ref("", "Service", "shop", "cart")


def model() -> MeshModel:
    made = MeshModel()
    assert not load(made, parse_documents(MESH, "mesh.yaml"))
    made.publisher.open(VIEW)
    return made


def held(made: MeshModel) -> dict[str, dict[str, bytes]]:
    return {at: {name: one.body for name, one in rows.items()} for at, rows in made.publisher.catalog(VIEW).items()}


def changed(made: MeshModel, old: str, new: str) -> Any:
    text = MESH.decode().replace(old, new)
    read = [made.kinds.read_manifest(one, "shop")[0] for one in parse_documents(text.encode(), "mesh.yaml")]
    return [one for one in read if one is not None]


def test_a_supposition_tells_what_would_differ_and_leaves_nothing() -> None:
    made = model()
    before = held(made)
    with made.supposing(changed(made, "name: old", "name: new")) as differing:
        assert set(differing) == {VIEW} and set(differing[VIEW]) == {ROUTE}
        (name,) = differing[VIEW][ROUTE]
        was = differing[VIEW][ROUTE][name]
        assert was is not None and was.body == before[ROUTE][name]
        assert b"new" in made.publisher.catalog(VIEW)[ROUTE][name].body
    assert held(made) == before and not made.publisher.refresh()


def test_supposing_that_an_object_goes() -> None:
    made = model()
    before = held(made)
    with made.supposing(deleted=[SERVICE]) as differing:
        gone = {name for name, old in differing[VIEW][CLUSTER].items() if old is not None}
        assert gone == {"outbound|80||cart.shop.svc.cluster.local"} and LISTENER in before
        assert not gone & set(made.publisher.catalog(VIEW)[CLUSTER])
    assert held(made) == before
    assert held(made) == held(model())
