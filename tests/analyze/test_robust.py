"""No document makes an analyzer fail: whatever stands in place of what was expected counts as absent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.analyze.analysis import Analysis, reference
from fairlead.analyze.analyzer import analyzers
from fairlead.model.yaml import parse_documents
from tests.conformance.suites import DIRECTORY

_WRONG = st.sampled_from([None, 0, -1, 1.5, True, "", "x", "*", "a/b/c", [], ["x"], [None], {}, {"x": 1}, [[]], "[::1"])


def _samples() -> list[dict[str, Any]]:
    """One document of every kind that an analyzer looks at, rich in fields, and one of a kind that none knows."""
    found = [dict(one.data) for one in parse_documents(_TEXT)]
    for path in sorted((DIRECTORY / "istio-analyze" / "inputs" / "testdata").glob("*.yaml")):
        found.extend(one.data for one in parse_documents(path.read_bytes()) if len(path.read_bytes()) < 20_000)
    return found


_TEXT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, annotations: {galley.istio.io/analyze-suppress: IST0101}}
spec:
  hosts: [a]
  gateways: [mesh, g]
  exportTo: ["."]
  http:
    - match: [{uri: {prefix: /x}, headers: {"@request.auth.claims.x": {exact: y}}}]
      timeout: 1s
      retries: {attempts: 3, perTryTimeout: 1s}
      route: [{destination: {host: b, subset: v1, port: {number: 80}}}]
      mirrors: [{destination: {host: c}}]
  tls: [{match: [{sniHosts: [a]}], route: [{destination: {host: b}}]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec: {selector: {app: g}, servers: [{port: {number: 443, protocol: HTTPS}, tls: {credentialName: s}, hosts: ["./a"]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b}
spec:
  host: b
  trafficPolicy:
    tls: {mode: DISABLE, credentialName: s}
    portLevelSettings: [{port: {number: 1}, tls: {mode: SIMPLE}}]
  subsets: [{name: v1, labels: {v: "1"}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e, labels: {kubernetes.io/service-name: a}}
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]
ports: [{name: http, port: 1}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: c}
spec: {controller: istio.io/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  ingressClassName: c
  tls: [{hosts: [a.b], secretName: s}]
  rules: [{host: a.b, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 1}}}}]}}]
---
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {tls.crt: eA==, tls.key: eA==}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s}
spec:
  workloadSelector: {labels: {app: a}}
  egress: [{hosts: ["./*"]}]
  outboundTrafficPolicy: {egressProxy: {host: x}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec:
  selector: {matchLabels: {app: a}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/a/sa/b], requestPrincipals: [i/s], namespaces: [n*]}}]
      to: [{operation: {paths: [/x]}}]
      when: [{key: "request.auth.claims[x]", values: [y]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: p}
spec: {jwtRules: [{issuer: i}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: a-1}
spec: {address: 10.0.0.1, labels: {app: a}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Process
metadata: {name: b}
spec: {labels: {app: b}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "rootNamespace: x", meshNetworks: "networks: {n: {endpoints: [{fromRegistry: z}]}}"}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: x, annotations: {gateway.networking.k8s.io/bundle-version: v0.8.0}}
spec: {group: gateway.networking.k8s.io, names: {kind: Gateway}}
---
apiVersion: what.istio.io/v1
kind: Ever
metadata: {name: x}
status: {conditions: [{type: Ready, status: "False"}]}
"""
SAMPLES = _samples()


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in _places(one, (*path, key)))]


def _with(value: Any, path: tuple[str | int, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    if isinstance(value, dict):
        return {key: _with(one, path[1:], wrong) if key == path[0] else one for key, one in value.items()}
    return [_with(one, path[1:], wrong) if at == path[0] else one for at, one in enumerate(value)]


@st.composite
def mangled(draw: st.DrawFn) -> dict[str, Any]:
    one = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(0, 3))):
        places = [place for place in _places(one) if place and place != ("kind",)]
        one = _with(one, draw(st.sampled_from(places)), draw(_WRONG))
    return one


def test_every_kind_is_among_the_samples() -> None:
    if not DIRECTORY.is_dir():
        pytest.skip("without the conformance cases there are fewer")
    met = {(ref.group, ref.kind) for ref in map(reference, SAMPLES)}
    asked = {sort for one in analyzers() for sort in one.sorts}
    missing = asked - met - {("", "Node"), ("mesh.istio.io", "MeshNetworks")}
    assert len(missing) < 8, missing


@settings(max_examples=150, deadline=None)
@given(st.lists(mangled(), min_size=1, max_size=6))
def test_no_document_makes_an_analyzer_fail(documents: list[dict[str, Any]]) -> None:
    analysis = Analysis(1_700_000_000.0)
    analysis.apply({reference(one): one for one in (*SAMPLES[:14], *documents)})
    failed = [one.finding.message for one in analysis.found() if one.finding.code == "IST0001"]
    assert not failed
