"""RateLimit: goldens, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from lowering import check, inputs

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.registry import registry
from fairlead.envoy.resource import LISTENER
from fairlead.ir.view import View
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents

HEAD = "apiVersion: fairlead.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: a}\nspec: "
LIMIT = "name: a, requests: 1, unit: SECOND"


@pytest.mark.parametrize("path", inputs("ratelimit"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("{}", "spec.limits"),
        (f"{{limits: [{{{LIMIT}}}, {{{LIMIT}}}]}}", "spec.limits[1].name"),
        ("{limits: [{name: a, requests: 0, unit: SECOND}]}", "spec.limits[0].requests"),
        ("{limits: [{name: a, requests: 1, unit: WEEK}]}", "spec.limits[0].unit"),
        (f"{{limits: [{{{LIMIT}, per: [{{}}]}}]}}", "spec.limits[0].per[0]"),
        (f"{{limits: [{{{LIMIT}, per: [{{header: a, query: b}}]}}]}}", "spec.limits[0].per[0]"),
        (f"{{limits: [{{{LIMIT}, per: [{{header: 'a b'}}]}}]}}", "spec.limits[0].per[0].header"),
        (f"{{limits: [{{{LIMIT}, when: {{paths: ['/a*b']}}}}]}}", "spec.limits[0].when.paths[0]"),
        (f"{{limits: [{{{LIMIT}, when: {{methods: [get]}}}}]}}", "spec.limits[0].when.methods[0]"),
        ("{global: {host: a.b, port: 1, domain: d, descriptors: []}}", "spec.global.descriptors"),
        (
            "{global: {host: a.b, port: 1, domain: d, timeout: soon, descriptors: [{name: a}]}}",
            "spec.global.timeout",
        ),
        ("{global: {host: a, port: 1, domain: d, descriptors: [{name: a}]}}", "spec.global.host"),
    ],
)
def test_refused(spec: str, field: str) -> None:
    manifest = next(iter(parse_documents(HEAD + spec, "")))
    _, found = registry().read(manifest.data)
    assert field in [str(one.path) for one in found if one.severity is Severity.ERROR]


SERVED = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: web, namespace: shop}}
spec: {{address: 10.0.0.1, labels: {{app: web}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: limits, namespace: infra, annotations: {{networking.istio.io/exportTo: "{shown}"}}}}
spec: {{ports: [{{name: {name}, port: 8081}}]}}
---
apiVersion: fairlead.dev/v1alpha1
kind: RateLimit
metadata: {{name: all, namespace: shop}}
spec: {{global: {{host: {host}.infra.svc.cluster.local, port: {port}, domain: d, descriptors: [{{name: a}}]}}}}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"shown": "shop"}, ""),
        ({"shown": "."}, "is not exported to namespace shop"),
        ({"host": "gone"}, "there is no host 'gone.infra.svc.cluster.local'"),
        ({"port": 80}, "has no port 80"),
        ({"name": "http"}, "is not known as gRPC"),
    ],
)
def test_a_server_that_cannot_be_asked_is_told(change: dict[str, object], said: str) -> None:
    text = SERVED.format(**{"shown": "*", "host": "limits", "port": 8081, "name": "grpc", **change})
    model = MeshModel()
    assert not [one for one in load(model, parse_documents(text)) if one.severity is Severity.ERROR]
    view = View("sidecar", "shop", (("app", "web"),), addresses=("10.0.0.1",), capture=Capture("redirect"))
    with model.opened(view) as catalog:
        asks = b"http.ratelimit.v3.RateLimit" in catalog[LISTENER]["virtualInbound"].body
        found = [one.message for one in model.diagnostics() if one.code == "FL2410"]
    assert asks == (said == "")
    assert len(found) == bool(said)
    assert all(said in one for one in found)
