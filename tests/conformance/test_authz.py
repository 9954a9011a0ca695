"""istio-authz: the RBAC filters that an AuthorizationPolicy becomes, compared as messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2
from google.protobuf import json_format

from fairlead.compiler import offline
from fairlead.compiler.model import MeshModel
from fairlead.envoy.rbac import HTTP_TYPE, rbac_filters
from fairlead.ir.security import ACCESS_POLICIES
from fairlead.model.diagnostic import Severity
from fairlead.model.yaml import parse_documents
from tests.conformance.suites import DIRECTORY, parameters

SUITE = "istio-authz"


@pytest.mark.suite(SUITE)
@pytest.mark.parametrize("case", parameters(SUITE, SUITE, lambda suite: suite["cases"]))
def test_filters(case: Any) -> None:
    model = MeshModel()
    found = offline.load(model, parse_documents((DIRECTORY / SUITE / case["input"]).read_text()))
    assert [str(one) for one in found if one.severity is Severity.ERROR] == []
    bundle = case["trustDomainBundle"] or {}
    domains = tuple(one for one in (bundle.get("trustDomain"), *bundle.get("trustDomainAliases", ())) if one)
    policies = [policy for _, policy in model.engine.items(ACCESS_POLICIES)]
    got = [
        {
            "name": one.name,
            "config": json_format.MessageToDict(
                (http_pb2.RBAC if one.type_url == HTTP_TYPE else network_pb2.RBAC).FromString(one.config)
            ),
        }
        for one in rbac_filters(policies, tcp=case["protocol"] == "tcp", trust_domains=domains)
    ]
    assert got == [expected(DIRECTORY / SUITE / one) for one in case["expected"]]


def expected(path: Path) -> dict[str, Any]:
    """Istio's filter, normalised by a round trip through the message."""
    document = yaml.safe_load(path.read_text())
    config = document["typedConfig"]
    kind = config.pop("@type")
    message = http_pb2.RBAC() if kind == HTTP_TYPE else network_pb2.RBAC()
    json_format.ParseDict(config, message)
    return {"name": document["name"], "config": json_format.MessageToDict(message)}
