"""What questions cost a control plane that serves a fleet: over HTTP, and how long proxies wait meanwhile.

`python -m bench.explain.live [--services N] [--endpoints N] [--proxies N] [--runs N]`

A control plane in a process of its own, with simulated proxies connected (`bench/scale`). Each question is asked as the
commands ask it. Meanwhile another client asks for the version of the API again and again: it is answered by the same
event loop that serves proxies, so its slowest answer says how long the loop stood still at most. The last rows are
endpoint changes that are pushed while nothing is asked, and while a diff is asked again and again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.explain.served import Fleet, served
from bench.scale import mesh
from bench.scale.fleets import Fleets
from bench.scale.mesh import Size
from bench.scale.plane import Plane
from bench.scale.proxy import ENDPOINT
from fairlead.cli.client import PATIENCE, Client, read_kubeconfig

Json = dict[str, Any]


class Ping:
    """Asks for something cheap without a pause, on a connection of its own; how long the slowest answer took."""

    def __init__(self, state: Path) -> None:
        self._client = Client(read_kubeconfig(state / "kubeconfig"))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.slowest = 0.0
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            begun = time.monotonic()
            self._client.request("GET", "/version")
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join()
        self._client.close()


def row(name: str, ping: Ping, runs: int, ask: Callable[[int], str]) -> None:
    """One line of the table: median and slowest in ms, the loop's longest pause, and what came out."""
    took: list[float] = []
    out = ""
    ping.slowest = 0.0
    for number in range(runs):
        begun = time.monotonic()
        out = ask(number)
        took.append((time.monotonic() - begun) * 1000)
    paused = ping.slowest * 1000
    print(f"{name:<44} {statistics.median(took):8.0f} {max(took):8.0f} {paused:8.0f}   {out}", flush=True)


class Questions:
    """The questions, as the commands ask them."""

    def __init__(self, plane: Plane, size: Size) -> None:
        self._client = Client(read_kubeconfig(plane.state / "kubeconfig"))
        self._size = size

    def edited(self, number: int) -> str:
        """`diff` of routes that change for everybody."""
        index = number * 10 % self._size.services
        new = mesh.virtual_service(self._size, index, f"v{index}", f"changed{number}")
        return self._effect({"documents": [new]})

    def deleted(self, number: int) -> str:
        """`diff` of a Service that goes."""
        name, namespace, *_ = self._size.host(number + 1).split(".")
        return self._effect({"deleted": [{"kind": "Service", "namespace": namespace, "name": name}]})

    def _effect(self, change: Json) -> str:
        found = self._client.request("POST", "/fairlead/v1/effect", change, seconds=PATIENCE).document
        return f"{found['proxies']} proxies, {len(found['dangers'])} dangers"

    def explained(self, path: str, *, exact: bool = False) -> Callable[[int], str]:
        """`explain` of a path; `HOST` is the next host with routes of its own."""

        def ask(number: int) -> str:
            at = quote(path.replace("HOST", self._size.host(number * 10 % self._size.services)), safe="")
            more = "&exact=true" if exact else ""
            where = f"/fairlead/v1/explain/s1-0.{self._size.namespace(1)}?path={at}{more}"
            found = self._client.request("GET", where, seconds=PATIENCE).document
            (one,) = found["resources"]
            return f"{len(one['settings'])} settings{', not exact' if 'inexact' in one else ''}"

        return ask

    def affected(self, group: str, kind: str, name: str) -> Callable[[int], str]:
        """`affects` of an object."""

        def ask(number: int) -> str:
            index = number * 10 % self._size.services
            query = f"group={group}&kind={kind}&namespace={self._size.namespace(index)}&name={name}{index}"
            found = self._client.request("GET", f"/fairlead/v1/affects?{query}", seconds=PATIENCE).document
            return f"{sum(one['proxies']['count'] for one in found['affects'])} proxies"

        return ask


def pushes(plane: Plane, fleets: Fleets, size: Size, runs: int) -> list[float]:
    """Milliseconds until every proxy had acknowledged an endpoint's new address."""
    out: list[float] = []
    for number in range(runs):
        where = f"10.251.{time.monotonic_ns() // 1000 % 250}.{number + 1}"
        waiting = fleets.expect(ENDPOINT, f"outbound|80||{size.host(0)}", where)
        begun = time.monotonic()
        plane.patch(mesh.entry(size, 0, 0), {"spec": {"address": where}})
        out.append(waiting.wait(begun).percentile(1) * 1000)
    return out


def ask(options: argparse.Namespace, plane: Plane, fleets: Fleets, size: Size) -> None:
    """All rows."""
    asked, ping = Questions(plane, size), Ping(plane.state)
    print(f"{'milliseconds':<44} {'median':>8} {'slowest':>8} {'pause':>8}")
    try:
        time.sleep(1)
        row("nothing is asked", ping, 1, lambda _: time.sleep(2) or "")
        row("diff: a VirtualService edited", ping, options.runs, asked.edited)
        row("diff: a Service deleted", ping, options.runs, asked.deleted)
        row("explain: a setting of a cluster", ping, options.runs, asked.explained("clusters/*|HOST/connectTimeout"))
        row("explain: a cluster", ping, options.runs, asked.explained("clusters/*|HOST"))
        row("explain: endpoints", ping, options.runs, asked.explained("endpoints/*|HOST"))
        row("explain: a virtual host", ping, options.runs, asked.explained("routes/80/virtualHosts[HOST*]"))
        row("explain: all routes of the port", ping, 3, asked.explained("routes/80"))
        row("explain: the inbound listener", ping, options.runs, asked.explained("listeners/virtualInbound"))
        networking = "networking.istio.io"
        row("affects: a VirtualService", ping, options.runs, asked.affected(networking, "VirtualService", "v"))
        row("affects: a Service", ping, options.runs, asked.affected("", "Service", "s"))
    finally:
        ping.stop()
    alone = pushes(plane, fleets, size, options.runs)
    print(f"{'push to all while nothing is asked':<44} {statistics.median(alone):8.0f} {max(alone):8.0f}")
    ended = threading.Event()
    client = Client(read_kubeconfig(plane.state / "kubeconfig"))
    new = mesh.virtual_service(size, 0, "v0", "again")

    def again() -> None:
        while not ended.is_set():
            client.request("POST", "/fairlead/v1/effect", {"documents": [new]})

    thread = threading.Thread(target=again)
    thread.start()
    try:
        beside = pushes(plane, fleets, size, options.runs)
    finally:
        ended.set()
        thread.join()
        client.close()
    print(f"{'push to all while a diff is worked on':<44} {statistics.median(beside):8.0f} {max(beside):8.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--namespaces", type=int, default=50)
    parser.add_argument("--proxies", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--timeout", type=float, default=300, help="for all proxies to be in sync, seconds")
    options = parser.parse_args()
    size = Size(options.services, options.endpoints, options.namespaces)
    state = Path(tempfile.mkdtemp(prefix="fairlead-live-"))
    plane = Plane(state)
    fleet = Fleet(options.proxies, 2, options.timeout)
    with served(plane, state, size, fleet) as (fleets, objects):
        resident = plane.memory()["resident"] >> 20
        print(f"{objects} objects, {options.proxies} proxies, {resident} MB, load {os.getloadavg()[0]:.1f}")
        ask(options, plane, fleets, size)


if __name__ == "__main__":
    main()
