"""HTTPRoute: goldens and exact problem paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from lowering import check, inputs, read

from fairlead.compiler.model import MeshModel
from fairlead.compiler.registry import registry
from fairlead.compiler.routes import SidecarRouteKey, sidecar_route
from fairlead.compiler.sidecars import SidecarKey, proxy_scope
from fairlead.ir.view import Client
from fairlead.model.diagnostic import Problem

PARENT = {"group": "", "kind": "Service", "name": "a"}
BACKEND = {"name": "a", "port": 80}


@pytest.mark.parametrize("path", inputs("httproute"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def problems(*rules: dict[str, Any], **spec: Any) -> list[Problem]:
    return registry().read(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "x", "namespace": "shop"},
            "spec": {"parentRefs": [PARENT], "rules": list(rules), **spec},
        }
    )[1]


def filtered(kind: str, **fields: Any) -> dict[str, Any]:
    return {"filters": [{"type": kind, **fields}], "backendRefs": [BACKEND]}


PREFIX = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}
FOUND: list[tuple[str, dict[str, Any], str, str]] = [
    ("path", {"matches": [{"path": {"value": "a"}}]}, "spec.rules[0].matches[0].path.value", "FL0001"),
    ("no port", {"backendRefs": [{"name": "a"}]}, "spec.rules[0].backendRefs[0].port", "FL0004"),
    ("kind", {"backendRefs": [{"name": "a", "kind": "Pod"}]}, "spec.rules[0].backendRefs[0]", "FL0100"),
    ("no field", filtered("CORS"), "spec.rules[0].filters[0].cors", "FL0004"),
    ("extension", filtered("ExternalAuth"), "spec.rules[0].filters[0]", "FL0100"),
    (
        "prefix of an exact path",
        {
            "matches": [{"path": {"type": "Exact", "value": "/a"}}],
            "filters": [{"type": "URLRewrite", "urlRewrite": {"path": PREFIX}}],
        },
        "spec.rules[0].filters[0].urlRewrite.path",
        "FL0001",
    ),
    ("redirect", filtered("RequestRedirect", requestRedirect={}), "spec.rules[0].backendRefs", "FL0001"),
    ("time", {"timeouts": {"request": "soon"}}, "spec.rules[0].timeouts.request", "FL0001"),
]


@pytest.mark.parametrize(("name", "rule", "path", "code"), FOUND, ids=[one[0] for one in FOUND])
def test_problem(name: str, rule: dict[str, Any], path: str, code: str) -> None:
    found = problems(rule)
    assert (path, code) in [(str(one.path), one.code) for one in found], [(str(one.path), one.code) for one in found]


def test_parents_other_than_services_have_no_effect() -> None:
    found = problems({"backendRefs": [BACKEND]}, parentRefs=[{"name": "edge"}])
    assert [(str(one.path), one.code) for one in found] == [("spec.parentRefs[0]", "FL0100")]


SHOWN = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: both, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: shown}, {group: "", kind: Service, name: hidden}]
  rules: [{backendRefs: [{name: other, port: 80}]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: some, namespace: shop}
spec: {egress: [{hosts: ["./shown.shop.svc.cluster.local"]}]}
"""


def test_a_parent_that_a_sidecar_does_not_show_is_no_virtual_host() -> None:
    service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: %s\n"
    spec = "{clusterIP: 10.9.0.%d, ports: [{port: 80, name: http}]}"
    text = SHOWN + service % ("shown", spec % 1) + service % ("hidden", spec % 2)
    model = MeshModel()
    model.apply(read(text))
    scope = model.engine.call(proxy_scope, SidecarKey("shop", ()))
    made = model.engine.call(sidecar_route, SidecarRouteKey(Client(scope), "80"))
    assert made is not None
    domains = {one for host in RouteConfiguration.FromString(made.body).virtual_hosts for one in host.domains}
    assert "shown.shop.svc.cluster.local" in domains
    assert "hidden.shop.svc.cluster.local" not in domains
