"""The supervisor: runs the Processes of one host. The shell around `plan`.

Agents are processes of their own session and outlive the node: the data plane goes on serving when the node, or the
control plane, is gone. A node that comes back takes them over by pid and start time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fairlead.kinds.process import KIND
from fairlead.kinds.process.spec import ProcessSpec
from fairlead.kinds.process.status import ProcessStatus
from fairlead.model.decode import encode
from fairlead.model.manifest import Json
from fairlead.model.object import Metadata, Object
from fairlead.model.ref import NamespacedName
from fairlead.node.addresses import DEFAULT_BLOCK, AddressError, Block
from fairlead.node.api import PROCESSES, WORKLOAD_ENTRIES, ApiError, Client, part, reflect
from fairlead.node.capture.namespace import CaptureError, Namespaces
from fairlead.node.files import NodeFiles, Record
from fairlead.node.hostprocess import HostProcess
from fairlead.node.launch import NODE_LABEL, Mesh, read_process, template
from fairlead.node.plan import Action, Wanted, next_wake, plan
from fairlead.node.registration import LiveRuns
from fairlead.node.replica import Replica, Surroundings
from fairlead.node.report import report, stamp

log = logging.getLogger("fairlead.node")

_ORPHAN_PERIOD = 60.0
_ROTATE_PERIOD = 15.0
_STATUS_PAUSE = 0.5


def default_agent_command() -> tuple[str, ...]:
    """How this installation's agent is started."""
    return (sys.executable, "-c", "from fairlead.cli.main import main; main()", "agent")


