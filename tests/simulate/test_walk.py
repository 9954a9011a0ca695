"""The walk, stage by stage: what a request meets, how it ends, and which field decided."""

from __future__ import annotations

import pytest

from fairlead.simulate.answering import answer
from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.request import Caller, Request
from tests.simulate.meshes import BASE, call, failing, mesh, origins

VIRTUAL_SERVICE = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
"""
SUBSETS = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v9, labels: {version: v9}}]
"""


def policy(action: str, rules: str, kind: str = "AuthorizationPolicy", app: str = "reviews") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: {kind}
metadata: {{name: who, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  action: {action}
  rules: {rules}
"""


def strict(mode: str = "STRICT") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: mode, namespace: shop}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def test_a_call_reaches_the_application_over_mesh_mtls() -> None:
    found = call(mesh(), path="/reviews/1")
    assert found.verdict.reached
    assert (found.verdict.status, found.verdict.hop) == (200, "server")
    assert found.verdict.cluster == "outbound|80||reviews.shop.svc.cluster.local"
    assert found.verdict.endpoint == "10.0.0.2:9080"
    stages = [(one.hop, one.stage) for one in found.steps]
    assert ("client", "upstream tls") in stages
    assert ("server", "tls") in stages
    assert found.steps[-1].stage == "application"


def test_a_workload_without_a_sidecar_is_called_in_plaintext() -> None:
    found = call(mesh(), "legacy")
    assert found.verdict.reached
    assert next(one for one in found.steps if one.stage == "upstream tls").met == "plaintext"


def test_routes_by_header_and_weight_name_their_rule() -> None:
    where = mesh(
        SUBSETS,
        VIRTUAL_SERVICE
        + """
  http:
    - match: [{uri: {prefix: /admin}}, {headers: {x-user: {exact: ann}}}]
      route: [{destination: {host: reviews, subset: v2}}]
    - route:
        - {destination: {host: reviews, subset: v1}, weight: 80}
        - {destination: {host: reviews, subset: v2}, weight: 20}
""",
    )
    ann = call(where, headers=[("x-user", "ann")])
    assert ann.verdict.endpoint == "10.0.0.3:9080"
    chosen = next(one for one in ann.steps if one.stage == "route")
    assert origins(chosen)[0] == "VirtualService shop/reviews spec.http[0].match[1]"
    assert chosen.origins[0].position is not None
    others = call(where)
    assert others.verdict.cluster == "outbound|80|v1|reviews.shop.svc.cluster.local"
    assert any("20 % to outbound|80|v2" in one.said for one in others.steps)


def test_rules_that_another_one_shadows_are_named() -> None:
    rules = "  http: [{name: all, ROUTE}, {name: new, match: [{headers: {x-new: {exact: a}}}], ROUTE}]\n"
    where = mesh(VIRTUAL_SERVICE + rules.replace("ROUTE", "route: [{destination: {host: reviews}}]"))
    chosen = next(one for one in call(where, headers=[("x-new", "a")]).steps if one.stage == "route")
    assert chosen.said == "takes /*; never reached after it: new"


def test_a_rewrite_is_what_the_next_hop_sees() -> None:
    rules = "\n  http:\n    - match: [{uri: {prefix: /old}}]\n      rewrite: {uri: /new}\n"
    routed = VIRTUAL_SERVICE + rules + "      route: [{destination: {host: reviews}}]\n"
    denied = policy("DENY", "[{to: [{operation: {paths: [/new/*]}}]}]")
    found = call(mesh(routed, denied), path="/old/1?q=1")
    assert found.verdict.details == "rbac_access_denied_matched_policy[ns[shop]-policy[who]-rule[0]]"
    assert any("path /old/1?q=1 becomes /new/1?q=1" in one.said for one in found.steps)


@pytest.mark.parametrize(
    ("rule", "status", "flags", "details", "field"),
    [
        ("{directResponse: {status: 418}}", 418, "", "direct_response", "spec.http[0].directResponse"),
        ("{redirect: {uri: /there, redirectCode: 302}}", 302, "", "direct_response", "spec.http[0].redirect"),
        (
            "{fault: {abort: {httpStatus: 503, percentage: {value: 100}}}, route: [{destination: {host: reviews}}]}",
            503,
            "FI",
            "fault_filter_abort",
            "spec.http[0].fault",
        ),
        (
            "{route: [{destination: {host: reviews, subset: nope}}]}",
            503,
            "NC",
            "cluster_not_found",
            "spec.http[0].route[0].destination",
        ),
        ("{route: [{destination: {host: reviews, subset: v9}}]}", 503, "UH", "no_healthy_upstream", "spec.subsets[2]"),
        (
            "{match: [{uri: {exact: /x}}], route: [{destination: {host: reviews}}]}",
            404,
            "NR",
            "route_not_found",
            "spec.http[0].match[0]",
        ),
    ],
)
def test_how_a_route_can_end_a_request(rule: str, status: int, flags: str, details: str, field: str) -> None:
    found = call(mesh(SUBSETS, VIRTUAL_SERVICE + f"  http: [{rule}]\n"))
    assert (found.verdict.status, found.verdict.flags, found.verdict.details) == (status, flags, details)
    assert any(str(at.path) == field for one in found.steps[-2:] for at in one.origins), found.steps[-2:]


def test_chance_is_not_decided() -> None:
    rule = "{fault: {abort: {httpStatus: 500, percentage: {value: 30}}}, route: [{destination: {host: reviews}}]}"
    found = call(mesh(VIRTUAL_SERVICE + f"  http: [{rule}]\n"))
    assert found.verdict.reached
    assert found.verdict.undecided == ("30 % of requests are aborted with status 500",)


def test_an_allow_policy_lets_only_its_callers_pass() -> None:
    allowed = policy("ALLOW", "[{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]")
    where = mesh(allowed)
    assert call(where).verdict.reached
    other = call(where, caller="ledger")
    assert (other.verdict.status, other.verdict.hop) == (403, "server")
    assert other.verdict.details == "rbac_access_denied_matched_policy[none]"
    named = ["AuthorizationPolicy shop/who spec.rules[0].from", "AuthorizationPolicy shop/who"]
    assert origins(failing(other)) == named
    assert "`from`" in failing(other).said


def test_a_deny_policy_names_the_rule() -> None:
    denied = policy("DENY", "[{to: [{operation: {methods: [PUT]}}]}, {to: [{operation: {methods: [DELETE]}}]}]")
    found = call(mesh(denied), method="DELETE")
    assert found.verdict.details == "rbac_access_denied_matched_policy[ns[shop]-policy[who]-rule[1]]"
    assert origins(failing(found)) == ["AuthorizationPolicy shop/who spec.rules[1]"]


def test_plaintext_meets_strict() -> None:
    where = mesh(strict())
    outside = call(where, caller="plaintext", port=80)
    assert (outside.verdict.flags, outside.verdict.details) == ("NR", "filter_chain_not_found")
    assert origins(failing(outside)) == ["PeerAuthentication shop/mode spec.mtls.mode"]
    assert call(mesh(), caller="plaintext").verdict.reached
    # A DestinationRule that switches mTLS off for callers meets the same.
    plain = SUBSETS.replace("host: reviews\n", "host: reviews\n  trafficPolicy: {tls: {mode: DISABLE}}\n")
    inside = call(mesh(strict(), plain))
    assert (inside.verdict.status, inside.verdict.flags, inside.verdict.hop) == (503, "UC", "client")


def test_mtls_to_a_server_that_has_it_switched_off() -> None:
    forced = SUBSETS.replace("host: reviews\n", "host: reviews\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n")
    found = call(mesh(strict("DISABLE"), forced))
    assert (found.verdict.status, found.verdict.flags) == (503, "UF,URX")


def test_a_server_of_another_identity_is_not_taken() -> None:
    named = "  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://cluster.local/ns/x/sa/y]}}\n"
    found = call(mesh(SUBSETS.replace("host: reviews\n", "host: reviews\n" + named)))
    assert found.verdict.flags == "UF,URX"
    assert any("does not take" in one.said for one in found.steps)


JWT = """
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  jwtRules:
    - issuer: https://issuer.example
      audiences: [shop]
      jwks: >-
        {"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"BvzLBV0W7aiYJNiqEPIAs7HqXETcOPq2OnooSxTfCho",
        "y":"d8QRHMTLGKgZzhokOyUVQNptHR8XK9EI5mbId_4zXxw"}]}
