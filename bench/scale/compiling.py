"""What compiling costs, in one process and without a wire.

`python -m bench.scale.compiling --services 1000 --views 5000`

Times are of the processor; of changes, the least of `--runs` of a kind, from the documents to what each view is told.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.scale import mesh
from bench.scale.fleets import Roles, proxies
from bench.scale.mesh import Json, Size


def resident() -> float:
    """MB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def node(spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The node id and metadata that a simulated proxy sends (see `bench.scale.proxy`)."""
    name, namespace, ip = spec["name"], spec["namespace"], spec["address"]
    metadata = {
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": spec["account"],
        "LABELS": {"app": spec["account"]},
        "INSTANCE_IPS": ip,
        "NAME": name,
    }
    return f"sidecar~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local", metadata


class Compiled:
    """A mesh that is loaded, and its open views."""

    def __init__(self, size: Size) -> None:
        from fairlead.compiler.model import MeshModel

        self.size = size
        self.model = MeshModel()

    def put(self, documents: Iterable[Json]) -> None:
        """Write documents as one change."""
        found = [self.model.kinds.read(document)[0] for document in documents]
        self.model.apply([one for one in found if one is not None])

    def open(self, count: int, first: int = 0) -> None:
        """Open the views of proxies."""
        from fairlead.ir.view import view_of_node

        for spec in proxies(self.size, count, Roles())[first:]:
            self.model.publisher.open(view_of_node(*node(spec)))

    def took(self, documents: Iterable[Json]) -> tuple[float, int, int]:
        """Milliseconds of a change, how many views it concerned, and rules run."""
        found = [self.model.kinds.read(document)[0] for document in documents]
        runs = self.model.engine.runs.total()
        began = time.process_time()
        self.model.apply([one for one in found if one is not None])
        changed = self.model.publisher.refresh()
        took = (time.process_time() - began) * 1e3
        return took, len(changed), self.model.engine.runs.total() - runs

    def removed(self, document: Json) -> tuple[float, int, int]:
        """The same for an object that goes."""
        found = self.model.kinds.read(document)[0]
        assert found is not None
        runs = self.model.engine.runs.total()
        began = time.process_time()
        self.model.apply((), [found.ref])
        changed = self.model.publisher.refresh()
        return (time.process_time() - began) * 1e3, len(changed), self.model.engine.runs.total() - runs


def changes(size: Size, run: int) -> dict[str, Json]:
    """A change of each kind, another one in each run."""
    entry = mesh.entry(size, 7, 0)
    entry["spec"]["address"] = f"10.200.{run}.1"
    touched = mesh.service(size, 11)
    touched["metadata"]["annotations"] = {"note": str(run)}
    return {
        "endpoint": entry,
        "VirtualService": mesh.virtual_service(size, 3, "v", f"m{run}"),
        "DestinationRule": mesh.destination_rule(size, 4, "d", f"m{run}"),
        "AuthorizationPolicy": mesh.authorization(size, 5, "a", f"m{run}"),
        "new Service": mesh.service(size, size.services + run, f"n{run}"),
        "metadata only": touched,
    }


def measure(size: Size, views: int, runs: int) -> None:
    """Print everything about one size."""
    base = resident()
    compiled = Compiled(size)
    imported = resident()
    began = time.process_time()
    compiled.put(mesh.documents(size))
    loaded = time.process_time()
    compiled.open(min(size.namespaces, views))
    first = time.process_time()
    gc.collect()
    mesh_memory = resident()
    compiled.open(views, first=size.namespaces)
    opened = time.process_time()
    gc.collect()
    everything = resident()
    compiled.model.publisher.refresh()
    print(f"{size.services} services x {size.endpoints}, {size.namespaces} namespaces, {views} views")
    print(f"  load {loaded - began:.2f} s, a view in each namespace {first - loaded:.2f} s", end="")
    more = max(views - size.namespaces, 1)  # none more: the figures mean nothing
    print(f", {more} more {opened - first:.2f} s ({(opened - first) * 1e3 / more:.3f} ms each)")
    print(f"  resident {base:.0f} MB, imported {imported:.0f}, a view in each namespace {mesh_memory:.0f},", end="")
    print(f" all {everything:.0f} ({(everything - mesh_memory) * 1e6 / more:.0f} B a view)")
    print(f"  {compiled.model.publisher.sizes()}")
    found: dict[str, list[tuple[float, int, int]]] = {}
    for run in range(runs):
        for name, document in changes(size, run).items():
            found.setdefault(name, []).append(compiled.took([document]))
        found.setdefault("Service removed", []).append(compiled.removed(changes(size, run)["new Service"]))
    for name, made in found.items():
        times = " ".join(f"{one[0]:.2f}" for one in made)
        print(f"  {name:20} {min(one[0] for one in made):8.2f} ms [{times}] {made[-1][1]} views, {made[-1][2]} rules")


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--namespaces", type=int, default=50)
    parser.add_argument("--views", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    measure(Size(asked.services, asked.endpoints, asked.namespaces), asked.views, asked.runs)


if __name__ == "__main__":
    main()
