"""Two real Envoys with mutual TLS between them: Istio's metrics count to the request on both sides."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf import json_format

from fairlead.agent import http
from fairlead.envoy import stats
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, LISTENER
from fairlead.envoy.statlabels import LABELS, Reporter
from tests.agent.world import (
    AgentProcess,
    Authority,
    ControlPlane,
    cluster,
    config,
    http_listener,
    opener,
    running,
    tls,
    until,
)
from tests.agent.world import T as TYPES
from tests.loopback import free_port

pytestmark = pytest.mark.e2e

APP = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = repr(sorted(k.lower() for k in self.headers)).encode()
        self.send_response(int(self.path.strip("/") or 200))
        if "x-ask-grpc" in self.headers:
            self.send_header("grpc-status", "5"); self.send_header("content-type", "application/grpc")
        self.send_header("x-fairlead-peer", "forged")
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""
WEB: dict[str, Any] = {"workload_name": "web-v1", "labels": {"app": "web", "version": "v1"}}
REVIEWS: dict[str, Any] = {"workload_name": "reviews-v2", "labels": {"app": "reviews", "version": "v2"}}


def plain(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(message)


def service_cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    host = plain(stats.service_metadata("reviews.store.svc.cluster.local", "reviews", "store"))
    return cluster(name, port, metadata={"filterMetadata": {stats.SERVICE_METADATA: host}}, **more)


def samples(page: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    found: dict[tuple[tuple[str, str], ...], float] = {}
    for line in page.splitlines():
        match = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if match:
            found[tuple(re.findall(r'(\w+)="([^"]*)"', match[1]))] = float(match[2])
    return found


def http_manager(reporter: Reporter) -> dict[str, Any]:
    return {
        "http_filters": [plain(one) for one in stats.peer_filters(reporter)],
    }


def logged(listener: dict[str, Any], config: HttpConnectionManager | TcpProxy, logs: list[AccessLog]) -> Listener:
    """The listener with loggers, which JSON cannot express: the Python messages lack a field of theirs."""
    made = json_format.ParseDict(listener, Listener())
    terminal = made.filter_chains[0].filters[-1].typed_config
    assert terminal.Unpack(config)
    config.access_log.extend(logs)
    terminal.CopyFrom(pack(config))
    return made


def tcp_listener(name: str, port: int, target: str) -> dict[str, Any]:
    proxy = {
        "@type": f"{TYPES}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "statPrefix": target,
        "cluster": target,
        "accessLogOptions": {"flushAccessLogOnConnected": True},
    }
    return {
        "name": name,
        "address": {"socketAddress": {"address": "127.0.0.1", "portValue": port}},
        "filterChains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typedConfig": proxy}]}],
    }


def test_counts_to_the_request(tmp_path: Path) -> None:
    async def run() -> None:
        async with ControlPlane(Authority()) as plane:
            app, inbound, outbound, raw = (free_port() for _ in range(4))
            (tmp_path / "app.py").write_text(APP)
            plane.put("reviews", CLUSTER, service_cluster("inbound|80||", app))
            plane.put(
                "reviews",
                LISTENER,
                logged(
                    http_listener("virtualInbound", inbound, "inbound|80||", "INBOUND",
                        chain={"transportSocket": tls("Downstream")}, **http_manager("destination")),
                    HttpConnectionManager(),
                    stats.stats_access_log("destination"),
                ),
            )  # fmt: skip
            name = "outbound|80||reviews.store.svc.cluster.local"
            plane.put("web", CLUSTER, service_cluster(name, inbound, transportSocket=tls("Upstream")))
            plane.put("web", CLUSTER, cluster("tcp", app))
            plane.put(
                "web",
                LISTENER,
                logged(
                    http_listener("out", outbound, name, "OUTBOUND", **http_manager("source")),
                    HttpConnectionManager(),
                    stats.stats_access_log("source", tunnels=False),
                ),
                logged(tcp_listener("raw", raw, "tcp"), TcpProxy(), stats.tcp_stats_access_log("source")),
            )
            command = (sys.executable, str(tmp_path / "app.py"), str(app))
            web = AgentProcess(config(plane, tmp_path, "web", **WEB), tmp_path)
            reviews = AgentProcess(config(plane, tmp_path, "reviews", command=command, **REVIEWS), tmp_path)
            async with running(web, reviews):
                await check(web, reviews, app, outbound, raw)

    asyncio.run(run())


async def check(web: AgentProcess, reviews: AgentProcess, app: int, outbound: int, raw: int) -> None:
    async def listening() -> bool:
        try:
            await http.fetch(opener(app), "/")
        except http.HTTPFailure:
            return False
        return True

    await until(listening, "the application listens")
    forged = (("host", "reviews"), ("x-fairlead-peer", "forged"))
    for number in range(60):
        path = "/404" if number % 3 == 0 else "/200"
        answer = await http.fetch(opener(outbound), path, headers=forged)
        assert b"x-fairlead-peer" not in answer.body, "the application must not see the introduction"
    grpc = (("host", "reviews"), ("content-type", "application/grpc"), ("x-ask-grpc", "1"))
    for _ in range(5):
        await http.fetch(opener(outbound), "/200", headers=grpc)
    for _ in range(4):
        await http.fetch(opener(raw), "/200")

    pages: dict[str, str] = {}

    async def counted() -> bool:
        for reporter, agent in (("source", web), ("destination", reviews)):
            pages[reporter] = (await agent.get("/stats/prometheus")).body.decode()
        names = (stats.REQUESTS, f"{stats.RESPONSE_BYTES}_count")  # Envoy shows histograms every five seconds
        return all(sum(samples(page, name).values()) == 65 for page in pages.values() for name in names)

    await until(counted, "all requests are counted")
    for reporter, page in pages.items():
        found = samples(page, stats.REQUESTS)
        by_code = {(dict(labels)["response_code"], dict(labels)["request_protocol"]): n for labels, n in found.items()}
        assert by_code == {("200", "http"): 40, ("404", "http"): 20, ("200", "grpc"): 5}
        for labels in found:
            assert tuple(name for name, _ in labels) == LABELS
            values = dict(labels)
            grpc_call = values["request_protocol"] == "grpc"
            assert values == {
                "reporter": reporter,
                "source_workload": "web-v1",
                "source_canonical_service": "web",
                "source_canonical_revision": "v1",
                "source_workload_namespace": "shop",
                "source_principal": "spiffe://cluster.local/ns/shop/sa/web",
                "source_app": "web",
                "source_version": "v1",
                "source_cluster": "Kubernetes",
                "destination_workload": "reviews-v2",
                "destination_workload_namespace": "shop",
                "destination_principal": "spiffe://cluster.local/ns/shop/sa/reviews",
                "destination_app": "reviews",
                "destination_version": "v2",
                "destination_service": "reviews.store.svc.cluster.local",
                "destination_canonical_service": "reviews",
                "destination_canonical_revision": "v2",
                "destination_service_name": "reviews",
                "destination_service_namespace": "store",
                "destination_cluster": "Kubernetes",
                "request_protocol": "grpc" if grpc_call else "http",
                "response_code": values["response_code"],
                "grpc_response_status": "5" if grpc_call else "",
                "response_flags": "-",
                "connection_security_policy": "unknown" if reporter == "source" else "mutual_tls",
            }
        for name in (stats.REQUEST_DURATION, stats.REQUEST_BYTES, stats.RESPONSE_BYTES):
            assert sum(samples(page, f"{name}_count").values()) == 65
            assert f"# TYPE {name} histogram" in page
        assert f"# TYPE {stats.REQUESTS} counter" in page

    async def tcp_counted() -> bool:
        page = (await web.get("/stats/prometheus")).body.decode()
        return sum(samples(page, stats.TCP_CLOSED).values()) == 4 and page

    page = await until(tcp_counted, "connections are counted")
    assert sum(samples(page, stats.TCP_OPENED).values()) == 4
    assert sum(samples(page, stats.TCP_SENT).values()) > 0
    (labels,) = samples(page, stats.TCP_OPENED)
    assert dict(labels)["request_protocol"] == "tcp"
    assert dict(labels)["destination_workload"] == "unknown"
    assert "response_code" not in dict(labels)
