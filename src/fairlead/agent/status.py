"""What the agent serves over HTTP: readiness and metrics to everyone, control only over its own Unix socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.agent import http, netns
from fairlead.agent.application import Application
from fairlead.agent.certificates import Certificates
from fairlead.agent.http import Request, Response
from fairlead.agent.proxy import Proxy
from fairlead.agent.relay import RelayServer
from fairlead.model.launch import AgentConfig
from fairlead.telemetry import page

METRICS_ANNOTATION = "ISTIO_PROMETHEUS_ANNOTATIONS"
MAX_APP_METRICS = 32 * 1024 * 1024
CONTROL_SOCKET = "agent.sock"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_READABLE = (
    "/config_dump",
    "/clusters",
    "/listeners",
    "/certs",
    "/stats",
    "/server_info",
    "/ready",
    "/memory",
    "/init_dump",
)
_WRITABLE = ("/logging", "/reset_counters", "/runtime_modify")

_COMPRESSION = 1  # the page is read once: speed counts

log = logging.getLogger("status")


class Status:
    """The two request handlers; owns no process."""

    def __init__(
        self,
        config: AgentConfig,
        proxy: Proxy,
        relay: RelayServer,
        held: Certificates,
        app: Application | None,
        *,
        drain: Callable[[], None],
        quit_: Callable[[], None],
    ) -> None:
        self._config = config
        self._proxy = proxy
        self._relay = relay
        self._certificates = held
        self._app = app
        self._drain = drain
        self._quit = quit_
        self.draining = False
        self.healthy: bool | None = None
        self.reason = ""

    async def ready(self) -> bool:
        """Whether traffic can be served: Envoy has acknowledged its configuration and is live."""
        return self._relay.machine.synced and not self.draining and await self._proxy.live()

    async def public(self, request: Request) -> Response:
        """The status port."""
        if request.method != "GET":
            return Response.text(405, "only GET is served here")
        match request.path:
            case "/healthz/ready":
                ready = await self.ready()
                return Response.text(200, "ready") if ready else Response.text(503, "the proxy is not ready")
            case "/stats/prometheus" | "/metrics":
                return await self._page(request.headers.get("accept-encoding", ""))
            case _:
                return Response.text(404, "paths: /healthz/ready, /stats/prometheus")

    async def control(self, request: Request) -> Response:
        """The agent's own socket."""
        post = request.method == "POST"
        match request.path:
            case "/status":
                return Response(200, msgspec.json.encode(self.state()) + b"\n", "application/json")
            case "/drain" if post:
                self._drain()
                return Response.text(200, "draining")
            case "/quitquitquit" if post:
                self._quit()
                return Response.text(200, "ending")
            case "/drain" | "/quitquitquit":
                return Response.text(405, "use POST")
            case "/healthz/ready" | "/stats/prometheus":
                return await self.public(request)
            case path if path in _READABLE or (path in _WRITABLE and post) or path.startswith("/stats/"):
                try:
                    return await self._proxy.admin(request.target, method=request.method, seconds=30)
                except http.HTTPFailure as error:
                    return Response.text(502, f"Envoy does not answer: {error}")
            case _:
                return Response.text(404, "paths: /status, /drain, /quitquitquit, and Envoy's admin paths for reading")

    def state(self) -> dict[str, Any]:
        """The agent's state as JSON-shaped data."""
        held = self._certificates.current
        machine = self._relay.machine
        return {
            "name": self._config.name,
            "namespace": self._config.namespace,
            "version": __version__,
            "pid_envoy": self._proxy.pid,
            "envoy_restarts": self._proxy.restarts,
            "bootstrap_problem": self._proxy.problem,
            "pid_application": self._app.pid if self._app else 0,
            "application_restarts": self._app.restarts if self._app else 0,
            "certificate": {
                "serial": held.serial if held else "",
                "not_after": held.not_after if held else 0,
                "problem": self._certificates.problem,
            },
            "xds": {
                "connected": machine.connected,
                "synced": machine.synced,
                "resources": {kind.rpartition(".")[2]: count for kind, count in machine.counts().items()},
                "refusals": self._relay.refusals,
                "last_refusal": self._relay.last_refusal,
                "problem": self._relay.problem,
            },
            "health": {"healthy": self.healthy, "reason": self.reason},
            "draining": self.draining,
        }

    async def _page(self, accepted: str) -> Response:
        """The page of metrics, compressed for those who take that (ProxyConfig `statsCompression`)."""
        body = await self._metrics()
        if self._config.proxy.stats_compression is False or not takes_gzip(accepted):
            return Response(200, body, _PROMETHEUS)
        smaller = await asyncio.to_thread(gzip.compress, body, _COMPRESSION)
        return Response(200, smaller, _PROMETHEUS, "gzip")

    async def _metrics(self) -> bytes:
        envoy, application = await asyncio.gather(self._envoy_metrics(), self._application_metrics())
        return page.merge(self._proxy.workload, envoy, self._own_metrics(), application)

    async def _envoy_metrics(self) -> bytes:
        try:
            return (await self._proxy.admin("/stats/prometheus", seconds=10)).body
        except http.HTTPFailure as error:
            log.warning("no metrics from Envoy: %s", error)
            return b""

    async def _application_metrics(self) -> bytes:
        """The application's own page, if its environment says where it is (Istio's variable, set by injection)."""
        if self._config.proxy.merge_metrics is False:
            return b""
        try:
            said = json.loads(self._config.env.get(METRICS_ANNOTATION, "{}"))
            if str(said.get("scrape", "false")).lower() != "true":
                return b""
            port, path = int(said.get("port") or 80), str(said.get("path") or "/metrics")
        except (ValueError, AttributeError):
            log.warning("%s is not the expected JSON object", METRICS_ANNOTATION)
            return b""
        capture = self._config.capture
        inside = capture.mode == "netns"
        address = "127.0.0.1" if inside else capture.app_address

        async def opener() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            sock = await netns.connect(capture.netns if inside else "", address, port)
            return await asyncio.open_connection(sock=sock)

        try:
            answer = await http.fetch(
                opener, path, headers=(("host", f"{address}:{port}"),), seconds=5, limit=MAX_APP_METRICS
            )
        except http.HTTPFailure as error:
            log.warning("no metrics from the application: %s", error)
            return b""
        return answer.body if answer.status == 200 else b""

    def _own_metrics(self) -> bytes:
        held = self._certificates.current
        machine = self._relay.machine
        values = (
            ("certificate_expiry_seconds", "gauge", held.not_after - time.time() if held else 0),
            ("control_plane_connected", "gauge", int(machine.connected)),
            ("xds_refusals_total", "counter", self._relay.refusals),
            ("envoy_restarts_total", "counter", self._proxy.restarts),
            ("application_restarts_total", "counter", self._app.restarts if self._app else 0),
        )
        return "".join(
            f"# TYPE fairlead_agent_{name} {kind}\nfairlead_agent_{name} {value:.15g}\n" for name, kind, value in values
        ).encode()


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding (RFC 9110, 12.5.3) names gzip, and not with the weight 0."""
    for one in accepted.lower().split(","):
        name, _, weight = one.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return not re.fullmatch(r"q=0(\.0{0,3})?", weight.strip())
    return False
