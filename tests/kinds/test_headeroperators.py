"""Values of headers in VirtualServices: what Envoy does not take is refused before it costs it all its routes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fairlead.agent.proxy import find_envoy
from fairlead.compiler.registry import registry
from fairlead.ir.logformat import HEADER_OPERATORS
from fairlead.model.diagnostic import Severity

ARGUMENTS = {
    **dict.fromkeys(("CEL", "CLUSTER_METADATA", "DYNAMIC_METADATA", "ENVIRONMENT", "FILTER_STATE"), "(x)"),
    **dict.fromkeys(("PER_REQUEST_STATE", "QUERY_PARAM", "REQ", "RESP", "TRAILER", "UPSTREAM_FILTER_STATE"), "(x)"),
    "UPSTREAM_METADATA": "(x)",
    "COMMON_DURATION": "(DS_RX_BEG:DS_RX_END)",
    "COALESCE": '({"operators": ["REQUESTED_SERVER_NAME", {"command": "REQ", "param": "x"}]})',
    "METADATA": "(ROUTE:x)",
}
"""What operators must be given."""


def takes(path: Path, values: list[str]) -> bool:
    """Whether an Envoy takes routes that set headers to these."""
    kind = "type.googleapis.com/envoy.extensions.filters"
    added = [{"header": {"key": f"x-{at}", "value": value}} for at, value in enumerate(values)]
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}, "request_headers_to_add": added}
    router = {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [route]}]},
    }
    listener = {
        "name": "x",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    path.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    command = [find_envoy(""), "--mode", "validate", "-c", str(path), "--log-level", "off"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def problems(value: str) -> list[tuple[str, str]]:
    document: dict[str, Any] = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {
            "hosts": ["a"],
            "http": [{"route": [{"destination": {"host": "a"}}], "headers": {"request": {"set": {"x-a": value}}}}],
        },
    }
    _, found = registry().read(document)
    return [(str(one.path), one.message) for one in found if one.severity is Severity.ERROR]


def test_envoy_takes_all_that_are_taken(tmp_path: Path) -> None:
    values = [f"%{name}{ARGUMENTS.get(name, '')}%" for name in sorted(HEADER_OPERATORS)]
    assert takes(tmp_path / "all.json", values)


@pytest.mark.parametrize("value", ["%NOPE%", "a %DOWNSTREAM_REMOTE_ADRESS% b", "%REQ_WITHOUT_QUERY(:PATH)%", "%lower%"])
def test_what_envoy_refuses_is_refused_with_its_place(tmp_path: Path, value: str) -> None:
    assert not takes(tmp_path / "one.json", [value])
    assert [path for path, _ in problems(value)] == ["spec.http[0].headers.request.set.x-a"]


@pytest.mark.parametrize("value", ["100%%", "%REQ(x-a)% and %START_TIME%", "%DOWNSTREAM_PEER_URI_SAN%", "plain"])
def test_what_envoy_takes_is_taken(tmp_path: Path, value: str) -> None:
    assert takes(tmp_path / "one.json", [value])
    assert problems(value) == []
