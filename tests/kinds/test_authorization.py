"""PeerAuthentication and AuthorizationPolicy: goldens, and which policies a filter gets."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from lowering import check, engine, inputs, read

from fairlead.inc import Engine, Reader, rule
from fairlead.ir.filters import Filter, FilterScope, Phase
from fairlead.ir.kind import Stage
from fairlead.kinds.authorizationpolicy import KIND


@pytest.mark.parametrize(
    "path", inputs("peerauthentication", "authorizationpolicy"), ids=lambda path: cast("Path", path).stem
)
def test_golden(path: Path) -> None:
    check(path)


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
