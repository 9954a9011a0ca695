"""istio-authz: the RBAC and ext_authz filters that an AuthorizationPolicy becomes, compared as messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as http_authz_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_authz_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2
from google.protobuf import json_format

from fairlead.compiler import offline
from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.model import MeshModel
from fairlead.envoy.extauthz import HTTP_AUTHZ_TYPE, NETWORK_AUTHZ_TYPE
from fairlead.envoy.rbac import HTTP_TYPE, NETWORK_TYPE, RbacFilter, rbac_filters
from fairlead.ir.filters import Filter, FilterScope
from fairlead.ir.kind import Stage
from fairlead.ir.security import ACCESS_POLICIES
from fairlead.ir.view import pairs
from fairlead.model.diagnostic import Severity
from fairlead.model.manifest import Manifest
from fairlead.model.yaml import parse_documents
from tests.conformance.suites import DIRECTORY, load, parameters

SUITE = "istio-authz"
MESSAGES: dict[str, Any] = {
    HTTP_TYPE: http_pb2.RBAC,
    NETWORK_TYPE: network_pb2.RBAC,
    HTTP_AUTHZ_TYPE: http_authz_pb2.ExtAuthz,
    NETWORK_AUTHZ_TYPE: network_authz_pb2.ExtAuthz,
}


@pytest.mark.suite(SUITE)
@pytest.mark.parametrize("case", parameters(SUITE, SUITE, lambda suite: suite["cases"]))
def test_filters(case: Any) -> None:
    model = MeshModel()
    documents = parse_documents((DIRECTORY / SUITE / case["input"]).read_text())
    found = offline.load(model, [*documents, *surroundings(case["meshConfig"])])
    assert [str(one) for one in found if one.severity is Severity.ERROR] == []
    tcp = case["protocol"] == "tcp"
    if case["builder"] == "custom":
        made: tuple[Filter | RbacFilter, ...] = at_workload(model, tcp=tcp)
    else:
        bundle = case["trustDomainBundle"] or {}
        domains = tuple(one for one in (bundle.get("trustDomain"), *bundle.get("trustDomainAliases", ())) if one)
        policies = [policy for _, policy in model.engine.items(ACCESS_POLICIES)]
        made = rbac_filters(policies, tcp=tcp, trust_domains=domains)
    got = [
        {"name": one.name, "config": json_format.MessageToDict(MESSAGES[one.type_url].FromString(one.config))}
        for one in made
    ]
    assert got == [expected(DIRECTORY / SUITE / one) for one in case["expected"]]


def semantics() -> dict[str, Any]:
    """What the suite says of its world."""
    return (load(SUITE) or {})["semantics"]


def surroundings(mesh_config: Any) -> list[Manifest]:
    """The suite's services, and the mesh's settings of a case."""
    if not mesh_config:
        return []
    meta = {"apiVersion": "mesh.istio.io/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "istio"}}
    services = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": f"service-{at}", "namespace": one["namespace"]},
            "spec": {
                "hosts": [one["hostname"]],
                "ports": [{"number": 9000, "name": "grpc", "protocol": "GRPC"}],
                "resolution": "STATIC",
            },
        }
        for at, one in enumerate(semantics()["services"])
    ]
    return [Manifest({**meta, "spec": mesh_config}), *map(Manifest, services)]


def at_workload(model: MeshModel, *, tcp: bool) -> tuple[Filter, ...]:
    """The filters of the suite's workload."""
    proxy = semantics()["proxy"]
    scope = FilterScope("inbound", proxy["namespace"], pairs(proxy["labels"]), 0, tcp)
    return model.engine.call(filters, FilterKey(Stage.NETWORK_FILTERS if tcp else Stage.HTTP_FILTERS, scope))


def expected(path: Path) -> dict[str, Any]:
    """Istio's filter, normalised by a round trip through the message."""
    document = yaml.safe_load(path.read_text())
    config = document["typedConfig"]
    message = MESSAGES[config.pop("@type")]()
    json_format.ParseDict(config, message)
    return {"name": document["name"], "config": json_format.MessageToDict(message)}
