"""What a push with its answer costs the port of configuration streams: `python -m bench.scale.pushes`.

A server with a source of its own (no compiler, no record of proxies) in this process, the fleet in others. Each round
changes some endpoint sets that all proxies have, and ends when all have acknowledged them. The figure is processor time
of the server's process: the median over rounds, for each stream. Not a test: machines differ, so compare two versions
of the code on one machine within a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import uvloop
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2

from bench.scale.fleets import Fleets, Roles, proxies
from bench.scale.mesh import Size
from bench.scale.plane import certificates
from fairlead.ca.authority import open_authority
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, Resource
from fairlead.model.identity import Identity
from fairlead.xds.messages import Event
from fairlead.xds.server import Connection, Server, Wake
from fairlead.xds.wire import Node

Rows = dict[str, Resource]


def _cluster(name: str, mark: str) -> Resource:
    made = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, alt_stat_name=f"{mark}{'x' * 1200}")
    made.eds_cluster_config.eds_config.ads.SetInParent()
    return Resource.of(CLUSTER, name, made.SerializeToString(deterministic=True))


def _endpoints(name: str, mark: int) -> Resource:
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    for number in range(10):
        at = made.endpoints.add().lb_endpoints.add()
        address = at.endpoint.address.socket_address
        address.address = f"10.{number}.{mark // 250 % 250}.{mark % 250}" if number == 3 else f"10.{number}.9.9"
        address.port_value = 8080
        at.metadata.filter_metadata["istio"].update({"workload": f"{name};{'w' * 120}"})
    return Resource.of(ENDPOINT, name, made.SerializeToString(deterministic=True))


class _World:
    """Source, subscription and observer at once."""

    version = "1"

    def __init__(self, names: int) -> None:
        self.names = [f"outbound|80||s{number}.ns.svc.cluster.local" for number in range(names)]
        listener = listener_pb2.Listener(name="0.0.0.0_80").SerializeToString()
        self.rows: dict[str, Rows] = {
            CLUSTER: {name: _cluster(name, "") for name in self.names},
            ENDPOINT: {name: _endpoints(name, 0) for name in self.names},
            LISTENER: {"0.0.0.0_80": Resource.of(LISTENER, "0.0.0.0_80", listener)},
        }
        self.catalog = self.rows
        self.wakes: list[Wake] = []
        self.waiting: set[int] = set()
        self.done = asyncio.Event()

    async def open(self, peer: Identity, node: Node, wake: Wake) -> _World:
        self.wakes.append(wake)
        return self

    def close(self) -> None:
        pass

    def connected(self, connection: Connection) -> None:
        pass

    def events(self, connection: Connection, events: Sequence[Event]) -> None:
        pass

    def settled(self, connection: Connection) -> None:
        self.waiting.discard(connection.id)
        if not self.waiting:
            self.done.set()

    def disconnected(self, connection: Connection) -> None:
        pass

    def change(self, type_url: str, changed: Rows) -> None:
        rows, before = self.rows[type_url], dict[str, Resource | None]()
        for name, resource in changed.items():
            before[name] = rows.get(name)
            rows[name] = resource
        for wake in self.wakes:
            wake({type_url: before})


async def _measured(options: argparse.Namespace, kept: Path) -> None:
    world, size = _World(options.names), Size(options.streams, 1, 20)
    authority = open_authority(kept / "ca", "cluster.local", lambda: datetime.now(UTC))
    own = authority.issue_server(["localhost"])
    server = Server(
        "127.0.0.1:0", world, world, lambda: (own.key, own.chain, authority.root_pem.encode()), "cluster.local"
    )
    await server.start()
    members = proxies(size, options.streams, Roles(0, 0, 0))
    certificates(kept, [(one["namespace"], one["account"]) for one in members], kept / "certificates.json")
    (kept / "root.pem").write_text(authority.root_pem)
    fleets = await asyncio.to_thread(
        Fleets, f"127.0.0.1:{server.port}", kept / "root.pem", kept / "certificates.json", members, options.processes
    )
    try:
        await asyncio.to_thread(fleets.connect, 0)
        await asyncio.to_thread(fleets.synced, time.monotonic(), 300)
        for type_url, many in ((ENDPOINT, 1), (CLUSTER, 1), (ENDPOINT, options.changes)):
            await _rounds(options, world, server, fleets, type_url, many)
    finally:
        await asyncio.to_thread(fleets.stop)
        await server.stop(0)


async def _rounds(
    options: argparse.Namespace, world: _World, server: Server, fleets: Fleets, type_url: str, many: int
) -> None:
    used: list[float] = []
    told: list[float] = []
    theirs = fleets.cpu()
    for number in range(options.rounds):
        names = random.sample(world.names, many)
        mark = number * 7 + many + 1
        made = {
            name: _endpoints(name, mark) if type_url == ENDPOINT else _cluster(name, f"{mark}-{many}") for name in names
        }
        world.waiting = set(server.live)
        world.done.clear()
        begun = time.process_time()
        world.change(type_url, made)
        told.append((time.process_time() - begun) / options.streams)
        await world.done.wait()
        used.append((time.process_time() - begun) / options.streams)
        await asyncio.sleep(0.02)
    theirs = (fleets.cpu() - theirs) / options.rounds / options.streams
    print(
        f"{many} changed {type_url.rpartition('.')[2]}: {median(used) * 1e6:.1f} us a stream "
        f"(least {min(used) * 1e6:.1f}), of which to tell it {median(told) * 1e6:.1f}; "
        f"the fleet {theirs * 1e6:.0f} us",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.pushes", description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--names", type=int, default=200, help="clusters, each with an endpoint set")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--changes", type=int, default=30, help="endpoint sets that change at once, in the last part")
    parser.add_argument("--processes", type=int, default=1, help="of the fleet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fairlead-pushes-") as kept:
        uvloop.run(_measured(options, Path(kept)))


if __name__ == "__main__":
    main()
