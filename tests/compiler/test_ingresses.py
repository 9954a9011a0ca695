"""Ingresses: whose they are, what gateways serve of them, in which order, and what is told of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.resource import LISTENER, ROUTE
from fairlead.ir.view import View
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import Capture
from fairlead.model.manifest import Manifest

GATEWAY = View("router", "istio-system", (("istio", "ingressgateway"),), capture=Capture("none"))
OURS = {"controller": "istio.io/ingress-controller"}
THEIRS = {"controller": "example.com/other"}
ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT = {"ingressclass.kubernetes.io/is-default-class": "true"}
Document = dict[str, Any]


def document(kind: str, name: str, spec: Any, group: str = "networking.k8s.io/v1", **meta: Any) -> Document:
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def settings(**spec: Any) -> Document:
    return document("MeshConfig", "istio", spec, "mesh.istio.io/v1alpha1")


def path(value: str, service: str = "a", kind: str = "Prefix", port: int | str = 80) -> Document:
    to = {"service": {"name": service, "port": {"name" if isinstance(port, str) else "number": port}}}
    return {"path": value, "pathType": kind, "backend": to}


def ingress(name: str, *paths: Document, host: str = "shop.example.com", created: int = 1, **over: Any) -> Document:
    meta = {"creationTimestamp": f"2024-01-0{created}T00:00:00Z"} | over.pop("meta", {ANNOTATION: "istio"})
    annotations = {key: meta.pop(key) for key in (ANNOTATION,) if key in meta}
    spec = {"rules": [{"host": host, "http": {"paths": list(paths or (path("/"),))}}], **over}
    return document("Ingress", name, spec, namespace="shop", annotations=annotations, **meta)


def service(name: str, **ports: int) -> Document:
    return document(
        "Service", name, {"ports": [{"name": k, "port": v} for k, v in ports.items()]}, "v1", namespace="shop"
    )


def compiled(
    *documents: Document, view: View = GATEWAY
) -> tuple[dict[str, list[tuple[str, str]]], list[str], list[str]]:
    """Routes of hosts (match and cluster) by route configuration and host, the listeners, and what was reported."""
    model = MeshModel()
    wrong = [one for one in load(model, [Manifest(one) for one in documents]) if one.severity is Severity.ERROR]
    assert not wrong
    with model.opened(view) as catalog:
        assert not model.engine.failures()
        found: dict[str, list[tuple[str, str]]] = {}
        for name, resource in catalog[ROUTE].items():
            for host in RouteConfiguration.FromString(resource.body).virtual_hosts:
                for domain in host.domains if host.routes else ():
                    found[f"{name} {domain}"] = [_told(one) for one in host.routes]
        said = [f"{one.code} {one.origin}" for one in model.diagnostics() if one.code != "FL0202"]
        return found, sorted(catalog[LISTENER]), said


def _told(route: Any) -> tuple[str, str]:
    kind = route.match.WhichOneof("path_specifier")
    return f"{kind} {getattr(route.match, kind)}", route.route.cluster.split("|")[-1].partition(".")[0]


CLASSES: list[tuple[str, list[Document], Document, bool, str]] = [
    ("annotated", [], ingress("x"), True, ""),
    ("annotated otherwise", [], ingress("x", meta={ANNOTATION: "nginx"}), False, ""),
    (
        "annotated with the mesh's class",
        [settings(ingressClass="edge")],
        ingress("x", meta={ANNOTATION: "edge"}),
        True,
        "",
    ),
    ("ours", [document("IngressClass", "c", OURS)], ingress("x", meta={}, ingressClassName="c"), True, ""),
    ("theirs", [document("IngressClass", "c", THEIRS)], ingress("x", meta={}, ingressClassName="c"), False, ""),
    ("nobody's", [], ingress("x", meta={}, ingressClassName="c"), False, "FL0203 Ingress shop/x spec.ingressClassName"),
    ("none", [], ingress("x", meta={}), False, "FL0203 Ingress shop/x spec"),
    ("none, for all", [settings(ingressControllerMode="DEFAULT")], ingress("x", meta={}), True, ""),
    (
        "the default class",
        [document("IngressClass", "c", OURS, annotations=DEFAULT)],
        ingress("x", meta={}),
        True,
        "",
    ),
    (
        "the youngest default class",
        [
            document("IngressClass", "a", OURS, annotations=DEFAULT, creationTimestamp="2024-01-01T00:00:00Z"),
            document("IngressClass", "b", THEIRS, annotations=DEFAULT, creationTimestamp="2024-01-02T00:00:00Z"),
            settings(ingressControllerMode="DEFAULT"),
        ],
        ingress("x", meta={}),
        False,
        "",
    ),
    (
        "off",
        [settings(ingressControllerMode="OFF")],
        ingress("x"),
        False,
        f"FL0203 Ingress shop/x metadata.annotations[{ANNOTATION}]",
    ),
    (
        "off with a class",
        [settings(ingressControllerMode="OFF"), document("IngressClass", "c", OURS)],
        ingress("x", meta={}, ingressClassName="c"),
        False,
        "FL0203 Ingress shop/x spec.ingressClassName",
    ),
]


@pytest.mark.parametrize(
    ("around", "said", "served", "reported"), [one[1:] for one in CLASSES], ids=[one[0] for one in CLASSES]
)
def test_whose_an_ingress_is(around: list[Document], said: Document, served: bool, reported: str) -> None:
    found, listeners, reports = compiled(*around, said)
    assert bool(found) == served
    assert listeners == (["0.0.0.0_80"] if served else [])
    assert reports == ([reported] if reported else [])


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ({"ingressSelector": "edge", "ingressService": "other"}, "edge"),
        ({"ingressService": "other"}, "other"),
        ({"ingressService": "istio-ingressgateway"}, "ingressgateway"),
    ],
)
def test_which_gateways_serve(spec: Document, label: str) -> None:
    there = View("router", "far", (("istio", label),), capture=Capture("none"))
    assert compiled(settings(**spec), ingress("x"), view=there)[0]
    elsewhere = View("router", "far", (("istio", "neither"),), capture=Capture("none"))
    assert not compiled(settings(**spec), ingress("x"), view=elsewhere)[0]


def test_paths_of_all_ingresses_of_a_host_by_length() -> None:
    one = ingress("one", path("/"), path("/a/b/", "b"), path("/a", "c"), path("/a", "d", "Exact"))
    own = "ImplementationSpecific"
    two = ingress("two", path("/a", "e"), path("/longer/*", "f", own), path("/*", "g", own), created=2)
    found, _, said = compiled(two, one)
    assert found["http.80 shop.example.com"] == [
        ("path_separated_prefix /longer", "f"),
        ("path_separated_prefix /a/b", "b"),
        ("path /a", "d"),
        ("path_separated_prefix /a", "c"),
        ("path_separated_prefix /a", "e"),
        ("prefix /", "a"),
    ]
    assert said == []


def test_ports_by_name() -> None:
    said = ingress("x", path("/a", port="http"), path("/b", port="none"), path("/c", "unknown", port="http"))
    found, _, reports = compiled(service("a", http=8000, more=81), said)
    assert found["http.80 shop.example.com"] == [("path_separated_prefix /a", "a")]
    where = "spec.rules[0].http.paths[{}].backend.service.port.name"
    assert reports == [f"FL0205 Ingress shop/x {where.format(at)}" for at in (1, 2)]


def test_certificates() -> None:
    """The rules of a host stand under the oldest Ingress: a certificate in another one serves none of them."""
    own = [{"hosts": ["*.example.com"], "secretName": "own"}]
    found, listeners, said = compiled(ingress("x", tls=own), ingress("y", path("/y"), created=2))
    secure = "https.443.https-443-ingress-x-shop-0.x-istio-autogenerated-k8s-ingress-shop.istio-system"
    assert listeners == ["0.0.0.0_443", "0.0.0.0_80"]
    assert found["http.80 shop.example.com"] == found[f"{secure} shop.example.com"]
    assert [cluster for _, cluster in found[f"{secure} shop.example.com"]] == ["a", "a"]
    assert said == []
    found, _, said = compiled(ingress("x"), ingress("y", path("/y"), created=2, tls=own))
    assert [name for name in found if name.startswith("https")] == []
    assert said == ["FL0204 Ingress shop/y spec.tls[0]"]


def test_an_edit_moves_a_host_to_the_next_ingress() -> None:
    model = MeshModel()
    read = [
        one
        for said in (ingress("x", path("/x")), ingress("y", path("/y"), created=2))
        for one in [_object(model, said)]
    ]
    model.apply(read)
    with model.opened(GATEWAY):
        model.apply(deleted=[read[0].ref])
        model.publisher.refresh()
        resource = model.publisher.catalog(GATEWAY)[ROUTE]["http.80"]
        hosts = RouteConfiguration.FromString(resource.body).virtual_hosts
        assert [[_told(route) for route in host.routes] for host in hosts] == [[("path_separated_prefix /y", "a")]]
    model.apply(deleted=[read[1].ref])
    assert not model.compile(GATEWAY)[LISTENER]


def _object(model: MeshModel, said: Document) -> Any:
    found, problems = model.kinds.read(said)
    assert problems == []
    assert found is not None
    return found