def samples_directory() -> str:
    """Where the samples are: in the package when installed, beside `src` in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "samples"
    return str(inside if inside.is_dir() else package.parent.parent / "samples")


class NodeConfig(msgspec.Struct, frozen=True):
    """What a node is started with. `log_limit` (bytes) bounds each log file; there are two of each log."""

    state: Path
    mesh: Mesh
    name: str = "node"
    block: str = DEFAULT_BLOCK
    agent_command: tuple[str, ...] = ()
    log_limit: int = 10 << 20
    samples: str = ""


class Supervisor:
    """Runs the Processes that belong to this node.

    `run` works until it is cancelled, and leaves the agents running; `stop` ends them all in order and makes `run`
    return. Raises AddressError for a block that cannot be used.
    """

    def __init__(self, config: NodeConfig, client: Client) -> None:
        self.config = config
        self._client = client
        self._files = NodeFiles(config.state)
        self._namespaces = Namespaces(config.state, config.block)
        self._wake = asyncio.Event()
        self._status_wake = asyncio.Event()
        self._around = Surroundings(
            node=config.name,
            files=self._files,
            client=client,
            namespaces=self._namespaces,
            block=Block(config.block),
            mesh=config.mesh,
            agent_command=config.agent_command or default_agent_command(),
            samples=config.samples or samples_directory(),
            wake=self._woken,
            live=self._live,
        )
        self._runs = LiveRuns(self._files)
        self._replicas: dict[tuple[NamespacedName, int], Replica] = {}
        self._wanted: dict[NamespacedName, Wanted] | None = None
        self._processes: dict[NamespacedName, Object[ProcessSpec]] = {}
        self._problems: dict[NamespacedName, tuple[int, str]] = {}
        self._written: dict[NamespacedName, ProcessStatus] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._stopped = asyncio.Event()
        self.synced = asyncio.Event()
        """Set once the API has delivered the Processes."""

    def status(self) -> dict[NamespacedName, ProcessStatus]:
        """The status of every Process that runs or should run here, as it is now."""
        keys = self._processes.keys() | self._problems.keys() | {key for key, _ in self._replicas}
        return {key: self._report(key) for key in sorted(keys)}

    async def run(self) -> None:
        """Supervise until cancelled or stopped."""
        await self._take_over()
        jobs = [
            asyncio.create_task(one, name=name)
            for name, one in (
                ("node watch", reflect(self._client, PROCESSES.path(), self._changed, self._lost)),
                ("node plan", self._plan_forever()),
                ("node status", self._write_status_forever()),
                ("node orphans", self._withdraw_orphans_forever()),
                ("node logs", self._rotate_forever()),
                ("node stopped", self._until_stopped()),
            )
        ]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            for replica in self._replicas.values():
                replica.abandon()

    async def stop(self, limit: float | None = None) -> None:
        """Drain and end all replicas: first the gateways, so that nothing new comes in, then everything else.

        `limit` (seconds) bounds each of the two steps; without it the Processes' grace periods do.
        """
        self._stopping = True
        if self._ending:
            await asyncio.wait(self._ending)
        for gateways in (True, False):
            chosen = [one for one in self._replicas.values() if (one.process.spec.proxy == "router") == gateways]
            await asyncio.gather(*(self._end(one, limit) for one in chosen))
        with contextlib.suppress(ApiError):
            await self._write_status()
        self._stopped.set()

    # What runs already

    async def _take_over(self) -> None:
        orders = self._files.orders()
        if orders is not None:
            self._order(orders)
        for record in self._files.records():
            self._adopt(record)
        keep = {one.netns for one in self._replicas.values() if one.netns} | self._runs.namespaces()
        try:
            removed = await self._namespaces.sweep(keep)
        except CaptureError as error:
            log.warning("leftover network namespaces stay: %s", error)
        else:
            if removed:
                log.info("removed leftover network namespaces: %s", ", ".join(removed))
        self._files.prune({(one.key.namespace, one.name) for one in self._replicas.values()})

    def _adopt(self, record: Record) -> None:
        key = NamespacedName(record.namespace, record.process)
        process = self._processes.get(key)
        if process is None or template(process) != record.template:
            process = _remembered(record)
        replica = Replica(self._around, process, record.number, record.template)
        try:
            host = HostProcess.adopt(record.identity) if record.identity is not None else None
            if host is not None:
                replica.take_over(record, host)
            else:
                replica.recall(record)
        except AddressError as error:
            log.warning("%s/%s: %s", record.namespace, record.name, error)
            return
        self._replicas[key, record.number] = replica

    # What is wanted

    def _changed(self, documents: dict[NamespacedName, Json]) -> None:
        mine = [one for one in documents.values() if self._is_mine(one)]
        self._order(mine)
        try:
            self._files.save_orders(mine)
        except OSError as error:
            log.warning("cannot keep the Processes on disk: %s", error)
        self.synced.set()

    def _lost(self, error: ApiError) -> None:
        log.warning("the API cannot be watched, what runs goes on: %s", error)

    def _is_mine(self, document: Json) -> bool:
        if part(document, "metadata").get("deletionTimestamp"):
            return False
        named = part(document, "spec").get("node") or part(document, "status").get("node")
        if named:
            return named == self.config.name
        return True

    def _order(self, documents: Sequence[Json]) -> None:
        wanted: dict[NamespacedName, Wanted] = {}
        processes: dict[NamespacedName, Object[ProcessSpec]] = {}
        problems: dict[NamespacedName, tuple[int, str]] = {}
        for document in documents:
            meta = part(document, "metadata")
            key = NamespacedName(str(meta.get("namespace") or "default"), str(meta.get("name")))
            if not self._claimed(key, document):
                continue
            try:
                process = read_process(document)
            except msgspec.ValidationError as error:
                # Written by a newer version, or past admission: what runs of it stays as it is.
                problems[key] = (int(meta.get("generation") or 0), str(error))
                if self._wanted is not None and key in self._wanted:
                    wanted[key], processes[key] = self._wanted[key], self._processes[key]
                continue
            spec = process.spec
            processes[key] = process
            wanted[key] = Wanted(key, template(process), spec.replicas, spec.restart_policy)
        self._wanted, self._processes, self._problems = wanted, processes, problems
        self._woken()

    def _claimed(self, key: NamespacedName, document: Json) -> bool:
        """Whether this node holds the Process. One that no node holds is claimed: the watch brings the outcome."""
        if part(document, "spec").get("node") or part(document, "status").get("node") == self.config.name:
            return True
        task = asyncio.create_task(self._claim(key, str(part(document, "metadata").get("resourceVersion") or "")))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return False

    async def _claim(self, key: NamespacedName, version: str) -> None:
        path = PROCESSES.path(key.namespace, key.name, "status")
        try:
            await self._client.merge(
                path, {"metadata": {"resourceVersion": version}, "status": {"node": self.config.name}}
            )
        except ApiError as error:
            # 409: another node was faster, or the object changed and comes again by the watch.
            if error.status not in (404, 409):
                log.warning("cannot claim process %s: %s", key, error)

    # What happens

    async def _plan_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if self._wanted is not None and not self._stopping:
                running = [one.running() for one in self._replicas.values()]
                for action in plan(self._wanted, running, loop.time()):
                    self._act(action)
            running = [one.running() for one in self._replicas.values()]
            pause = next_wake(running, loop.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    def _act(self, action: Action) -> None:
        where = (action.process, action.number)
        log.info("%s %s/%s-%d", action.verb, *action.process, action.number)
        if action.verb == "start":
            target = self._processes[action.process]
            self._replicas[where] = Replica(self._around, target, action.number, template(target))
            self._replicas[where].start()
            return
        replica = self._replicas[where]
        if action.verb == "restart":
            replica.start()
        elif action.verb == "complete":
            replica.complete()
            self._woken()
        else:
            replica.phase = "draining"
            task = asyncio.create_task(self._end(replica), name=f"end {replica.name}")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._status_wake.set()

    async def _end(self, replica: Replica, limit: float | None = None) -> None:
        try:
            await replica.stop(limit)
        except OSError as error:
            log.warning("%s/%s: what is on disk stays: %s", replica.key.namespace, replica.name, error)
        finally:
            self._replicas.pop((replica.key, replica.number), None)
            self._woken()

    def _woken(self) -> None:
        self._wake.set()
        self._status_wake.set()

    def _live(self) -> set[str]:
        replicas = {f"{one.key.namespace}/{one.name}" for one in self._replicas.values()}
        return replicas | {f"{namespace}/{name}" for namespace, name in self._runs.live()}

    async def _until_stopped(self) -> None:
        await self._stopped.wait()

    # What is told

    async def _write_status_forever(self) -> None:
        while True:
            self._status_wake.clear()
            pause = None
            try:
                await self._write_status()
            except ApiError as error:
                if error.status:  # that the API is away is said where it is watched
                    log.warning("cannot write status: %s", error)
                pause = 5.0
            await asyncio.sleep(_STATUS_PAUSE)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._status_wake.wait(), pause)

    async def _write_status(self) -> None:
        for key in [one for one in self._written if one not in self._processes and one not in self._problems]:
            del self._written[key]
        for key in sorted(self._processes.keys() | self._problems.keys()):
            before = self._written.get(key)
            now = stamp(self._report(key), before, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            if now == before:
                continue
            # A merge patch leaves alone what it does not name; what a status omits must be named to go back.
            body: dict[str, Any] = {"replicas": 0, "readyReplicas": 0, "updatedReplicas": 0, "instances": None}
            body |= encode(now)
            try:
                await self._client.merge(PROCESSES.path(key.namespace, key.name, "status"), {"status": body})
            except ApiError as error:
                if error.status != 404:
                    raise
            self._written[key] = now

    def _report(self, key: NamespacedName) -> ProcessStatus:
        replicas = sorted(
            (one for (owner, _), one in self._replicas.items() if owner == key), key=lambda one: one.number
        )
        process = self._processes.get(key)
        current = template(process) if process is not None else ""
        generation, problem = self._problems.get(key, (process.meta.generation if process is not None else 0, ""))
        return report(
            self.config.name,
            generation,
            process.spec.replicas if process is not None else 0,
            sum(one.template == current for one in replicas),
            [one.status() for one in replicas],
            problem,
        )

    # What is cleaned up

    async def _withdraw_orphans_forever(self) -> None:
        await self.synced.wait()
        while True:
            try:
                await self._withdraw_orphans()
            except ApiError as error:
                log.warning("cannot look for orphaned endpoints: %s", error)
            await asyncio.sleep(_ORPHAN_PERIOD)

    async def _withdraw_orphans(self) -> None:
        """Delete WorkloadEntries of this node whose replica is gone (the API was away when it went)."""
        listed = await self._client.get(WORKLOAD_ENTRIES.path(), {"labelSelector": f"{NODE_LABEL}={self.config.name}"})
        items: list[Json] = listed.get("items") or []
        for item in items:
            meta = part(item, "metadata")
            namespace, name = str(meta.get("namespace")), str(meta.get("name"))
            if f"{namespace}/{name}" not in self._live():
                log.info("withdrawing the endpoint of %s/%s, which is gone", namespace, name)
                await self._client.delete(WORKLOAD_ENTRIES.path(namespace, name))
        self._runs.clean()

    async def _rotate_forever(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_PERIOD)
            try:
                await asyncio.to_thread(self._files.rotate_logs, self.config.log_limit)
            except OSError as error:
                log.warning("cannot rotate logs: %s", error)


def _remembered(record: Record) -> Object[ProcessSpec]:
    """A Process of which only the record is left: enough to end it in order."""
    spec = msgspec.convert(
        {"command": ["-"], "proxy": record.proxy, "terminationGracePeriodSeconds": int(record.grace)}, ProcessSpec
    )
    ref = KIND.ref(record.namespace, record.process)
    return Object(ref, Metadata(name=record.process, namespace=record.namespace), spec)
