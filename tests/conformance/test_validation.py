"""istio-validation: which objects are accepted, refused, or accepted with a warning.

A case is a message, either a whole resource or a part of one, which is put into a resource that is valid otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity
from fairlead.model.findings import NO_EFFECT
from tests.conformance.suites import Case, parameters

SUITE = "istio-validation"


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


def _telemetry(spec: Case) -> Case:
    return {**_resource("Telemetry", spec), "apiVersion": "telemetry.istio.io/v1"}


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
    "TLSRoute": lambda part: _resource("VirtualService", {"hosts": ["foo.bar"], "tls": [part]}),
    "TCPRoute": lambda part: _resource("VirtualService", {"hosts": ["foo.bar"], "tcp": [part]}),
    "HTTPMatchRequest": lambda part: _routed(match=[part]),
    "Headers": lambda part: _routed(headers=part),
    "HTTPRoute": lambda part: _rule(**part),
    "Subset": lambda part: _resource("DestinationRule", {"host": "reviews", "subsets": [part]}),
    "TrafficPolicy": _policy,
    "ConnectionPoolSettings": lambda part: _policy({"connectionPool": part}),
    "LoadBalancerSettings": lambda part: _policy({"loadBalancer": part}),
    "ClientTLSSettings": lambda part: _policy({"tls": part}),
    "AccessLogging.Filter": lambda part: _telemetry({"accessLogging": [{"filter": part}]}),
    "OutlierDetection": lambda part: _policy({"outlierDetection": part}),
}


def cases(suite: Case) -> Iterator[Case]:
    """Every row with its resource; {} where this project has no object of which the message is a part."""
    for case in (*suite["cases"], *suite["crd"]):
        wrap = WRAP.get(re.sub(r"^.*\.v\d\w*\.", "", case.get("message", "")))
        resource = case.get("resource") or (wrap(case["spec"]) if wrap else {})
        if case.get("test") == "TestValidateDelegateHTTPRoute":
            # A rule set that others delegate to has no hosts of its own.
            resource = {**resource, "spec": {name: one for name, one in resource["spec"].items() if name != "hosts"}}
        yield {**case, "resource": resource}


@pytest.mark.suite(SUITE)
@pytest.mark.parametrize("case", parameters(SUITE, SUITE, cases))
def test_object(case: Any) -> None:
    resource, expect = case["resource"], case["expect"]
    if not resource or not any(one.kind == resource["kind"] for one in registry().kinds):
        pytest.skip(f"{resource.get('kind') or case['message']} is not served")
    obj, found = registry().read(resource)
    told = [f"{one.path}: {one.message}" for one in found]
    assert expect["valid"] == (obj is not None), told
    if obj is not None and "warning" in expect:
        # What Istio acts on and Fairlead does not yet is a warning that Istio cannot have.
        warnings = [one for one in found if one.severity is Severity.WARNING and one.code != NO_EFFECT]
        assert expect["warning"] == bool(warnings), told
