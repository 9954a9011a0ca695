"""What is told of endpoints: each by itself with its reason, or a storm as one event in which everybody is numbered."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.compiler.model import MeshModel
from fairlead.controlplane.endpointnews import EndpointNews
from fairlead.controlplane.feed import Pass
from fairlead.model.ref import Ref
from fairlead.store.change import Change
from fairlead.store.timeline import Timeline

Json = dict[str, Any]


def _service(app: str) -> Json:
    spec = {"ports": [{"name": "http", "port": 80}], "selector": {"app": app}, "clusterIP": "10.96.0.9"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": "shop"}, "spec": spec}


def _entry(app: str, at: int, healthy: str = "True") -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": f"{app}-{at}", "namespace": "shop"},
        "spec": {"address": f"10.0.{at >> 8}.{at & 255}", "labels": {"app": app}},
        "status": {"conditions": [{"type": "Healthy", "status": healthy, "message": "connection refused"}]},
    }


class _World:
    def __init__(self, *documents: Json) -> None:
        self.model = MeshModel()
        self.timeline = Timeline(":memory:")
        self.now = 1.7e9
        self._put(documents)
        self.news = EndpointNews(self.model.engine, self.timeline.number, lambda: self.now)

    def _put(self, documents: tuple[Json, ...]) -> dict[Ref, Json]:
        read = [(self.model.kinds.read(one)[0], one) for one in documents]
        self.model.apply(obj for obj, _ in read if obj is not None)
        return {obj.ref: one for obj, one in read if obj is not None}

    def passed(self, *documents: Json, message: str = "", command: str = "") -> None:
        commits = {
            ref: Change(1, "MODIFIED", ref, None, one, "fairlead:admin", self.now, message, "apply by kubectl", command)
            for ref, one in self._put(documents).items()
        }
        self.news.passed(Pass({}, {}, 0.0, commits))
        self.now += 0.1


@pytest.mark.parametrize(
    ("document", "given", "text"),
    [
        (_entry("cart", 2), {"message": "it joined"}, "added to {}: 10.0.0.2 (it joined)"),
        (_entry("cart", 2, "False"), {}, "added to {}: 10.0.0.2, not healthy yet (fairlead:admin, apply by kubectl)"),
        (_entry("cart", 1, "False"), {}, "unhealthy in {}: 10.0.0.1 (connection refused)"),
        (
            _service("cart") | {"spec": {"ports": [{"port": 80}], "selector": {"app": "web"}}},
            {"command": "ann@desk: fairlead apply -f cart.yaml"},
            "removed from {}: 10.0.0.1 (Service shop/cart modified: ann@desk: fairlead apply -f cart.yaml)",
        ),
    ],
)
def test_who_where_and_why(document: Json, given: dict[str, str], text: str) -> None:
    world = _World(_service("cart"), _entry("cart", 1))
    world.passed(document, **given)
    (one,) = world.news.tell()
    assert one.sort == "endpoint" and one.text == text.format("cart.shop.svc.cluster.local")
    assert one.proxy in ("cart-1.shop", "cart-2.shop") and one.subject.startswith("WorkloadEntry cart-")
    assert (one.detail or {})["hosts"] == ["cart.shop.svc.cluster.local"]
    assert world.news.tell() == []


def test_a_storm_is_few_events_and_knows_everybody() -> None:
    world = _World(*(_service(f"app{at}") for at in range(30)))
    world.passed(*(_entry("app1", at) for at in range(200)), message="has joined")
    world.passed(_entry("app2", 1), _entry("app3", 1))
    found = world.news.tell()
    assert [one.text.partition(":")[0] for one in found] == [
        "200 endpoints added to app1.shop.svc.cluster.local (has joined)",
        "added to app2.shop.svc.cluster.local",
        "added to app3.shop.svc.cluster.local",
    ]
    assert [one.time for one in found] == sorted(one.time for one in found)
    assert len(found[0].rows or ()) == 200 and len((found[0].detail or {})["addresses"]) == 100
    world.passed(*(_entry(f"app{at}", 1) for at in range(30)))
    assert [one.text[:25] for one in world.news.tell()] == ["27 endpoints added to app0"[:25]]
    world.passed(*(_entry(f"app{at}", 1, "False") for at in range(30)))
    (one,) = world.news.tell()
    assert one.text.startswith("30 endpoints unhealthy in app0.shop.svc.cluster.local, ")
    assert one.text.endswith("and 27 more hosts (connection refused)")