"""


@pytest.mark.parametrize(
    ("asked", "status", "details"),
    [
        ({}, 403, "rbac_access_denied_matched_policy[none]"),
        ({"claims": {"iss": "https://issuer.example", "sub": "ann", "aud": "shop", "role": ["admin"]}}, 200, ""),
        ({"claims": {"iss": "https://issuer.example", "sub": "ann", "aud": "shop", "role": "user"}}, 403, "rbac"),
        ({"claims": {"iss": "https://other.example"}}, 401, "jwt_authn_access_denied{Jwt_issuer_is_not_configured}"),
        ({"claims": {"iss": "https://issuer.example", "aud": "x"}}, 403, "jwt_authn_access_denied{Audiences_in_Jwt"),
        ({"token_problem": "expired"}, 401, "jwt_authn_access_denied{Jwt_is_expired}"),
    ],
)
def test_tokens(asked: dict[str, object], status: int, details: str) -> None:
    wanted = policy("ALLOW", "[{when: [{key: 'request.auth.claims[role]', values: [admin]}]}]")
    found = call(mesh(JWT, wanted), **asked)
    assert found.verdict.status == status
    assert details in found.verdict.details


def test_an_authorizer_is_not_decided() -> None:
    settings = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
      - name: opa
        envoyExtAuthzGrpc: {service: ledger.shop.svc.cluster.local, port: 7000}
"""
    asked = policy("CUSTOM", "[{to: [{operation: {paths: [/admin*]}}]}]").replace(
        "  rules:", "  provider: {name: opa}\n  rules:"
    )
    where = mesh(settings, asked)
    assert call(where).verdict.undecided == ()
    assert call(where, path="/admin").verdict.undecided == ("external authorization by ledger.shop.svc.cluster.local",)


