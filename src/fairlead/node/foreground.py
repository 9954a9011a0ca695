"""`fairlead run`: one command in the mesh for as long as it runs, without a Process object."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
from pathlib import Path

import msgspec

from fairlead.ir.proxystart import starting
from fairlead.kinds.process import KIND
from fairlead.kinds.process.spec import ProcessPort, ProcessSpec
from fairlead.model.group import GroupSpec
from fairlead.model.object import Metadata, Object
from fairlead.node.addresses import DEFAULT_BLOCK, Block
from fairlead.node.api import SERVICES, WORKLOAD_ENTRIES, WORKLOAD_GROUPS, ApiError, Client
from fairlead.node.capture.namespace import CaptureError, Namespaces
from fairlead.node.ends import ends
from fairlead.node.files import NodeFiles
from fairlead.node.hostprocess import identify
from fairlead.node.launch import Mesh, Place, ServiceAddress, agent_config, workload_entry
from fairlead.node.registration import LiveRuns, Run, register
from fairlead.node.replica import agent_environment, base_environment, choose_capture
from fairlead.node.starting import proxy_start

# The agent ends in order if this process is killed; Linux delivers the signal, even across exec.
_BOUND = "import ctypes,os,sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"
CANNOT_RUN = 1


class RunRequest(msgspec.Struct, frozen=True):
    """What to run. `spec.command` holds the command; `name` is the workload's name.

    With `group` it joins as a member of that WorkloadGroup, which says its identity, labels, ports and probe.
    """

    name: str
    namespace: str
    spec: ProcessSpec
    group: str = ""


def as_member(request: RunRequest, group: GroupSpec) -> RunRequest:
    """The request with what its group says; ports that were asked for as well are kept."""
    given = {port.port for port in request.spec.ports}
    ports = [ProcessPort(number, name) for name, number in sorted(group.template.ports.items()) if number not in given]
    spec = msgspec.structs.replace(
        request.spec,
        labels=group.labels,
        service_account_name=group.account,
        ports=(*request.spec.ports, *ports),
        readiness_probe=group.readiness(),
    )
    return msgspec.structs.replace(request, name=request.group, spec=spec)


class Foreground:
    """Runs one command in the mesh, in the foreground."""

    def __init__(
        self,
        state: Path,
        mesh: Mesh,
        client: Client,
        agent_command: tuple[str, ...],
        samples: str,
        block: str = DEFAULT_BLOCK,
        node: str = "node",
    ) -> None:
        self._files = NodeFiles(state)
        self._mesh = mesh
        self._client = client
        self._agent = agent_command
        self._samples = samples
        self._block = Block(block)
        self._node = node
        self._namespaces = Namespaces(state, block)
        self._runs = LiveRuns(self._files)

    async def run(self, request: RunRequest) -> tuple[int, str]:
        """Run it to its end: its exit status (128 + N for signal N), and a note on how it was captured.

        Raises ApiError, CaptureError, AddressError or OSError where it cannot be put into the mesh.
        """
        group = await self._group(request) if request.group else None
        request = as_member(request, group) if group is not None else request
        replica = f"{request.name}-{secrets.token_hex(3)}"
        mode, note = await choose_capture(request.spec, self._namespaces)
        netns = self._namespaces.name(request.namespace, replica) if mode == "netns" else ""
        directory = self._files.make_directory(request.namespace, replica)
        try:
            own = identify(os.getpid())
            if own is not None:
                self._runs.write(request.namespace, replica, Run(own, netns))
            live = {f"{namespace}/{name}" for namespace, name in self._runs.live()}
            live |= {f"{one.namespace}/{one.name}" for one in self._files.records()}
            addresses = self._files.allocate(self._block, f"{request.namespace}/{replica}", live)
            if netns:
                await self._namespaces.create(netns)
            place = Place(addresses, str(directory), mode, self._namespaces.path(netns) if netns else "")
            await self._register(request, replica, place, group)
            if note:
                print(f"fairlead: {note}", file=sys.stderr)  # noqa: T201
            return await self._serve(directory / "agent.json"), note
        finally:
            await self._clean(request.namespace, replica, netns)

    async def _group(self, request: RunRequest) -> GroupSpec:
        try:
            found = await self._client.get(WORKLOAD_GROUPS.path(request.namespace, request.group))
        except ApiError as error:
            if error.status != 404:
                raise
            said = f"no WorkloadGroup {request.group} in namespace {request.namespace}; create it"
            raise ApiError(404, said, error.reason) from None
        try:
            return msgspec.convert(found.get("spec") or {}, GroupSpec)
        except msgspec.ValidationError as error:
            raise ApiError(0, f"WorkloadGroup {request.group}: {error}") from None

    async def _register(self, request: RunRequest, replica: str, place: Place, group: GroupSpec | None) -> None:
        said = group.metadata.annotations if group is not None and group.metadata is not None else {}
        process = Object(
            KIND.ref(request.namespace, request.name),
            Metadata(
                name=request.name,
                namespace=request.namespace,
                annotations=starting(said),
            ),
            request.spec,
        )
        listed = await self._client.get(SERVICES.path(request.namespace))
        services = [ServiceAddress.of(one) for one in listed.get("items") or ()]
        start = await proxy_start(self._client, request.namespace, request.spec.labels)
        config = agent_config(process, replica, place, self._mesh, services, base_environment(self._samples), start)
        # The command shares our terminal instead of writing a log, and starts where we were started.
        working_dir = request.spec.working_dir or os.getcwd()  # noqa: PTH109
        quiet = "critical"
        config = msgspec.structs.replace(config, app_log="", working_dir=working_dir, envoy_log_level=quiet)
        token = await self._client.token(request.namespace, request.spec.service_account_name)
        if group is None:
            entry = workload_entry(process, replica, place, self._node, self._mesh.network)
            await register(self._client, entry)
        else:
            # The control plane writes the entry when the agent connects.
            template = group.template
            network = template.network or config.network
            config = msgspec.structs.replace(
                config, entry="", workload_group=request.group, network=network, locality=template.locality
            )
        directory = Path(place.directory)
        self._files.write(directory / "token", token.encode())
        self._files.write(directory / "agent.json", msgspec.json.encode(config))

    async def _serve(self, config: Path) -> int:
        agent = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _BOUND,
            *self._agent,
            "--config",
            str(config),
            "--log-level",
            "error",
            env=agent_environment(),
            start_new_session=True,
        )

        def forward(number: signal.Signals) -> None:
            with contextlib.suppress(ProcessLookupError):
                agent.send_signal(number)

        loop = asyncio.get_running_loop()
        numbers = ends()
        for number in numbers:
            loop.add_signal_handler(number, forward, signal.SIGTERM)
        try:
            status = await agent.wait()
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
        return 128 - status if status < 0 else status

    async def _clean(self, namespace: str, replica: str, netns: str) -> None:
        # A control plane that is away learns of the end from the node's look for orphans.
        with contextlib.suppress(ApiError):
            await self._client.delete(WORKLOAD_ENTRIES.path(namespace, replica))
        with contextlib.suppress(CaptureError):
            await self._namespaces.remove(netns)
        self._files.release(f"{namespace}/{replica}")
        shutil.rmtree(self._files.directory(namespace, replica), ignore_errors=True)


def parse_port(text: str) -> ProcessPort:
    """`http:9080` or `9080`: a port, its name and with it its protocol. Raises ValueError."""
    name, _, number = text.rpartition(":")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise ValueError(f"{text!r} is not a port such as http:9080")
    return ProcessPort(port=int(number), name=name)
