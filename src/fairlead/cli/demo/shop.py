"""The shop in the mesh: its files with this run's ports, its addresses, what its proxies count and log."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import click

from fairlead.cli import envoyadmin
from fairlead.cli.demo.failure import DemoError
from fairlead.cli.demo.mesh import Mesh, until
from fairlead.cli.demo.traffic import Reply, Traffic
from fairlead.model.manifest import Json
from fairlead.node.files import PROXY_LOG
from fairlead.node.supervisor import samples_directory

NAMESPACE = "shop"
PROCESSES = (
    "web-v1",
    "catalog-v1",
    "reviews-v1",
    "reviews-v2",
    "reviews-v3",
    "ratings-v1",
    "orders-v1",
    "ledger-v1",
    "ledger-v2",
    "gateway",
)
BASE = ("services.yaml", "processes.yaml", "gateway.yaml", "policies/subsets.yaml")
"""What is applied before the first step: the shop, and the versions of its services as subsets."""
HTTP_PORT, HTTPS_PORT = 8080, 8443
"""The gateway's ports in the samples; a run has its own."""
BARRIER = ("/", "/call/reviews/call/ratings/ratings/1", "/call/ratings/ratings/1", "/ledger", "/") * 2
START_LIMIT = 90.0
_METRIC = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Metrics = list[tuple[str, dict[str, str], float]]


