"""Connections that capture rules leave alone: by port, network and user, at the caller and at the called workload."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.cli.offlinemesh import load_mesh
from fairlead.model.yaml import parse_documents
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.walk import Walk
from fairlead.simulate.walker import walk
from tests.simulate.meshes import BASE, origins
from tests.simulate.test_walk import policy, strict

_TRAFFIC = "traffic.sidecar.istio.io"
_DENIED = policy("DENY", "[{}]")


def annotated(name: str, **said: str) -> str:
    """The base mesh, with annotations on one workload."""
    listed = ", ".join(f"{_TRAFFIC}/{key}: '{value}'" for key, value in said.items())
    meta = f"metadata: {{name: {name}, namespace: shop"
    assert BASE.count(f"{meta}}}\nspec: {{address") == 1
    return BASE.replace(f"{meta}}}\nspec: {{address", f"{meta}, annotations: {{{listed}}}}}\nspec: {{address")


def walked(text: str, user: str = "", host: str = "reviews", **asked: Any) -> Walk:
    documents = "---".join((text, ABORTED))
    where = load_mesh(list(parse_documents(documents)), [], "default")
    return walk(where, Caller("workload", "shop", "web", user=user), Request(host, asked.pop("port", 80), **asked))


ABORTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http: [{fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: reviews}}]}]
"""

OUTBOUND: list[tuple[dict[str, str], str, dict[str, Any], str]] = [
    ({"excludeOutboundPorts": "8080,80"}, "", {}, "port 80 is excluded from capture"),
    ({"excludeOutboundPorts": "8080"}, "", {}, ""),
    ({"excludeOutboundIPRanges": "10.96.0.0/11"}, "", {}, "is in 10.96.0.0/11, excluded from capture"),
    ({"excludeOutboundIPRanges": "10.0.0.0/24"}, "", {}, ""),
    ({"excludeOutboundIPRanges": "10.0.0.2/32"}, "", {"host": "10.0.0.2", "port": 9080}, "is in 10.0.0.2/32"),
    ({"includeOutboundIPRanges": "10.0.0.0/24"}, "", {}, "is outside of what is captured (10.0.0.0/24)"),
    ({"includeOutboundIPRanges": "10.96.0.0/11"}, "", {}, ""),
    ({"includeOutboundIPRanges": "10.0.0.0/24", "includeOutboundPorts": "80"}, "", {}, ""),
    ({"includeOutboundIPRanges": ""}, "", {}, "is outside of what is captured (nothing)"),
    ({"excludeOutboundPorts": "81"}, "1337", {}, "runs as user 1337"),
    ({"excludeOutboundPorts": "81"}, "1000", {}, ""),
]


@pytest.mark.parametrize(("said", "user", "asked", "why"), OUTBOUND)
def test_what_the_caller_sends(said: dict[str, str], user: str, asked: dict[str, Any], why: str) -> None:
    found = walked(annotated("web", **said), user, **asked)
    first = found.steps[0]
    if not why:
        assert found.verdict.status == 418, "the caller's proxy has the rule"
        return
    assert why in first.said
    assert not any(step.hop == "client" and step.stage != "capture" for step in found.steps), "its proxy sees nothing"
    assert found.verdict.reached
    if not user:
        (annotation,) = [one for one in said if f"{one}" in str(origins(first))]
        assert origins(first) == [f"WorkloadEntry shop/web metadata.annotations[{_TRAFFIC}/{annotation}]"]


def test_plaintext_past_the_proxy_meets_strict_mtls() -> None:
    found = walked(annotated("web", excludeOutboundPorts="80") + strict())
    assert found.verdict.details == "filter_chain_not_found"


def test_an_address_that_only_dns_knows_is_not_decided() -> None:
    found = walked(annotated("web", excludeOutboundIPRanges="10.0.0.0/8"), host="api.example")
    assert any("only DNS knows" in one for one in found.verdict.undecided)
    assert walked(annotated("web", excludeOutboundPorts="81"), host="api.example").verdict.undecided == ()


def test_a_port_that_the_called_workload_does_not_capture() -> None:
    plain = {"excludeInboundPorts": "9080"}
    for said in (plain, {"includeInboundPorts": "9090"}):
        text = annotated("reviews-v1", **said)
        where = mesh_of(text + _DENIED)
        calls = walk(where, Caller("workload", "shop", "legacy-caller"), Request("reviews", 80), "10.0.0.2:9080")
        failed = next(step for step in calls.steps if not step.passed)
        assert "itself gets mesh mTLS" in failed.said
        (annotation,) = said
        assert origins(failed) == [f"WorkloadEntry shop/reviews-v1 metadata.annotations[{_TRAFFIC}/{annotation}]"]
        assert (calls.verdict.status, calls.verdict.flags) == (503, "UF,URX")
        past = walk(where, Caller("plaintext", "shop"), Request("10.0.0.2", 9080))
        assert past.verdict.reached, "no policy of the proxy is asked"
        other = walk(where, Caller("plaintext", "shop"), Request("10.0.0.3", 9080))
        assert other.verdict.status == 403


def mesh_of(text: str) -> Any:
    caller = """
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: legacy-caller, namespace: shop}
spec: {address: 10.0.0.9, labels: {app: caller}, serviceAccount: web}
"""
    return load_mesh(list(parse_documents(text + caller)), [], "default")


def test_pods_of_files_have_their_annotations() -> None:
    pod = f"""
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: pod, namespace: shop}}
spec:
  template:
    metadata: {{labels: {{app: pod}}, annotations: {{{_TRAFFIC}/excludeOutboundPorts: "80"}}}}
    spec: {{containers: [{{name: pod, image: pod}}]}}
"""
    where = load_mesh(list(parse_documents(BASE + pod)), [], "default")
    found = walk(where, Caller("workload", "shop", "pod"), Request("reviews", 80))
    assert "port 80 is excluded from capture" in found.steps[0].said


def test_what_says_nothing_is_as_before() -> None:
    assert walked(BASE).verdict.status == 418
