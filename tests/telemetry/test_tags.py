"""Envoy's own statistics under the bootstrap's tags: one family for all clusters, and one for all listeners."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fairlead.agent.bootstrap import bootstrap
from fairlead.agent.proxy import find_envoy
from fairlead.envoy.hcm import inbound_stat_prefix, outbound_stat_prefix
from fairlead.envoy.names import stat_name
from fairlead.model.launch import AgentConfig
from tests.loopback import free_port

pytestmark = pytest.mark.e2e

TYPES = "type.googleapis.com/envoy.extensions.filters"
CLUSTERS = (
    "outbound|9080|v1|reviews.shop.svc.cluster.local",
    "outbound|443||api.example.com",
    "outbound|443||*.example.com",
    "inbound|8080||",
    "http_proxy|9080||",
    "PassthroughCluster",
)
MANAGERS = {
    outbound_stat_prefix("0.0.0.0_9080"): "outbound_0.0.0.0_9080",
    inbound_stat_prefix("0.0.0.0_9080"): "inbound_0.0.0.0_9080",
    stat_name("InboundPassthroughCluster"): "InboundPassthroughCluster",
    "https": "https",
}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listener(prefix: str) -> dict[str, Any]:
    router = {"@type": f"{TYPES}.http.router.v3.Router"}
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": prefix,
        "route_config": {"name": "none"},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    hcm = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"name": prefix, "address": address(free_port()), "filter_chains": [{"filters": [hcm]}]}


def test_names_become_tags(tmp_path: Path) -> None:
    config = AgentConfig("web", "shop", "web", str(tmp_path), "127.0.0.1:1", "127.0.0.1:2", str(tmp_path / "root"))
    admin = free_port()
    file = tmp_path / "envoy.json"
    clusters = [{"name": name, "alt_stat_name": stat_name(name), "type": "STATIC"} for name in CLUSTERS]
    clusters.append({"name": "BlackHoleCluster", "type": "STATIC"})
    file.write_text(
        json.dumps(
            {
                "admin": {"address": address(admin)},
                "stats_config": bootstrap(config)["stats_config"],
                "static_resources": {"clusters": clusters, "listeners": [listener(prefix) for prefix in MANAGERS]},
            }
        )
    )
    command = [find_envoy(""), "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
    process = subprocess.Popen(command)
    try:
        page = _page(process, admin)
    finally:
        process.kill()
        process.wait()
    found = set(re.findall(r'envoy_cluster_membership_total\{cluster_name="(.*)"\}', page))
    assert found == {*CLUSTERS, "BlackHoleCluster"}
    seen = set(re.findall(r'envoy_http_downstream_rq_active\{http_conn_manager_prefix="(.*)"\}', page))
    assert seen == {*MANAGERS.values(), "admin"}


def _page(process: subprocess.Popen[bytes], admin: int) -> str:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "Envoy ended"
        assert time.monotonic() < deadline, "Envoy does not answer"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/stats/prometheus", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.05)
