"""Istio's own route tables for sidecars: objects in, virtual hosts and clusters out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from envoy.config.route.v3 import route_pb2
from routes_facts import clusters, hosts_of

from fairlead.compiler.registry import registry
from fairlead.compiler.routes import SidecarRouteKey, sidecar_route
from fairlead.inc import Derivation, Engine, Reader, Table
from fairlead.ir.kind import Emission
from fairlead.ir.view import Client
from fairlead.model.object import Object
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents

DIRECTORY = Path(
    os.environ.get("FAIRLEAD_CONFORMANCE_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "conformance")
)
SUITE = DIRECTORY / "istio-sim" / "suite.json"

OBJECTS: Table[Ref, Object[Any]] = Table("test-objects")


def cases() -> list[Any]:
    if not SUITE.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no conformance cases at {SUITE}"))]
    return [pytest.param(one, id=one["id"]) for one in json.loads(SUITE.read_text())["sidecarRoutes"]]


def admissible(document: dict[str, Any]) -> dict[str, Any]:
    """The document as a Kubernetes API server would take it: a Service's port names are distinct."""
    if document["kind"] == "Service":
        for port in document["spec"]["ports"]:
            port["name"] = f"{port['name']}-{port['port']}"
    return document


def lower(r: Reader, ref: Ref, obj: Object[Any]) -> Iterable[Emission]:
    kind = registry().kind(ref.group, ref.kind)
    return () if kind is None or kind.lower is None else kind.lower(r, obj)


@pytest.mark.parametrize("case", cases())
def test_route_table(case: Any) -> None:
    engine = Engine([Derivation("lower", OBJECTS, 1, lower)])
    with engine.transaction():
        for text in (case["kubeConfig"], case["config"]):
            for document in parse_documents(text):
                obj, problems = registry().read(admissible(document.data))
                if obj is None and any(one.code == "FL0007" for one in problems):
                    pytest.xfail(f"{document.data['kind']} is not served")
                assert obj is not None, problems
                engine.put(OBJECTS, obj.ref, obj)
    key = SidecarRouteKey(Client(case["proxyNamespace"]), case["routeName"])
    found = engine.call(sidecar_route, key)
    assert found is not None
    hosts = hosts_of(route_pb2.RouteConfiguration.FromString(found.body))
    by_domain = {domain: clusters(one) for one in hosts.values() for domain in one.domains}
    for name, wanted in (case["expectedVirtualHosts"] or {}).items():
        assert by_domain.get(name) == wanted, name
    assert not engine.failures()