class Shop:
    """The shop. `traffic` goes through the gateway."""

    def __init__(self, mesh: Mesh, traffic: Traffic, capture: str) -> None:
        self.mesh = mesh
        self.traffic = traffic
        self.capture = capture
        self.files = mesh.place.root / NAMESPACE
        self.ratings = ""
        """The address of ratings' workload, for commands that are shown."""

    def write_files(self) -> None:
        """Put the samples' YAML into the state directory, with this run's ports and capture."""
        source = Path(samples_directory()) / NAMESPACE
        place = self.mesh.place
        for file in sorted(source.rglob("*.yaml")):
            text = file.read_text()
            text = re.sub(rf"\b{HTTP_PORT}\b", str(place.http_port), text)
            text = re.sub(rf"\b{HTTPS_PORT}\b", str(place.https_port), text)
            if file.name == "processes.yaml" and self.capture != "auto":
                text = text.replace("\nspec:\n", f"\nspec:\n  capture: {self.capture}\n")
            self.write(str(file.relative_to(source)), text)

    def write(self, name: str, text: str) -> Path:
        """Write one of the run's files."""
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text)
        return path

    def file(self, name: str) -> Path:
        """One of the run's files."""
        return self.files / name

    def policy(self, *names: str) -> list[Path]:
        """Files of `policies/`, named without .yaml."""
        return [self.files / "policies" / f"{name}.yaml" for name in names]

    async def open(self) -> None:
        """Apply the shop and wait until it is up and answers. Raises DemoError with what is not."""
        await self.mesh.apply(*(self.file(name) for name in BASE))
        said = "nothing has started"

        async def ready() -> bool:
            nonlocal said
            said = await self._not_ready()
            return not said

        try:
            await until("the shop starts", ready, START_LIMIT)
        except DemoError as error:
            raise DemoError(f"{error}: {said}. With --state DIR the logs are kept, in DIR/mesh/node") from None
        await self.mesh.settled(f"{name}-0" for name in PROCESSES)

        async def answers() -> bool:
            return (await self.traffic.get("/")).status == 200

        await until("the shop answers through the gateway", answers)
        self.ratings = str((await self.replica("ratings-v1"))["address"])

    async def _not_ready(self) -> str:
        for name in PROCESSES:
            process = await self.process(name)
            status: Json = process.get("status") or {}
            if int(status.get("readyReplicas") or 0) < 1:
                conditions: list[Json] = status.get("conditions") or []
                said = "; ".join(str(one.get("message") or one.get("reason")) for one in conditions)
                return f"{name} is not ready{': ' + said if said else ''}"
        return ""

    @contextlib.asynccontextmanager
    async def applied(self, *files: Path) -> AsyncGenerator[float]:
        """The objects of files in force while the body runs; gives the seconds from apply to acknowledgement."""
        try:
            async with self.mesh.applied(*files) as seconds:
                await self._pass_through()
                yield seconds
        finally:
            await self._pass_through()

    async def _pass_through(self) -> None:
        """Send requests past every proxy, whatever comes back.

        Envoy acknowledges when its main thread has taken a change; a busy worker takes it in its next round of events,
        and may route what is already in this round the old way. Behind a few requests, one after another, it has.
        """
        for path in BARRIER:
            await self.traffic.get(path)

    # What runs

    async def process(self, name: str) -> Json:
        """The Process."""
        found: Json = await self.mesh.request(
            "GET", f"/apis/fairlead.dev/v1alpha1/namespaces/{NAMESPACE}/processes/{name}"
        )
        return found

    async def instances(self, name: str) -> list[Json]:
        """The replicas of a Process: name, address, ready, pid, capture."""
        status: Json = (await self.process(name)).get("status") or {}
        found: list[Json] = status.get("instances") or []
        return found

    async def replica(self, name: str) -> Json:
        """Its first replica that is ready."""
        for one in await self.instances(name):
            if one.get("ready"):
                return one
        raise DemoError(f"no replica of {name} is ready")

    async def direct(self, name: str, path: str, port: int = 9080) -> Reply:
        """A plaintext HTTP request to the workload's address: somebody who is not in the mesh."""
        address = (await self.replica(name))["address"]
        return await self.traffic.get(path, {"connection": "close"}, base=f"http://{address}:{port}")

    async def direct_line(self, name: str, line: str, port: int = 9000) -> str:
        """A line over plain TCP to the workload's address; its answer, "" if the connection is ended."""
        address = (await self.replica(name))["address"]

        def ask() -> str:
            try:
                with socket.create_connection((address, port), timeout=5) as connection:
                    connection.sendall(f"{line}\n".encode())
                    return connection.recv(4096).decode(errors="replace").strip()
            except OSError:
                return ""

        return await asyncio.to_thread(ask)

    async def seen(self, name: str, reset: bool = False) -> int:
        """How many requests the application has had."""
        reply = await self.direct(name, "/seen?reset=1" if reset else "/seen")
        if reply.status != 200:
            raise DemoError(f"{name} does not say what it has seen: {reply.status} {reply.body}")
        return int(reply.body["seen"])

    async def fail(self, name: str, share: float) -> None:
        """Make an application fail a share of its requests with 503 from now on."""
        reply = await self.direct(name, f"/fail?share={share:g}")
        if reply.status != 200:
            raise DemoError(f"{name} cannot be made to fail: {reply.status} {reply.body}")

    # What proxies count and log

    async def directory(self, name: str) -> Path:
        """The directory of the first ready replica's agent."""
        replica = (await self.replica(name))["name"]
        return self.mesh.place.state / "node" / NAMESPACE / str(replica)

    async def stats(self, name: str, pattern: str) -> dict[str, int]:
        """Envoy's counters and gauges whose name matches."""
        directory = await self.directory(name)
        try:
            found = await asyncio.to_thread(envoyadmin.get, directory, f"/stats?format=json&filter={pattern}")
        except click.ClickException as error:
            raise DemoError(error.message) from None
        return {one["name"]: one["value"] for one in found["stats"] if "name" in one}

    async def access_log(self, name: str) -> list[str]:
        """The lines of Envoy's access log."""
        text = await asyncio.to_thread((await self.directory(name)).joinpath(PROXY_LOG).read_text, errors="replace")
        return [line.removeprefix("[envoy] ") for line in text.splitlines() if line.startswith("[envoy] [20")]

    async def metrics(self, name: str) -> Metrics:
        """The samples on the workload's metrics page that have labels."""
        address = (await self.replica(name))["address"]
        reply = await self.traffic.get("/stats/prometheus", base=f"http://{address}:15020")
        if reply.status != 200:
            raise DemoError(f"{name} shows no metrics: {reply.status} {reply.body}")
        found = (_METRIC.match(line) for line in str(reply.body).splitlines())
        return [(one[1], dict(_LABEL.findall(one[2])), float(one[3])) for one in found if one]


def total(metrics: Metrics, name: str, **labels: str) -> int:
    """The sum of a metric's samples that have all these labels."""
    return int(sum(value for at, has, value in metrics if at == name and labels.items() <= has.items()))


def where(reply: Reply) -> str:
    """The version of the service that was called through `/call/`; its status where it has none."""
    inner: Any = reply.inner
    return str(inner.get("version") or reply.inner_status)
