"""Composition root of one agent: starts the parts in order, watches the application, drains, ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio

from fairlead.agent import connections, http, memory, probes
from fairlead.agent.application import Application
from fairlead.agent.bootstrap import XDS_SOCKET, metadata, node_id
from fairlead.agent.certificates import CertificateClient, Certificates, GrpcCertificates
from fairlead.agent.files import lock, private_directory, socket_path, unlink
from fairlead.agent.identity import further_roots, load_anchors
from fairlead.agent.messages import name_table
from fairlead.agent.plaintext import PlaintextWatch
from fairlead.agent.proxy import POLL_SECONDS, Proxy
from fairlead.agent.relay import RelayServer
from fairlead.agent.relaystate import NAME_TABLE, Unhealthy
from fairlead.agent.reporter import Reporter
from fairlead.agent.sds import SecretServer
from fairlead.agent.status import CONTROL_SOCKET, Status
from fairlead.agent.traffic import Traffic
from fairlead.ir.families import families_of, loopbacks
from fairlead.ir.nodesettings import DNS_CAPTURE, is_true
from fairlead.model.launch import AgentConfig
from fairlead.model.report import Ailments

if TYPE_CHECKING:
    from fairlead.agent.capturewatch import CaptureWatch

PROPAGATION_SECONDS = 1.0
SETTLE_SECONDS = 0.3
ENVOY_GRACE = 5.0
LIVENESS_GRACE = 5.0
LOCK_FILE = "agent.lock"
HURRIED_GRACE = 1.0
FAILED = 1

log = logging.getLogger("agent")


class Agent:
    """One workload's agent. `run` returns the exit status of the process."""

    def __init__(self, config: AgentConfig, client: CertificateClient | None = None) -> None:
        self._config = config
        directory = Path(config.directory)
        private_directory(directory)
        self._lock = lock(directory / LOCK_FILE)
        self._directory = directory
        self._certificates = Certificates(config, client or GrpcCertificates(config))
        anchors = load_anchors(directory)
        self._secrets = SecretServer(further_roots(config.proxy), config.trust_domain, anchors, directory)
        self._certificates.on_change(self._secrets.update)
        self._relay = RelayServer(config.xds_address, self._certificates, directory / "config")
        self._proxy = Proxy(config)
        self._proxy.reader = self._relay.complaints.line
        traffic = Traffic(lambda: self._proxy.workload, self._proxy.admin)
        self._reporter = Reporter(
            node_id(config),
            self._certificates,
            self._secrets,
            traffic,
            lambda: self._proxy.problem,
            lambda: connections.reported(self._proxy.admin),
            self._ailments,
        )
        self._certificates.failed = self._reporter.wake
        self._relay.files.changed = self._files_changed
        self._captured: CaptureWatch | None = None
        self._relay.alongside = self._reporter.run
        self._plaintext = PlaintextWatch(self._proxy, self._reporter.wake)
        self._reporter.callers = self._plaintext
        self._app = Application(config) if config.command else None
        self._end = asyncio.Event()
        self._hurry = asyncio.Event()
        self._drain_only = asyncio.Event()
        self._failure = ""
        self._tasks: list[asyncio.Task[Any]] = []
        self._closing: list[Any] = []
        self._status = Status(
            config,
            self._proxy,
            self._relay,
            self._certificates,
            self._app,
            drain=self._drain_only.set,
            quit_=self._asked_to_end,
        )

    async def run(self) -> int:
        """Run to the end of the application or until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        servers = contextlib.AsyncExitStack()
        try:
            async with servers:
                await self._serve(servers)
                self._spawn(self._certificates.run(), "certificates")
                return await self._live()
        except OSError as error:
            log.error("cannot run: %s%s", error.strerror or error, f": {error.filename}" if error.filename else "")
            return FAILED
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ailments(self) -> Ailments:
        watch = self._captured
        return Ailments(
            self._certificates.problem if self._certificates.current is not None else "",
            watch.capture if watch is not None else "",
            watch.resolution if watch is not None else "",
            "; ".join((*self._relay.machine.unwell(), *self._secrets.refused_files)),
        )

    def _files_changed(self) -> None:
        self._secrets.changed()
        self._reporter.wake()

    # Starting.

    async def _serve(self, stack: contextlib.AsyncExitStack) -> None:
        config = self._config
        xds = socket_path(self._directory, XDS_SOCKET)
        unlink(xds)
        options = [("grpc.max_receive_message_length", 256 * 1024 * 1024), ("grpc.max_send_message_length", -1)]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((self._relay.handler(), self._secrets.handler()))
        server.add_insecure_port(f"unix:{xds}")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        stack.push_async_callback(self._relay.close)
        control = socket_path(self._directory, CONTROL_SOCKET)
        unlink(control)
        local = await asyncio.start_unix_server(http.Server(self._status.control).connected, control)
        stack.callback(local.close)
        if config.status_port:
            public = http.Server(self._status.public)
            places = (config.address, *config.more_addresses)
            status = await asyncio.start_server(public.connected, places, config.status_port)
            stack.callback(status.close)
        asked = is_true(metadata(config).get(DNS_CAPTURE))
        if config.capture.mode == "netns" or (config.capture.mode == "redirect" and asked):
            await self._serve_dns(stack)

    async def _serve_dns(self, stack: contextlib.AsyncExitStack) -> None:
        from fairlead.agent import dns  # 6 MB that only workloads need whose questions come here
        from fairlead.agent.capturewatch import CaptureWatch
        from fairlead.agent.nametable import Names

        config = self._config
        host = dns.Resolvers.of_host()
        families = families_of((config.address, *config.more_addresses))

        def names() -> Names:
            bodies = self._relay.machine.good(NAME_TABLE).values()
            hosts = {name: host for body in bodies for name, host in name_table(_payload(body[1])).items()}
            return Names(hosts, config.namespace, config.domain_suffix, host.search, families)

        # Rules of the host send a question to the loopback address of its own family.
        places = (dns.ADDRESS,) if config.capture.mode == "netns" else loopbacks(families)
        forward = dns.Forwarder(host.servers)
        servers = {place: dns.DnsServer(names(), forward) for place in places}

        def a_name() -> str:
            return servers[places[0]].names.some()

        if config.capture.mode == "netns":
            self._captured = CaptureWatch(config.capture.netns, a_name, self._reporter.wake)

        def changed() -> None:
            found = names()
            for server in servers.values():
                server.names = found

        for place, server in servers.items():
            stack.push_async_callback(server.close)
            await server.start(config.capture.netns, place)
        self._relay.on_name_table(changed)

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a part; its unexpected end ends the agent."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, probes.ProbeConfigError | OSError):
            log.error("%s: %s", task.get_name(), error)
        elif error is not None:
            log.error("%s failed: %r", task.get_name(), error)
        if error is not None:
            self._failure = task.get_name()
            self._end.set()

    def _asked_to_end(self) -> None:
        if self._end.is_set():
            self._hurry.set()
        self._end.set()

    # Living.

    async def _live(self) -> int:
        ending = asyncio.create_task(self._end.wait())
        self._tasks.append(ending)
        begun = self._spawn(self._begin(), "start")
        await asyncio.wait([begun, ending], return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            begun.cancel()
        application: asyncio.Task[int] | None = None
        if self._app is not None and not self._end.is_set():
            application = self._spawn(self._app.run(), "application")
            self._watch(self._app)
        elif not self._end.is_set():
            # Nobody started by us, but it may be probed: an application that runs beside, as on Istio's VMs.
            self._watch_readiness(self._config.env)
        draining = self._spawn(self._drain_when_asked(), "drain")
        if application is not None:
            await asyncio.wait([application, ending], return_when=asyncio.FIRST_COMPLETED)
        else:
            await ending
        draining.cancel()
        return await self._finish(application)

    async def _begin(self) -> None:
        """Certificate, then Envoy, then Envoy's configuration: only then may the application start."""
        await self._certificates.ready()
        self._spawn(self._proxy.run(), "envoy")
        while not await self._status.ready():  # noqa: ASYNC110 - Envoy is asked, it does not tell
            await asyncio.sleep(POLL_SECONDS)
        log.info("the proxy is ready")
        if self._config.proxy_type == "sidecar":
            self._spawn(self._plaintext.run(), "plaintext")
        if self._captured is not None:
            self._spawn(self._captured.run(), "capture")
        memory.give_back()

    def _watch(self, app: Application) -> None:
        config = self._config
        self._watch_readiness(app.env)
        target = probes.Target.of(config, app.env)
        if config.liveness is not None:

            def alive(healthy: bool, reason: str) -> None:
                if not healthy:
                    self._tasks.append(asyncio.create_task(app.revive(reason, LIVENESS_GRACE)))

            self._spawn(probes.Prober(config.liveness, target, alive, healthy=True, rearm=True).run(), "liveness")

    def _watch_readiness(self, env: Mapping[str, str]) -> None:
        if self._config.readiness is None:
            self._healthy(True, "")
            return
        self._healthy(False, "not ready yet")
        target = probes.Target.of(self._config, env)
        prober = probes.Prober(self._config.readiness, target, self._healthy, healthy=False)
        self._spawn(prober.run(), "readiness")

    def _healthy(self, healthy: bool, reason: str) -> None:
        if self._status.draining:
            return
        if (self._status.healthy, self._status.reason) != (healthy, reason):
            log.info("the workload is %s", "healthy" if healthy else f"unhealthy: {reason}")
        self._status.healthy, self._status.reason = healthy, reason
        self._relay.report(None if healthy else Unhealthy(reason))

    # Ending.

    async def _drain_when_asked(self) -> None:
        await self._drain_only.wait()
        await self._withdraw()
        await self._proxy.drain()

    async def _withdraw(self) -> None:
        """Report the endpoint as gone, and let that reach the callers."""
        if self._status.draining:
            return
        self._healthy(False, "draining")
        self._status.draining = True
        if not self._relay.machine.connected:
            return
        # Whether or not the report is acknowledged, callers must be given time to hear of it.
        await self._unless_hurried(self._relay.health_seen.wait(), PROPAGATION_SECONDS)
        await self._unless_hurried(asyncio.sleep(SETTLE_SECONDS), SETTLE_SECONDS)

    async def _unless_hurried(self, work: Coroutine[Any, Any, Any], seconds: float) -> None:
        waits = [asyncio.create_task(work), asyncio.create_task(self._hurry.wait())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _finish(self, application: asyncio.Task[int] | None) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.drain_seconds
        running = application is not None and not application.done()
        if self._proxy.pid and (running or application is None) and not self._failure:
            log.info("draining for at most %g s", self._config.drain_seconds)
            await self._withdraw()
            await self._proxy.drain()
            await self._until_idle(deadline)
        if application is not None and not running:
            self._healthy(False, "the application ended")
        if self._app is not None and running:
            left = max(1.0, deadline - loop.time())
            await self._app.stop(HURRIED_GRACE if self._hurry.is_set() else left)
        status = FAILED if self._failure else 0
        if application is not None:
            with contextlib.suppress(Exception):  # its failure has been logged by _ended
                status = await application
        await self._reporter.goodbye()
        await self._proxy.stop(ENVOY_GRACE)
        log.info("ended with status %d", status)
        return status

    async def _until_idle(self, deadline: float) -> None:
        """Until no peer is connected (twice in a row), the deadline, or a second signal."""
        quiet = 0
        while quiet < 2 and asyncio.get_running_loop().time() < deadline and not self._hurry.is_set():
            open_connections = await self._proxy.downstream_connections()
            quiet = quiet + 1 if open_connections == 0 else 0
            await self._unless_hurried(asyncio.sleep(0.1), 0.1)


def _payload(resource: bytes) -> bytes:
    from envoy.service.discovery.v3 import discovery_pb2 as discovery

    return discovery.Resource.FromString(resource).resource.value