GATEWAY = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingress}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example], tls: {httpsRedirect: true}}
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [shop.example]
      tls: {mode: SIMPLE, credentialName: shop}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http: [{match: [{uri: {prefix: /reviews}}], route: [{destination: {host: reviews}}]}]
"""


def test_from_outside_through_a_gateway() -> None:
    where = mesh(GATEWAY)
    found = call(where, "shop.example", 443, "internet", tls=True, path="/reviews/1")
    assert found.verdict.reached
    assert [one.hop for one in found.steps if one.stage == "listener"] == ["gateway", "server"]
    assert call(where, "shop.example", 80, "internet").verdict.status == 301
    missed = call(where, "shop.example", 443, "internet", tls=True, path="/other")
    assert (missed.verdict.status, missed.verdict.flags) == (404, "NR")
    closed = call(where, "other.example", 443, "internet", tls=True)
    assert closed.verdict.details == "filter_chain_not_found"
    refused = call(where, "shop.example", 8443, "internet", tls=True)
    assert refused.verdict.details == "connection_refused"
    assert "only on 80, 443" in failing(refused).said
    assert origins(failing(refused)) == ["Gateway shop/edge"]


def test_from_outside_through_an_ingress() -> None:
    where = mesh(
        """
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: edge, namespace: shop, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  tls: [{hosts: [shop.example], secretName: cert}]
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /gone, pathType: Exact, backend: {service: {name: gone, port: {number: 80}}}}
      - {path: /reviews, pathType: Prefix, backend: {service: {name: reviews, port: {name: http}}}}
