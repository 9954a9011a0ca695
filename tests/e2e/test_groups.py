"""WorkloadGroup and ProxyConfig: a member joins by itself, is called, fails its probe, recovers, vanishes or leaves."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from pathlib import Path

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap, ClusterManager

from fairlead.model.launch import BootstrapPatch
from fairlead.model.probe import HTTPGet, Probe
from tests.e2e.apps import App
from tests.e2e.conftest import World
from tests.e2e.mesh import Json, Process, Workload, eventually
from tests.loopback import network

GROUP = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: member, namespace: app}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: member, namespace: app}
spec:
  template: {serviceAccount: member, labels: {app: member}, ports: {http: 18080}}
  probe: {periodSeconds: 1, failureThreshold: 1, httpGet: {port: 18080, path: /healthz}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: member, namespace: app}
spec:
  selector: {matchLabels: {app: member}}
  concurrency: 2
  environmentVariables: {ISTIO_META_TIER: members}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: start, namespace: app}
spec:
  workloadSelector: {labels: {app: member}}
  configPatches:
  - applyTo: BOOTSTRAP
    match: {proxy: {metadata: {TIER: members}}}
    patch: {operation: MERGE, value: {stats_flush_interval: 7s}}
  - applyTo: BOOTSTRAP
    match: {proxy: {metadata: {TIER: others}}}
    patch: {operation: MERGE, value: {stats_flush_interval: 9s}}
---
apiVersion: v1
kind: Service
metadata: {name: member, namespace: app}
spec:
  selector: {app: member}
  ports: [{name: http, port: 18080}]
"""
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('content-length', '0'); self.send_header('x-instance', 'run')
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer((os.environ['HOST'], 18080), Handler).serve_forever()
"""


def entries(world: World) -> dict[str, Json]:
    found = world.mesh.plane.api.request("GET", "/apis/networking.istio.io/v1/namespaces/app/workloadentries")
    return {one["spec"]["address"]: one for one in found["items"] if one["metadata"]["name"].startswith("member-")}


def findings(world: World) -> list[str]:
    return world.mesh.plane.api.request("GET", "/fairlead/v1/diagnostics")["diagnostics"]


def condition(entry: Json) -> str:
    return next(one["status"] for one in entry["status"]["conditions"] if one["type"] == "Healthy")


def test_a_member_registers_is_called_fails_recovers_and_vanishes(world: World) -> None:
    probe = Probe(http_get=HTTPGet(18080, "/healthz"), period_seconds=0.2, failure_threshold=1)
    with world.mesh.config(GROUP):
        # Envoy refuses this bootstrap; the proxy starts without the change, and says so.
        broken = Bootstrap(cluster_manager=ClusterManager(local_cluster_name="nowhere")).SerializeToString()
        member = world.mesh.add(
            "vm",
            service_account="member",
            entry="",
            workload_group="member",
            labels={"app": "member"},
            readiness=probe,
            bootstrap=(BootstrapPatch(broken, "EnvoyFilter app/broken"),),
        )
        app = App("vm", member.app).serve_http(18080)
        try:
            member.join()
            member.start()
            _serves_while_it_passes(world, member, app)
            member.stop(signal.SIGKILL)
            assert member.address in entries(world)
            eventually(lambda: member.address not in entries(world), "its entry ends after the time of grace")
        finally:
            member.stop()
            app.close()
            del world.mesh.workloads["vm"]


def _serves_while_it_passes(world: World, member: Workload, app: App) -> None:
    found = eventually(lambda: (one := world.client.get("member:18080")).status == 200 and one, "the member answers")
    assert found.instance == "vm"
    assert "By=spiffe://cluster.local/ns/app/sa/member" in found.body["headers"]["x-forwarded-client-cert"]
    eventually(lambda: any("FL2403" in one and "nowhere" in one for one in findings(world)), "what Envoy refused")
    entry = entries(world)[member.address]
    assert entry["metadata"]["ownerReferences"][0]["name"] == "member" and condition(entry) == "True"
    app.healthy = False
    eventually(lambda: world.client.get("member:18080").status == 503, "nobody is called")
    seen = len(app.seen)
    assert world.client.get("member:18080").status == 503 and len(app.seen) == seen
    assert condition(entries(world)[member.address]) == "False"
    app.healthy = True
    eventually(lambda: world.client.get("member:18080").instance == "vm", "it has recovered")
    group = next(one for one in world.mesh.documents(GROUP) if one["kind"] == "WorkloadGroup")
    world.mesh.plane.api.delete(group)
    eventually(lambda: not entries(world), "the group takes its entries along")
    assert any("FL3301" in one and member.name in one for one in findings(world)), findings(world)
    world.mesh.plane.api.apply(group)
    eventually(lambda: world.client.get("member:18080").instance == "vm", "it is there again")


def test_run_joins_a_group_and_its_proxy_starts_as_proxyconfig_says(world: World, tmp_path: Path) -> None:
    state = world.mesh.plane.state
    command = [sys.executable, "-m", "fairlead.cli.main", "run", "--state", str(state), "-n", "app"]
    command += ["--loopback", f"{network()}.0.0/16", "--workload-group", "member"]
    command += ["--capture", "explicit", "--", sys.executable, "-c", SERVER]
    with world.mesh.config(GROUP):
        process = Process(command, tmp_path / "run.log")
        try:
            eventually(lambda: world.client.get("member:18080").instance == "run", "it answers", 40)
            assert len(entries(world)) == 1
            sockets = list((state / "node" / "app").glob("member-*/agent.sock"))
            info = json.loads(_ask(sockets[0], "/server_info"))
            assert info["command_line_options"]["concurrency"] == 2
            assert info["node"]["metadata"]["TIER"] == "members"
            dump = json.loads(_ask(sockets[0], "/config_dump"))["configs"]
            assert [one["bootstrap"]["stats_flush_interval"] for one in dump if "bootstrap" in one] == ["7s"]
        finally:
            process.stop()
        eventually(lambda: not entries(world), "it is gone")


def _ask(path: Path, target: str) -> str:
    link = http.client.HTTPConnection("agent", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(os.path.relpath(path) if len(os.fsencode(path)) > 100 else str(path))
    try:
        link.request("GET", target)
        return link.getresponse().read().decode()
    finally:
        link.close()
