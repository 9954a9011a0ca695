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
from fairlead.inc import Engine, Reader, rule
from fairlead.ir.filters import Filter, FilterScope, Phase
from fairlead.ir.kind import Stage
from fairlead.ir.security import ACCESS_POLICIES
from fairlead.kinds.authorizationpolicy import KIND

DIRECTORY = Path(
    os.environ.get("FAIRLEAD_CONFORMANCE_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "conformance")
)
SUITE = DIRECTORY / "istio-authz"
CUSTOM = "action CUSTOM asks no provider yet: what it matches is denied, and a warning says so"
EXPECTED_FAILURES = ("http/custom-grpc-provider-no-namespace", "tcp/custom-both-http-tcp")


@pytest.mark.parametrize(
    "path", inputs("peerauthentication", "authorizationpolicy"), ids=lambda path: cast("Path", path).stem
)
def test_golden(path: Path) -> None:
    check(path)


def cases() -> list[Any]:
    if not SUITE.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no conformance cases at {SUITE}"))]
    loaded = json.loads((SUITE / "suite.json").read_text())
    return [
        pytest.param(
            one,
            id=one["id"],
            marks=[pytest.mark.xfail(reason=CUSTOM, strict=True)] if one["id"] in EXPECTED_FAILURES else [],
        )
        for one in loaded["cases"]
    ]


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


POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{action: {action}, selector: {{matchLabels: {labels}}}, rules: [{{to: [{{operation: {{ports: ["80"]}}}}]}}]}}
"""
MESH = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: istio}
spec: {rootNamespace: root}
"""


@rule
def _http(r: Reader, scope: FilterScope) -> tuple[Filter, ...]:
    return tuple(KIND.emit[Stage.HTTP_FILTERS](r, scope))


@rule
def _network(r: Reader, scope: FilterScope) -> tuple[Filter, ...]:
    return tuple(KIND.emit[Stage.NETWORK_FILTERS](r, scope))


def policies_in(made: Engine, scope: FilterScope) -> list[list[str]]:
    """The policies of each HTTP filter, in order."""
    filters = made.call(_http, scope)
    assert all(one.phase is Phase.AUTHZ for one in filters)
    ordered = sorted(filters, key=lambda one: (one.order, one.name))
    return [sorted(http_pb2.RBAC.FromString(one.config).rules.policies) for one in ordered]


def test_policies_are_chosen_by_namespace_and_labels() -> None:
    texts = [
        POLICY.format(name="mine", namespace="shop", action="ALLOW", labels="{app: a}"),
        POLICY.format(name="deny", namespace="shop", action="DENY", labels="{app: a, version: v1}"),
        POLICY.format(name="everywhere", namespace="root", action="DENY", labels="{app: a}"),
        POLICY.format(name="foreign", namespace="other", action="DENY", labels="{app: a}"),
        POLICY.format(name="else", namespace="shop", action="DENY", labels="{app: b}"),
        MESH,
    ]
    made = engine(read("---".join(texts)))
    scope = FilterScope("inbound", "shop", (("app", "a"), ("version", "v1")), 80)
    assert policies_in(made, scope) == [
        ["ns[root]-policy[everywhere]-rule[0]", "ns[shop]-policy[deny]-rule[0]"],
        ["ns[shop]-policy[mine]-rule[0]"],
    ]
    assert policies_in(made, FilterScope("gateway", "shop", (("app", "a"),))) == [
        ["ns[root]-policy[everywhere]-rule[0]"],
        ["ns[shop]-policy[mine]-rule[0]"],
    ]
    assert policies_in(made, FilterScope("outbound", "shop", (("app", "a"),))) == []
    assert policies_in(made, FilterScope("inbound", "third", (("app", "c"),))) == []
    assert made.call(_network, scope) == ()
    tcp = made.call(_network, FilterScope("inbound", "shop", (("app", "a"),), 80, tcp=True))
    assert [one.name for one in tcp] == ["envoy.filters.network.rbac"] * 2
