"""One replica of a Process: its lives, from preparing its place to cleaning up after it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fairlead.kinds.process.spec import ProcessSpec
from fairlead.kinds.process.status import ReplicaState, ReplicaStatus
from fairlead.model.launch import CaptureMode
from fairlead.model.object import Object
from fairlead.model.ref import NamespacedName
from fairlead.node.addresses import AddressError, Addresses, Block
from fairlead.node.agentstate import is_ready
from fairlead.node.api import SERVICES, WORKLOAD_ENTRIES, ApiError, Client
from fairlead.node.capture.namespace import CaptureError, Namespaces
from fairlead.node.expand import expand
from fairlead.node.files import APP_LOG, PROXY_LOG, NodeFiles, Record
from fairlead.node.hostprocess import HostProcess, describe_exit
from fairlead.node.launch import Mesh, Place, ServiceAddress, agent_config, variables, workload_entry
from fairlead.node.plan import MAX_BACKOFF, Phase, Running, backoff
from fairlead.node.registration import register
from fairlead.node.starting import proxy_start

_log = logging.getLogger(__name__)

KILL_MARGIN = 15.0
"""Seconds beyond the grace period that an agent gets to end by itself."""
_WITHDRAW_TIMEOUT = 3.0
_FAST_POLL, _SLOW_POLL = 0.1, 1.0
_BASE_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "VIRTUAL_ENV", "PYTHONPATH")


class Surroundings(msgspec.Struct, frozen=True):
    """What every replica of a node shares."""

    node: str
    files: NodeFiles
    client: Client
    namespaces: Namespaces
    block: Block
    mesh: Mesh
    agent_command: tuple[str, ...]
    samples: str
    wake: Callable[[], None]
    live: Callable[[], set[str]]
    """The owners (`NS/NAME`) whose addresses are in use."""


def base_environment(samples: str) -> dict[str, str]:
    """What applications are given of the node's own environment, and where Fairlead's Python and samples are."""
    out = {name: os.environ[name] for name in _BASE_ENVIRONMENT if name in os.environ}
    return out | {"FAIRLEAD_PYTHON": sys.executable, "FAIRLEAD_SAMPLES": samples}


def agent_environment() -> dict[str, str]:
    """The node's own environment without its proxy settings: they would mislead the agent and its application."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


async def choose_capture(spec: ProcessSpec, namespaces: Namespaces) -> tuple[CaptureMode, str]:
    """The mode for a replica, and why `auto` did not take netns. Raises CaptureError where netns is asked in vain."""
    if spec.proxy != "sidecar" or spec.capture == "none":
        return "none", ""
    if spec.capture == "explicit":
        return "explicit", ""
    refused = await namespaces.refused()
    if not refused:
        return "netns", ""
    if spec.capture == "netns":
        raise CaptureError(f"capture netns is not possible here: {refused}; use capture: explicit")
    return "explicit", f"captured explicitly, not by network namespace: {refused}"


