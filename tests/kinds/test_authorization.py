"""PeerAuthentication and AuthorizationPolicy: goldens and conformance with Istio's filters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2
from google.protobuf import json_format
from lowering import check, engine, inputs, read

from fairlead.envoy.rbac import HTTP_TYPE, rbac_filters
from fairlead.ir.security import ACCESS_POLICIES

DIRECTORY = Path(
    os.environ.get("FAIRLEAD_CONFORMANCE_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "conformance")
)
SUITE = DIRECTORY / "istio-authz"


@pytest.mark.parametrize(
    "path", inputs("peerauthentication", "authorizationpolicy"), ids=lambda path: cast("Path", path).stem
)
def test_golden(path: Path) -> None:
    check(path)


def cases() -> list[Any]:
    if not SUITE.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no conformance cases at {SUITE}"))]
    loaded = json.loads((SUITE / "suite.json").read_text())
    return [pytest.param(one, id=one["id"]) for one in loaded["cases"]]


def expected(path: Path) -> dict[str, Any]:
    """Istio's filter, normalised by a round trip through the message."""
    document = yaml.safe_load(path.read_text())
    config = document["typedConfig"]
    kind = config.pop("@type")
    message = http_pb2.RBAC() if kind == HTTP_TYPE else network_pb2.RBAC()
    json_format.ParseDict(config, message)
    return {"name": document["name"], "config": json_format.MessageToDict(message)}


@pytest.mark.parametrize("case", cases())
def test_conformance(case: Any) -> None:
    made = engine(read((SUITE / case["input"]).read_text()))
    bundle = case["trustDomainBundle"] or {}
    domains = tuple(one for one in (bundle.get("trustDomain"), *bundle.get("trustDomainAliases", ())) if one)
    policies = [policy for _, policy in made.items(ACCESS_POLICIES)]
    got = [
        {
            "name": one.name,
            "config": json_format.MessageToDict(
                (http_pb2.RBAC if one.type_url == HTTP_TYPE else network_pb2.RBAC).FromString(one.config)
            ),
        }
        for one in rbac_filters(policies, tcp=case["protocol"] == "tcp", trust_domains=domains)
    ]
    assert got == [expected(SUITE / one) for one in case["expected"]]
