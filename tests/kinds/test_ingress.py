"""Ingress and IngressClass: goldens, exact problem paths, what may not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lowering import check, inputs

from fairlead.compiler.registry import registry
from fairlead.kinds.ingress import KIND
from fairlead.kinds.ingressclass import KIND as CLASS
from fairlead.kinds.ingressclass.validate import validate_update
from fairlead.model.diagnostic import Problem, Severity


@pytest.mark.parametrize("path", inputs("ingress", "ingressclass"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def problems(spec: Any, kind: str = "Ingress", annotations: dict[str, str] | None = None) -> list[Problem]:
    meta = {"name": "x", "annotations": annotations or {}}
    document = {"apiVersion": "networking.k8s.io/v1", "kind": kind, "metadata": meta, "spec": spec}
    return registry().read(document)[1]


def backend(name: str = "a", /, **port: Any) -> dict[str, Any]:
    return {"service": {"name": name, "port": port or {"number": 80}}}


def path(value: str = "/", kind: str | None = "Prefix", to: Any = None) -> dict[str, Any]:
    return {"path": value, "backend": to or backend(), **({"pathType": kind} if kind else {})}


def rules(*paths: dict[str, Any], host: str = "") -> dict[str, Any]:
    return {"rules": [{"host": host, "http": {"paths": list(paths)}}]}


PATH = "spec.rules[0].http.paths[0]"
ERRORS: list[tuple[str, dict[str, Any], str]] = [
    ("nothing", {}, "spec"),
    ("no paths", rules(), "spec.rules[0].http.paths"),
    ("address as host", rules(path(), host="10.0.0.1"), "spec.rules[0].host"),
    ("upper case", rules(path(), host="A.example.com"), "spec.rules[0].host"),
    ("inner wildcard", rules(path(), host="a.*.com"), "spec.rules[0].host"),
    ("wildcard alone", rules(path(), host="*"), "spec.rules[0].host"),
    ("no type", rules(path(kind=None)), f"{PATH}.pathType"),
    ("wrong type", rules(path(kind="Regex")), f"{PATH}.pathType"),
    ("relative", rules(path("a")), f"{PATH}.path"),
    ("relative of the mesh's own", rules(path("a", "ImplementationSpecific")), f"{PATH}.path"),
    ("double slash", rules(path("/a//b")), f"{PATH}.path"),
    ("encoded slash", rules(path("/a%2Fb", "Exact")), f"{PATH}.path"),
    ("dots at the end", rules(path("/a/..")), f"{PATH}.path"),
    ("no backend", rules(path(to={"service": None})), f"{PATH}.backend"),
    ("two backends", rules(path(to={**backend(), "resource": {"kind": "A", "name": "b"}})), f"{PATH}.backend"),
    ("resource without name", rules(path(to={"resource": {"kind": "A"}})), f"{PATH}.backend.resource.name"),
    ("service without name", rules(path(to=backend(""))), f"{PATH}.backend.service.name"),
    ("wrong service", rules(path(to=backend("1a"))), f"{PATH}.backend.service.name"),
    ("no port", rules(path(to=backend(number=0))), f"{PATH}.backend.service.port"),
    ("two ports", rules(path(to=backend(number=80, name="http"))), f"{PATH}.backend.service.port"),
    ("port name", rules(path(to=backend(name="x" * 16))), f"{PATH}.backend.service.port.name"),
    ("port number", rules(path(to=backend(number=70000))), f"{PATH}.backend.service.port.number"),
    ("class", {**rules(path()), "ingressClassName": "A_b"}, "spec.ingressClassName"),
    ("host of a certificate", {**rules(path()), "tls": [{"hosts": ["a", "*b.c"]}]}, "spec.tls[0].hosts[1]"),
    ("secret", {**rules(path()), "tls": [{"secretName": "A_b"}]}, "spec.tls[0].secretName"),
]


@pytest.mark.parametrize(("spec", "where"), [one[1:] for one in ERRORS], ids=[one[0] for one in ERRORS])
def test_errors(spec: Any, where: str) -> None:
    assert [str(one.path) for one in problems(spec) if one.severity is Severity.ERROR] == [where]


WARNINGS: list[tuple[str, dict[str, Any], str, str]] = [
    ("default backend", {**rules(path()), "defaultBackend": backend()}, "spec.defaultBackend", "FL0100"),
    ("resource", rules(path(to={"resource": {"kind": "A", "name": "b"}})), f"{PATH}.backend.resource", "FL0100"),
    ("rule without paths", {"rules": [{"host": "a.b"}]}, "spec.rules[0]", "FL0103"),
    ("certificate without secret", {**rules(path()), "tls": [{"hosts": ["a.b"]}]}, "spec.tls[0]", "FL0103"),
]


@pytest.mark.parametrize(("spec", "where", "code"), [one[1:] for one in WARNINGS], ids=[one[0] for one in WARNINGS])
def test_warnings(spec: Any, where: str, code: str) -> None:
    assert [(str(one.path), one.code) for one in problems(spec)] == [(where, code)]


def test_two_ways_to_name_a_class_agree() -> None:
    spec = {**rules(path()), "ingressClassName": "mesh"}
    said = "kubernetes.io/ingress.class"
    assert problems(spec, annotations={said: "mesh"}) == []
    found = problems(spec, annotations={said: "istio"})
    assert [one.path for one in found] == [("metadata", "annotations", said)]


CLASSES: list[tuple[str, dict[str, Any], str]] = [
    ("no controller", {}, "spec.controller"),
    ("no path", {"controller": "example.com"}, "spec.controller"),
    ("no domain", {"controller": "/a"}, "spec.controller"),
    ("long", {"controller": "example.com/" + "a" * 250}, "spec.controller"),
    ("parameters", {"controller": "a.b/c", "parameters": {"kind": "A"}}, "spec.parameters.name"),
    (
        "scope",
        {"controller": "a.b/c", "parameters": {"kind": "A", "name": "b", "scope": "Node"}},
        "spec.parameters.scope",
    ),
    (
        "no namespace",
        {"controller": "a.b/c", "parameters": {"kind": "A", "name": "b", "scope": "Namespace"}},
        "spec.parameters.namespace",
    ),
    (
        "namespace of the cluster",
        {"controller": "a.b/c", "parameters": {"kind": "A", "name": "b", "namespace": "c"}},
        "spec.parameters.namespace",
    ),
]


@pytest.mark.parametrize(("spec", "where"), [one[1:] for one in CLASSES], ids=[one[0] for one in CLASSES])
def test_errors_of_classes(spec: Any, where: str) -> None:
    found = problems(spec, "IngressClass")
    assert [str(one.path) for one in found if one.severity is Severity.ERROR] == [where]


def test_a_controller_stays() -> None:
    def made(controller: str) -> Any:
        document = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "x"}}
        return registry().read({**document, "spec": {"controller": controller}})[0]

    assert list(validate_update(made("a.b/c"), made("a.b/c"))) == []
    assert [str(one.path) for one in validate_update(made("a.b/c"), made("a.b/d"))] == ["spec.controller"]


def test_what_get_prints() -> None:
    spec = {**rules(path(), host="a.b"), "ingressClassName": "mesh", "tls": [{"secretName": "c"}]}
    status = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "lb.example.com"}]}}
    document: dict[str, Any] = {"metadata": {"creationTimestamp": "now"}, "spec": spec, "status": status}
    printed = [one.value(document) for one in KIND.columns]
    assert printed == ["mesh", "a.b", "10.0.0.1,lb.example.com", "80, 443", "now"]
    assert [one.value({}) for one in KIND.columns][:4] == ["<none>", "*", "", "80"]
    parameters = {"apiGroup": "a.b", "kind": "Settings", "name": "fast"}
    of_class = {"spec": {"controller": "a.b/c", "parameters": parameters}}
    assert [one.value(of_class) for one in CLASS.columns][:2] == ["a.b/c", "Settings.a.b/fast"]