"""
    )
    for port, tls, listener in ((80, False, ""), (443, True, " spec.tls[0]")):
        found = call(where, "shop.example", port, "internet", tls=tls, path="/reviews/1")
        assert found.verdict.reached
        named = {one.stage: origins(one) for one in found.steps if one.hop == "gateway"}
        assert named["listener"] == [f"Ingress shop/edge{listener}"]
        assert named["route"] == ["Ingress shop/edge spec.rules[0].http.paths[1]"]
    lost = call(where, "shop.example", 80, "internet", path="/gone")
    assert origins(failing(lost)) == ["Ingress shop/edge spec.rules[0].http.paths[0]"]
    assert call(where, "shop.example", 80, "internet", path="/reviewsx").verdict.status == 404


def test_connections_that_are_no_http() -> None:
    where = mesh()
    assert call(where, "ledger", 7000, protocol="tcp").verdict.reached
    denied = mesh(policy("DENY", "[{from: [{source: {principals: ['*/sa/web']}}]}]", app="ledger"))
    found = call(denied, "ledger", 7000, protocol="tcp")
    assert found.verdict.details == "rbac_access_denied_matched_policy[ns[shop]-policy[who]-rule[0]]"
    assert call(denied, "ledger", 7000, "reviews-v1", protocol="tcp").verdict.reached


def test_hosts_outside_and_hidden_hosts() -> None:
    assert call(mesh(), "example.com").verdict.cluster == "PassthroughCluster"
    only = """
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: ["./reviews.shop.svc.cluster.local"]}]
"""
    where = mesh(only)
    assert call(where).verdict.reached
    outside = call(where, "example.com")
    assert not outside.verdict.reached
    assert origins(failing(outside)) == ["Sidecar shop/default spec.outboundTrafficPolicy"]
    hidden = call(where, "legacy")
    assert not hidden.verdict.reached
    assert "a host that the caller does not see" in hidden.steps[0].said


def test_what_a_port_is_declared_to_speak() -> None:
    """A rule for HTTP does nothing where the port's name says that it is TCP; the step names the port."""
    renamed = BASE.split("---")[6].replace("name: http, port: 80", "name: tcp-web, port: 80")
    rule = VIRTUAL_SERVICE.replace("reviews", "web") + "  http: [{directResponse: {status: 418}}]\n"
    assert call(mesh(rule), "web", caller="ledger").verdict.status == 418
    found = call(mesh("---" + renamed, rule), "web", caller="ledger")
    assert found.verdict.status == 200
    chain = next(one for one in found.steps if one.stage == "filter chain")
    assert chain.said.endswith("bytes are forwarded")
    assert origins(chain) == ["Service shop/web spec.ports[0]"]
    garbage = call(mesh(), protocol="tcp")
    assert not garbage.verdict.reached or "PassthroughFilterChain" in garbage.verdict.chain


def test_a_name_that_nobody_has() -> None:
    found = call(mesh(), "reveiws")
    assert (found.verdict.status, found.verdict.details) == (0, "name_not_found")
    assert "did the caller mean reviews?" in found.steps[0].said
    assert "did the caller mean reviews.shop?" in call(mesh(), "reveiws.shop").steps[0].said
    assert call(mesh(), "reviews.example").verdict.cluster == "PassthroughCluster"


def test_a_port_that_nobody_has() -> None:
    found = call(mesh(), port=8081)
    assert (found.verdict.status, found.verdict.flags) == (0, "UF")
    assert "has no port 8081, only 80" in failing(found).said
    assert origins(failing(found)) == ["Service shop/reviews"]


def test_a_call_to_the_port_of_redirection_goes_nowhere() -> None:
    found = call(mesh(), host="10.8.9.9", port=15006, protocol="tcp")
    assert (found.verdict.chain, found.verdict.cluster) == ("virtualInbound-blackhole", "BlackHoleCluster")
    assert not found.verdict.reached
    assert call(mesh(), host="10.8.9.9", port=15007, protocol="tcp").verdict.cluster == "PassthroughCluster"


