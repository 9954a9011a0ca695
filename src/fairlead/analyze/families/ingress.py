"""Ingresses against the Services and Secrets that they name (Istio has no analyzers for them)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import INGRESS, INGRESS_CLASS, SECRET, SERVICE, Document
from fairlead.analyze.finding import Said
from fairlead.inc import Reader
from fairlead.ir.ingress import CONTROLLER, gateway_label
from fairlead.model.path import SPEC, FieldPath

_ANNOTATION = "kubernetes.io/ingress.class"
_LABEL = "istio"


def ingress(r: Reader, one: Document) -> Iterator[Said]:
    """What an Ingress of the mesh names that is not there."""
    name = shape.text(one.spec, "ingressClassName")
    found = queries.document(r, INGRESS_CLASS, "", name) if name else None
    if name and (found is None or shape.text(found.spec, "controller") != CONTROLLER):
        return  # another's; that there is no such class the compiler says (FL0203)
    if not name and _ANNOTATION in one.annotations and one.annotations[_ANNOTATION] != _class(r):
        return
    for at, rule in shape.entries(one.spec, "rules"):
        for number, path in shape.entries(rule, "http", "paths"):
            yield from _service(r, one, path, SPEC.child("rules", at, "http", "paths", number, "backend", "service"))
    yield from _secrets(r, one)


def _class(r: Reader) -> str:
    return str(queries.mesh_config(r, "").get("ingressClass") or "istio")


def _service(r: Reader, one: Document, path: dict[str, Any], at: FieldPath) -> Iterator[Said]:
    name = shape.text(path, "backend", "service", "name")
    if not name:
        return
    service = queries.document(r, SERVICE, one.ref.namespace, name)
    if service is None:
        said = f"there is no Service {name} in namespace {one.ref.namespace}: requests of this path fail with 503"
        yield Said("IST0101", said, at / "name", "Create it, or name another.")
        return
    number = shape.number(path, "backend", "service", "port", "number")
    numbers = {shape.number(port, "port") for port in shape.items(service.spec, "ports")}
    if number is not None and number not in numbers:
        said = f"Service {name} has no port {number}: requests of this path fail with 503"
        listed = ", ".join(str(port) for port in sorted(port for port in numbers if port is not None))
        yield Said("IST0101", said, at.child("port", "number"), f"It has {listed or 'none'}.")


def _secrets(r: Reader, one: Document) -> Iterator[Said]:
    """The Secrets of its certificates, which lie in the namespace of the gateway."""
    config = queries.mesh_config(r, "")
    label = gateway_label(str(config.get("ingressSelector") or ""), str(config.get("ingressService") or ""))
    workloads = queries.matching(r, {_LABEL: label})
    if not workloads:
        return
    home = workloads[0].namespace
    for at, tls in shape.entries(one.spec, "tls"):
        name = shape.text(tls, "secretName")
        if name and not queries.exists(r, SECRET, home, name):
            said = f"there is no Secret {name} in namespace {home}, where the gateway runs: TLS of this host fails"
            yield Said("IST0101", said, SPEC.child("tls", at, "secretName"), f"Create it in namespace {home}.")


ANALYZERS = (Analyzer("fairlead.IngressAnalyzer", ("IST0101",), (INGRESS,), ingress),)