class Replica:
    """A replica. All methods run on the node's event loop; `phase` changes wake the planner."""

    def __init__(self, around: Surroundings, process: Object[ProcessSpec], number: int, template: str) -> None:
        self.process = process
        self.number = number
        self.template = template
        self.phase: Phase = "starting"
        self.address = ""
        self.capture: str = ""
        self.message = ""
        self.restarts = 0
        self.last_exit = ""
        self.exit_code: int | None = None
        self.retry_at = 0.0
        self.netns = ""
        self.host: HostProcess | None = None
        self._around = around
        self._failures = 0
        self._life: asyncio.Task[None] | None = None

    @property
    def key(self) -> NamespacedName:
        """The Process that this is a replica of."""
        return NamespacedName(self.process.ref.namespace, self.process.ref.name)

    @property
    def name(self) -> str:
        """The replica's name."""
        return f"{self.process.ref.name}-{self.number}"

    def running(self) -> Running:
        """As the planner sees it."""
        return Running(self.key, self.number, self.template, self.phase, self.exit_code, self.retry_at)

    def status(self) -> ReplicaStatus:
        """As the Process's status shows it."""
        states: dict[Phase, ReplicaState] = {
            "starting": "Starting",
            "ready": "Running",
            "unready": "Running",
            "draining": "Draining",
            "exited": "Waiting",
            "completed": "Failed" if self.exit_code else "Completed",
        }
        alive = self.phase in ("starting", "ready", "unready", "draining")
        return ReplicaStatus(
            name=self.name,
            address=self.address,
            state=states[self.phase],
            ready=self.phase == "ready",
            pid=self.host.identity.pid if self.host is not None and alive else 0,
            restarts=self.restarts,
            last_exit=self.last_exit,
            capture=self.capture,
            message=self.message,
        )

    def start(self) -> None:
        """Begin a life: the first one or, after an exit, the next. What could not even be started is no life."""
        if self.phase == "exited" and self.exit_code is not None:
            self.restarts += 1
        self.phase, self.exit_code, self.retry_at = "starting", None, 0.0
        self._life = asyncio.create_task(self._live(), name=f"replica {self.name}")

    def take_over(self, record: Record, host: HostProcess) -> None:
        """Go on with a replica that an earlier node process started."""
        self.restarts, self.last_exit = record.restarts, record.last_exit
        self.netns, self.capture = record.netns, record.capture
        self.address = self._addresses().workload
        self.host = host
        self._life = asyncio.create_task(self._attend(host), name=f"replica {self.name}")

    def recall(self, record: Record) -> None:
        """Take note of a replica that ended, or that ended while no node ran."""
        self.restarts, self.last_exit = record.restarts, record.last_exit
        self.netns, self.capture = record.netns, record.capture
        self.address = self._addresses().workload
        self.exit_code = record.exited
        if record.exited is None:
            self.phase, self.exit_code, self.last_exit = "exited", -1, describe_exit(None)
        else:
            self.phase = "completed"

    def complete(self) -> None:
        """Leave the replica as it ended."""
        self.phase = "completed"
        self._save()

    async def stop(self, limit: float | None = None) -> None:
        """Drain, end and clean up. `limit` (seconds) bounds the wait before the kill."""
        self.phase = "draining"
        self._around.wake()
        if limit is None:
            limit = self.process.spec.termination_grace_period_seconds + KILL_MARGIN
        if self.host is not None:
            self.host.terminate()
            if not await self._ended(limit):
                self.message = f"killed: it had not ended {limit:.0f} s after SIGTERM"
                self.host.kill()
                await self._ended(KILL_MARGIN)
        elif self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        await self.remove()

    async def remove(self) -> None:
        """Withdraw the endpoint and remove what is on disk, except the logs."""
        await self._withdraw()
        with contextlib.suppress(CaptureError):
            await self._around.namespaces.remove(self.netns)
        self._around.files.clear(self.key.namespace, self.name)

    async def _withdraw(self) -> None:
        """Take the endpoint out of the mesh. What the API does not hear now, the next look for orphans tells it."""
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(_WITHDRAW_TIMEOUT):
                await self._around.client.delete(WORKLOAD_ENTRIES.path(self.key.namespace, self.name))

    def abandon(self) -> None:
        """Stop looking after it; it runs on."""
        if self.host is not None:
            self.host.release()
        if self._life is not None:
            self._life.cancel()

    async def _ended(self, limit: float) -> bool:
        if self._life is None:
            return True
        done, _ = await asyncio.wait([self._life], timeout=limit)
        return bool(done)

    async def _live(self) -> None:
        began = asyncio.get_running_loop().time()
        try:
            self.host = await self._launch()
            self._save()
        except (ApiError, CaptureError, AddressError, OSError) as error:
            self.message = str(error)
            self._exited(None, began)
            return
        except Exception as error:
            # A defect of ours: it is found in the log, and the replica is tried again instead of starting for ever.
            _log.exception("replica %s cannot be started", self.name)
            self.message = f"the node failed to start it ({type(error).__name__}: {error}); its log says more"
            self._exited(None, began)
            return
        self.message = self.message if self.message.startswith("captured") else ""
        await self._attend(self.host, began)

    async def _attend(self, host: HostProcess, began: float | None = None) -> None:
        watcher = asyncio.create_task(self._watch_readiness())
        try:
            status = await host.wait()
        finally:
            watcher.cancel()
            await asyncio.wait([watcher])
        self.host = None
        self.last_exit = describe_exit(status)
        if self.phase != "draining":
            self.phase = "unready"
            await self._withdraw()
        self._exited(-1 if status is None else status, began)

    def _exited(self, status: int | None, began: float | None) -> None:
        now = asyncio.get_running_loop().time()
        if began is None or now - began >= MAX_BACKOFF:
            self._failures = 0
        self._failures += 1
        self.exit_code = status
        self.retry_at = now + backoff(self._failures)
        if self.phase != "draining":
            self.phase = "exited"
            self._save()
        self._around.wake()

    async def _launch(self) -> HostProcess:
        around, spec, namespace = self._around, self.process.spec, self.key.namespace
        mode, said = await choose_capture(spec, around.namespaces)
        self.capture, self.message = mode, said
        addresses = self._addresses()
        self.address = addresses.workload
        directory = around.files.make_directory(namespace, self.name)
        if mode == "netns":
            self.netns = around.namespaces.name(namespace, self.name)
            await around.namespaces.create(self.netns, own_dns=any(one.port == 53 for one in spec.ports))
        netns = around.namespaces.path(self.netns) if mode == "netns" else ""
        place = Place(addresses, str(directory), mode, netns)
        self._save()
        command, env, log = await self._orders(place)
        working_dir = expand(spec.working_dir, env) if spec.proxy == "none" else ""
        return HostProcess.start(command, env, directory / log, working_dir)

    async def _orders(self, place: Place) -> tuple[Sequence[str], dict[str, str], str]:
        """What to run, with which environment and log: the agent or, without a proxy, the program itself."""
        around, spec = self._around, self.process.spec
        config_file = Path(place.directory) / "agent.json"
        base = base_environment(around.samples)
        agent = (*around.agent_command, "--config", str(config_file))
        # The program is told the node's few variables; the agent, which is ours, gets the node's whole environment.
        try:
            services = await self._services()
            if spec.proxy == "sidecar" or (spec.proxy == "none" and spec.ports):
                entry = workload_entry(self.process, self.name, place, around.node, around.mesh.network)
                await register(around.client, entry)
            if spec.proxy == "none":
                env = variables(self.process, self.name, place, services, base)
                return [expand(word, env) for word in (*spec.command, *spec.args)], env, APP_LOG
            token = await self._token()
            start = await proxy_start(around.client, self.key.namespace, spec.labels)
        except ApiError as error:
            # The control plane is away: what a life before this one was given still holds, certificates included.
            if (error.status == 0 or error.status >= 500) and self.restarts and config_file.exists():
                return agent, agent_environment(), PROXY_LOG
            raise
        config = agent_config(self.process, self.name, place, around.mesh, services, base, start)
        around.files.write(Path(place.directory) / "token", token.encode())
        around.files.write(config_file, msgspec.json.encode(config))
        return agent, agent_environment(), PROXY_LOG

    async def _services(self) -> list[ServiceAddress]:
        listed = await self._around.client.get(SERVICES.path(self.key.namespace))
        return [ServiceAddress.of(one) for one in listed.get("items") or ()]

    async def _token(self) -> str:
        account = self.process.spec.service_account_name
        try:
            return await self._around.client.token(self.key.namespace, account)
        except ApiError as error:
            if error.status != 404:
                raise
            said = f"no service account {account} in namespace {self.key.namespace}; create it"
            raise ApiError(404, said, error.reason) from None

    async def _watch_readiness(self) -> None:
        """Follow what the agent says of itself. A program without a proxy is ready while it runs."""
        if self.process.spec.proxy == "none":
            self._set_ready(True)
            return
        directory = self._around.files.directory(self.key.namespace, self.name)
        while True:
            self._set_ready(await is_ready(directory))
            await asyncio.sleep(_SLOW_POLL if self.phase == "ready" else _FAST_POLL)

    def _set_ready(self, ready: bool) -> None:
        phase: Phase = "ready" if ready else ("starting" if self.phase == "starting" else "unready")
        if self.phase in ("starting", "ready", "unready") and self.phase != phase:
            self.phase = phase
            self._around.wake()

    def _addresses(self) -> Addresses:
        owner = f"{self.key.namespace}/{self.name}"
        return self._around.files.allocate(self._around.block, owner, self._around.live())

    def _save(self) -> None:
        self._around.files.save(
            Record(
                namespace=self.key.namespace,
                process=self.process.ref.name,
                number=self.number,
                template=self.template,
                identity=self.host.identity if self.host is not None else None,
                netns=self.netns,
                capture=self.capture,
                proxy=self.process.spec.proxy,
                restarts=self.restarts,
                last_exit=self.last_exit,
                grace=self.process.spec.termination_grace_period_seconds,
                exited=self.exit_code if self.phase == "completed" else None,
            )
        )
