"""Istio's own validation cases for VirtualService, DestinationRule and Gateway.

FAIRLEAD_CONFORMANCE_DIR names the folder of cases that were taken from other implementations, by default
`../shared/conformance` beside the repository. A case is a message, either a whole resource or a part of one, which is
put into a resource that is valid otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity
from fairlead.model.findings import NO_EFFECT

Case = dict[str, Any]
KINDS = ("VirtualService", "DestinationRule", "Gateway")
CASES = Path(
    os.environ.get("FAIRLEAD_CONFORMANCE_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "conformance")
)
SUITE = CASES / "istio-validation" / "suite.json"
EXPECTED = {
    "TestValidateHTTPRoute/null header match": "a null match became {} in the case, which asks for presence",
    "TestValidateRootHTTPRoute/null header match": "a null match became {} in the case, which asks for presence",
    "TestValidateDelegateHTTPRoute/null header match": "a null match became {} in the case, which asks for presence",
    "TestValidateK8sGateway/happy k8s gateway-api server with no attached routes": "an internal form of Istio's own",
}
"""Cases that are decided otherwise, and why. The list only shrinks."""


def _resource(kind: str, spec: Case) -> Case:
    meta = {"name": "foo", "namespace": "bar"}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def _rule(**fields: Any) -> Case:
    return _resource("VirtualService", {"hosts": ["foo.bar"], "http": [fields]})


def _routed(**fields: Any) -> Case:
    return _rule(**{"route": [{"destination": {"host": "foo.baz"}}], **fields})


def _policy(policy: Case) -> Case:
    return _resource("DestinationRule", {"host": "reviews", "trafficPolicy": policy})


def _server(**fields: Any) -> Case:
    port = {"number": 443, "protocol": "HTTPS", "name": "https"}
    return _resource("Gateway", {"servers": [{"hosts": ["foo.bar.com"], "port": port, **fields}]})


WRAP: dict[str, Callable[[Case], Case]] = {
    "Server": lambda part: _resource("Gateway", {"servers": [part]}),
    "Port": lambda part: _server(port=part),
    "ServerTLSSettings": lambda part: _server(tls=part),
    "CorsPolicy": lambda part: _routed(corsPolicy=part),
    "HTTPFaultInjection.Abort": lambda part: _routed(fault={"abort": part}),
    "HTTPFaultInjection.Delay": lambda part: _routed(fault={"delay": part}),
    "HTTPRetry": lambda part: _routed(retries=part),
    "HTTPRewrite": lambda part: _routed(rewrite=part),
    "RegexRewrite": lambda part: _routed(rewrite={"uriRegexRewrite": part}),
    "HTTPRedirect": lambda part: _rule(redirect=part),
    "HTTPDirectResponse": lambda part: _rule(directResponse=part),
    "Destination": lambda part: _rule(route=[{"destination": part}]),
    "HTTPRoute": lambda part: _rule(**part),
    "TrafficPolicy": _policy,
    "ConnectionPoolSettings": lambda part: _policy({"connectionPool": part}),
    "LoadBalancerSettings": lambda part: _policy({"loadBalancer": part}),
    "OutlierDetection": lambda part: _policy({"outlierDetection": part}),
}


def _cases() -> list[Any]:
    if not SUITE.is_file():
        return [pytest.param({}, {}, marks=pytest.mark.skip(reason=f"no conformance cases at {SUITE}"))]
    loaded: Case = json.loads(SUITE.read_text())
    found: list[Any] = []
    for case in (*loaded["cases"], *loaded["crd"]):
        wrap = WRAP.get(str(case.get("message", "")).rpartition("v1alpha3.")[2])
        resource = case.get("resource") or (wrap(case["spec"]) if wrap else {"kind": ""})
        if case.get("test") == "TestValidateDelegateHTTPRoute":
            del resource["spec"]["hosts"]
        if resource["kind"] in KINDS:
            reason = EXPECTED.get(case["id"])
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            found.append(pytest.param(resource, case["expect"], id=case["id"], marks=marks))
    return found


@pytest.mark.parametrize(("resource", "expect"), _cases())
def test_case(resource: Case, expect: Case) -> None:
    _, found = registry().read(resource)
    told = [f"{one.path}: {one.message}" for one in found]
    errors = [one for one in found if one.severity is Severity.ERROR]
    assert expect["valid"] == (not errors), told
    if not errors and "warning" in expect:
        # What Istio acts on and Fairlead does not yet is a warning that Istio cannot have.
        warnings = [one for one in found if one.code != NO_EFFECT]
        assert expect["warning"] == bool(warnings), told