def test_who_is_not_there_is_named() -> None:
    with pytest.raises(NobodyError, match=r"did you mean 'web\.shop'"):
        call(mesh(), caller="wep")
    with pytest.raises(NobodyError, match="no gateway"):
        call(mesh(), caller="internet")


PROCESS = """
---
apiVersion: fairlead.dev/v1alpha1
kind: Process
metadata: {name: front, namespace: shop, annotations: {fairlead.dev/on-demand: "true"}}
spec:
  command: [serve]
  capture: MODE
  labels: {app: front}
  serviceAccountName: front
  ports: [{name: http, port: 9080, appProtocol: http}]
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {app: front}, ports: [{name: http, port: 8000, targetPort: 9080}]}
"""


def test_an_application_that_uses_its_sidecar_as_http_proxy() -> None:
    where = mesh(PROCESS.replace("MODE", "explicit"))
    found = call(where, caller="front")
    assert found.verdict.reached
    assert "by HTTP_PROXY" in found.steps[0].said
    assert found.verdict.listener.endswith("_15002")
    assert call(where, "ledger", 7000, "front", protocol="tcp").verdict.listener.endswith("_7000")
    assert call(where, "front", 8000).steps[-1].proxy == "front-0.shop"
    assert call(where, "example.com", 80, "front").verdict.endpoint == "example.com:80"
    assert call(where, "reveiws", 80, "front").verdict.flags == "DF"


def test_clusters_that_a_proxy_asks_for() -> None:
    found = call(mesh(PROCESS.replace("MODE", "netns")), caller="front")
    assert found.verdict.reached
    assert any("the proxy asks for it" in one.said for one in found.steps)


def test_an_application_that_is_not_captured_calls_in_plaintext() -> None:
    where = mesh(PROCESS.replace("MODE", "none"), strict())
    assert call(where, caller="front").verdict.details == "filter_chain_not_found"
    assert call(where, "front", 8000).verdict.undecided


ENVOY_FILTER = """
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: odd, namespace: shop}
spec:
  configPatches:
    - applyTo: CLUSTER
      match: {context: SIDECAR_OUTBOUND, cluster: {name: none}}
      patch: {operation: MERGE, value: {connect_timeout: 7s}}
    - applyTo: HTTP_ROUTE
      match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: "80"}}
      patch:
        operation: INSERT_FIRST
        value: {name: closed, match: {prefix: /}, direct_response: {status: 503}}
"""


def test_what_a_patch_has_added_is_the_patch_s() -> None:
    where = mesh(ENVOY_FILTER)
    found = call(where)
    assert (found.verdict.status, found.verdict.details) == (503, "direct_response")
    assert origins(failing(found))[0].startswith("EnvoyFilter shop/odd")
    changes = answer(where, Caller("workload", "shop", "web"), Request("reviews", 80))["changes"]
    assert changes[0]["said"] == "remove EnvoyFilter shop/odd spec.configPatches[1]"


def test_a_secret_that_is_not_there() -> None:
    where = mesh(GATEWAY, complete=True)
    found = call(where, "shop.example", 443, "internet", tls=True, path="/reviews/1")
    assert found.verdict.details == "tls_handshake"
    assert "there is no Secret shop" in failing(found).said
    assert origins(failing(found)) == ["Gateway shop/edge spec.servers[1]"]


def test_instances_that_are_not_healthy_are_named() -> None:
    sick = (
        BASE.split("---")[3]
        .replace("metadata: {", "metadata: {annotations: {A}, ")
        .replace("{A}", '{proxy.istio.io/health-checks-enabled: "true"}')
    )
    found = call(mesh("---" + sick), "ledger", 7000, protocol="tcp")
    assert found.verdict.flags == "UH"
    assert "unhealthy: ledger" in failing(found).said
    assert origins(failing(found))[0] == "WorkloadEntry shop/ledger"
