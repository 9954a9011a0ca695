"""The sample shop as a mesh: how long it takes to start, how fast a change takes effect, what the agents weigh."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.apps import free_port
from tests.e2e.mesh import Api, ControlPlane, Process, eventually, request

from fairlead.model.yaml import parse_documents
from fairlead.node.addresses import Block

Json = dict[str, Any]
SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "shop"
TYPES = ("CDS", "LDS", "EDS", "RDS")


def _documents(port: int) -> list[Json]:
    """The shop, captured explicitly (the same for root and others), its gateway on a free port."""
    found: list[Json] = []
    for name in ("services.yaml", "processes.yaml", "gateway.yaml"):
        found += [one.data for one in parse_documents((SAMPLES / name).read_bytes(), name)]
    for one in found:
        if one["kind"] == "Process" and one["spec"].get("proxy") != "router":
            one["spec"]["capture"] = "explicit"
        if one["kind"] == "Gateway":
            one["spec"]["servers"][0]["port"]["number"] = port
    return found


class Shop:
    """A running shop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.block = Block(f"127.{random.randint(120, 139)}.0.0/16")
        self.plane = ControlPlane(directory)
        self.documents = _documents(free_port())
        self.node: Process | None = None
        self.seconds: dict[str, float] = {}

    @property
    def api(self) -> Api:
        """The API."""
        return self.plane.api

    def start(self) -> None:
        """From nothing to every proxy in sync; notes the seconds."""
        began = time.perf_counter()
        self.plane.start()
        self.seconds["control_plane"] = time.perf_counter() - began
        command = [sys.executable, "-m", "fairlead.cli.main", "node", "--state", str(self.plane.state)]
        self.node = Process([*command, "--loopback", str(self.block.network)], self.directory / "node.log")
        for one in self.documents:
            self.api.apply(one)
        wanted = sum(one["kind"] == "Process" for one in self.documents)
        self.seconds["applied"] = time.perf_counter() - began
        eventually(lambda: self._synced() >= wanted, "all proxies are in sync", 180)
        self.seconds["synced"] = time.perf_counter() - began
        eventually(self._healthy, "every workload is healthy", 180)
        self.seconds["healthy"] = time.perf_counter() - began
        self.seconds["proxies"] = wanted

    def _synced(self) -> int:
        listed = self.api.request("GET", "/fairlead/v1/proxies")["proxies"]
        return sum(all(one["types"][kind]["state"] == "SYNCED" for kind in TYPES) for one in listed)

    def _entries(self) -> list[Json]:
        return self.api.request("GET", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries")["items"]

    def _healthy(self) -> bool:
        wanted = sum(one["kind"] == "Process" and "proxy" not in one["spec"] for one in self.documents)
        said = [(one.get("status") or {}).get("conditions") or [] for one in self._entries()]
        return sum(any(c["type"] == "Healthy" and c["status"] == "True" for c in one) for one in said) == wanted

    def outbound(self, name: str) -> str:
        """Where the application of a replica calls out."""
        entry = next(one for one in self._entries() if one["metadata"]["name"] == name)
        number = int.from_bytes(bytes(map(int, entry["spec"]["address"].split("."))), "big") - int(
            self.block.network.network_address
        )
        return self.block.addresses(number).outbound

    def effects(self, edits: int) -> list[float]:
        """Milliseconds from sending each edit of a VirtualService to the first answer that shows it."""
        at = self.outbound("web-v1-0")
        found: list[float] = []
        for edit in range(edits + 3):
            text = f"edit-{edit}"
            rule = {"directResponse": {"status": 200, "body": {"string": text}}}
            document = {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": "reviews", "namespace": "shop"},
                "spec": {"hosts": ["reviews"], "http": [rule]},
            }
            began = time.perf_counter()
            self.api.apply(document)
            while request(at, 9080, host="reviews:9080").text != text:
                if time.perf_counter() - began > 20:
                    raise RuntimeError(f"{text} was not seen within 20 s")
            if edit >= 3:  # the first ones warm up
                found.append((time.perf_counter() - began) * 1000)
        return found

    def memory(self) -> dict[str, list[float]]:
        """Resident megabytes: control plane, node, agents, Envoys (by the directory they run in or name)."""
        found: dict[str, list[float]] = {"control_plane": [], "node": [], "agent": [], "envoy": []}
        here = str(self.plane.state)
        for pid in _processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                at = str(Path(f"/proc/{pid}/cwd").readlink())
                if not any(here in word for word in words) and not at.startswith(here):
                    continue
                kind = _kind(words)
                if kind:
                    found[kind].append(rss(pid))
        return found

    def stop(self) -> None:
        """End everything: the Processes are deleted first, so that the node ends its replicas."""
        with contextlib.suppress(Exception):
            for one in self.documents:
                if one["kind"] == "Process":
                    self.api.delete(one)
            eventually(lambda: not self._entries(), "replicas are gone", 60)
            eventually(lambda: not self.memory()["agent"], "agents are gone", 60)
        if self.node is not None:
            self.node.stop()
        self.plane.stop()
        # Whatever of ours is left after that.
        here = str(self.plane.state)
        for pid in _processes():
            with contextlib.suppress(OSError):
                if here in Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace"):
                    os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    """The ids of all processes."""
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]


def _kind(words: list[str]) -> str:
    if Path(words[0]).name == "envoy":
        return "envoy"
    for word, kind in (("serve", "control_plane"), ("node", "node"), ("agent", "agent")):
        if word in words:
            return kind
    return ""


def rss(pid: int) -> float:
    """Resident memory of a process in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


@contextlib.contextmanager
def shop() -> Iterator[Shop]:
    """A shop that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fl-bench-") as directory:
        made = Shop(Path(directory))
        try:
            made.start()
            yield made
        finally:
            made.stop()
