"""Where an Ingress is reached stands in its status: by the gateways' Service, or by the gateways themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fairlead.compiler.model import MeshModel
from fairlead.compiler.registry import registry
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.ingressstatus import IngressStatus
from fairlead.ir.view import View
from fairlead.model.launch import Capture
from fairlead.model.ref import Ref
from fairlead.store.store import Store

from .running_plane import Json, until

GROUP = "networking.k8s.io"
EDGE = View(
    "router", "edge", (("istio", "ingressgateway"),), addresses=("192.0.2.5", "fe80::1"), capture=Capture("none")
)
OTHER = View("router", "edge", (("istio", "egress"),), addresses=("192.0.2.6",), capture=Capture("none"))


def document(kind: str, name: str, spec: Json, **more: Any) -> tuple[Ref, Json]:
    group, version = (GROUP, f"{GROUP}/v1") if kind.startswith("Ingress") else ("", "v1")
    namespace = {"IngressClass": "", "Service": "istio-system"}.get(kind, "shop")
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return Ref(group, kind, namespace, name), {
        "apiVersion": version,
        "kind": kind,
        "metadata": meta,
        "spec": spec,
        **more,
    }


async def _follow(directory: Path) -> None:
    store = Store(directory / "store.db")
    feed = Feed(store, MeshModel(registry()))
    feed.start()
    ingresses = IngressStatus(store, feed, lambda: (EDGE, OTHER))

    def put(*documents: tuple[Ref, Json]) -> None:
        with store.transaction(author="test", message="test") as tx:
            for ref, made in documents:
                tx.put(ref, made)

    def shown(name: str = "web") -> Any:
        found = store.get(Ref(GROUP, "Ingress", "shop", name))
        return ((found or {}).get("status") or {}).get("loadBalancer", {}).get("ingress")

    paths = [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {"number": 80}}}}]
    spec = {"ingressClassName": "mesh", "rules": [{"host": "a.example", "http": {"paths": paths}}]}
    classes = document("IngressClass", "mesh", {"controller": "istio.io/ingress-controller"})
    try:
        put(
            classes,
            document("Ingress", "web", spec),
            document("Ingress", "other", {**spec, "ingressClassName": "else"}),
        )
        ingresses.start()
        await until(lambda: shown() == [{"ip": "192.0.2.5"}], "the gateway's own address")
        balancer = {"loadBalancer": {"ingress": [{"hostname": "lb.example"}, {"ip": "192.0.2.7"}]}}
        service = {"ports": [{"port": 80}], "type": "LoadBalancer", "externalIPs": ["192.0.2.8"]}
        put(document("Service", "istio-ingressgateway", service, status=balancer))
        found = [{"hostname": "lb.example"}, {"ip": "192.0.2.7"}, {"ip": "192.0.2.8"}]
        await until(lambda: shown() == found, "the Service's addresses")
        assert shown("other") is None
        put(document("IngressClass", "mesh", {"controller": "example.com/other"}))
        await until(lambda: shown() is None, "it is not served any more")
    finally:
        ingresses.stop()
        feed.stop()
        store.close()


def test_an_ingress_shows_where_it_is_reached(tmp_path: Path) -> None:
    asyncio.run(_follow(tmp_path))
