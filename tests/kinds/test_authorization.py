"""PeerAuthentication and AuthorizationPolicy: goldens, and which policies a filter gets."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2
from google.protobuf import json_format
from lowering import check, engine, inputs, read

from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.model import MeshModel
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


CUSTOM = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {{action: CUSTOM, provider: {{name: {provider}}}, rules: [{{to: [{{operation: {{ports: ["80"]}}}}]}}]}}
"""
AUTHORIZERS = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: istio}
spec:
  extensionProviders:
    - name: ask
      envoyExtAuthzHttp:
        service: shop/authz.shop.svc.cluster.local
        port: 9000
        timeout: 2s
        pathPrefix: /check
        statusOnError: "503"
        failOpen: true
        clearRouteCache: true
        includeRequestHeadersInCheck: [x-a, "x-*", "*-z"]
        includeHeadersInCheck: [x-old]
        includeAdditionalHeadersInCheck: {x-b: "2", x-a: "1"}
        includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true, packAsBytes: true}
        headersToUpstreamOnAllow: [x-user]
        headersToDownstreamOnDeny: [x-why]
        headersToDownstreamOnAllow: [x-ok]
    - {name: grpc, envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000}}
    - {name: wrong, envoyExtAuthzGrpc: {service: a/b/c, port: 0, statusOnError: "700", timeout: soon}}
    - {name: nowhere, envoyExtAuthzGrpc: {service: shop/else, port: 9000}}
    - {name: no-port, envoyExtAuthzGrpc: {service: shop/authz.shop.svc.cluster.local, port: 9001}}
    - {name: twice, envoyExtAuthzGrpc: {service: twice.example, port: 9000}}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: authz, namespace: shop}
spec: {selector: {app: authz}, ports: [{name: grpc, port: 9000}]}
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: twice, namespace: {namespace}}}
spec: {{hosts: [twice.example], ports: [{{number: 9000, name: grpc, protocol: GRPC}}], resolution: DNS}}
"""


def asked(*providers: str, tcp: bool = False) -> tuple[list[Filter], list[str]]:
    """The filters of a workload whose policies name these providers, and what is said of it."""
    policies = [CUSTOM.format(name=f"policy-{at}", provider=one) for at, one in enumerate(providers)]
    model = MeshModel()
    entries = [ENTRY.format(namespace=one) for one in ("shop", "other")]
    model.apply(read("---".join((*policies, AUTHORIZERS, SERVICE, *entries))))
    scope = FilterScope("inbound", "shop", (), 80, tcp)
    stage = Stage.NETWORK_FILTERS if tcp else Stage.HTTP_FILTERS
    found = model.engine.call(filters, FilterKey(stage, scope))
    return list(found), [f"{one.code} {one.origin.ref} {one.message}" for one in model.diagnostics()]


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("absent", "has no authorizer 'absent' (there: ask, grpc, wrong, nowhere, no-port, twice)"),
        ("wrong", "port 0 is not between 1 and 65535"),
        ("nowhere", "there is no host 'else' in namespace shop"),
        ("no-port", "has no port 9001"),
        ("twice", "is in several namespaces (other, shop)"),
    ],
)
def test_who_cannot_be_asked_denies(provider: str, said: str) -> None:
    for tcp in (False, True):
        (only,), found = asked(provider, tcp=tcp)
        config = (network_pb2.RBAC if tcp else http_pb2.RBAC).FromString(only.config)
        (name,) = config.rules.policies
        assert name == f"istio-ext-authz-{provider}-ns[shop]-policy[policy-0]-rule[0]-deny-due-to-bad-CUSTOM-action"
        assert len(found) == 1
        assert found[0].startswith("FL0402 AuthorizationPolicy shop/policy-0 nobody can be asked")
        assert said in found[0]


def test_a_workload_has_one_authorizer() -> None:
    made, found = asked("grpc", "ask")
    assert [one.name for one in made] == ["envoy.filters.http.rbac"] * 2
    assert len(found) == 2
    assert all("name several providers (ask, grpc)" in one for one in found)


def test_an_authorizer_over_http_is_not_asked_about_connections() -> None:
    assert asked("ask", tcp=True) == ([], [])
    assert [one.name for one in asked("grpc", tcp=True)[0]] == [
        "envoy.filters.network.rbac",
        "envoy.filters.network.ext_authz",
    ]


def test_all_that_can_be_said_of_an_authorizer() -> None:
    made, found = asked("ask")
    assert found == []
    config = json_format.MessageToDict(ExtAuthz.FromString(made[1].config), preserving_proto_field_name=True)
    assert config.pop("filter_enabled_metadata")["value"] == {"string_match": {"prefix": "istio-ext-authz-ask"}}

    def names(*patterns: dict[str, str]) -> dict[str, object]:
        return {"patterns": [{**one, "ignore_case": True} for one in patterns]}

    assert config == {
        "failure_mode_allow": True,
        "clear_route_cache": True,
        "transport_api_version": "V3",
        "status_on_error": {"code": "ServiceUnavailable"},
        "with_request_body": {"max_request_bytes": 10, "allow_partial_message": True, "pack_as_bytes": True},
        "allowed_headers": names({"exact": "x-a"}, {"prefix": "x-"}, {"suffix": "-z"}),
        "http_service": {
            "path_prefix": "/check",
            "server_uri": {
                "uri": "http://authz.shop.svc.cluster.local",
                "cluster": "outbound|9000||authz.shop.svc.cluster.local",
                "timeout": "2s",
            },
            "authorization_request": {"headers_to_add": [{"key": "x-a", "value": "1"}, {"key": "x-b", "value": "2"}]},
            "authorization_response": {
                "allowed_upstream_headers": names({"exact": "x-user"}),
                "allowed_client_headers": names({"exact": "x-why"}),
                "allowed_client_headers_on_success": names({"exact": "x-ok"}),
            },
        },
    }
