"""Endpoints that this host has registered: how they are, and which commands of `fairlead run` still live."""

from __future__ import annotations

import msgspec

from fairlead.model.manifest import Json
from fairlead.node.api import WORKLOAD_ENTRIES, Client
from fairlead.node.files import NodeFiles
from fairlead.node.hostprocess import Identity, identify
from fairlead.node.launch import HEALTH_CHECKS

RUN_FILE = "run.json"


async def register(client: Client, entry: Json) -> None:
    """Register a WorkloadEntry. One whose agent reports health begins as unhealthy, so that no request comes too early.

    Raises ApiError.
    """
    meta = entry["metadata"]
    path = WORKLOAD_ENTRIES.path(meta["namespace"], meta["name"])
    await client.apply(path, entry)
    if HEALTH_CHECKS in meta.get("annotations", {}):
        condition = {"type": "Healthy", "status": "False", "reason": "Starting", "message": "not ready yet"}
        await client.merge(f"{path}/status", {"status": {"conditions": [condition]}})


class Run(msgspec.Struct, frozen=True):
    """A command that `fairlead run` looks after, written to its directory while it does."""

    identity: Identity
    netns: str = ""


class LiveRuns:
    """The runs of a state directory."""

    def __init__(self, files: NodeFiles) -> None:
        self._files = files

    def write(self, namespace: str, name: str, run: Run) -> None:
        """Record a run."""
        self._files.write(self._files.directory(namespace, name) / RUN_FILE, msgspec.json.encode(run))

    def live(self) -> set[tuple[str, str]]:
        """(namespace, name) of the runs whose process is there."""
        return {where for where, run in self._all().items() if run is not None}

    def namespaces(self) -> set[str]:
        """The network namespaces that live runs use."""
        return {run.netns for run in self._all().values() if run is not None and run.netns}

    def clean(self) -> None:
        """Clear the directories of runs that were killed."""
        for (namespace, name), run in self._all().items():
            if run is None:
                self._files.clear(namespace, name)

    def _all(self) -> dict[tuple[str, str], Run | None]:
        out: dict[tuple[str, str], Run | None] = {}
        for file in self._files.root.glob(f"*/*/{RUN_FILE}"):
            try:
                run = msgspec.json.decode(file.read_bytes(), type=Run)
            except (OSError, msgspec.DecodeError):
                continue
            alive = identify(run.identity.pid) == run.identity
            out[file.parent.parent.name, file.parent.name] = run if alive else None
        return out
