"""How work grows: figures at several sizes, and the slope that fits them.

`python -m bench.scale.slopes` (or `python -m bench.scale --slopes`) measures

* processor time of one endpoint change against the number of services: it must not grow;
* resident memory of the control plane against the number of proxies: bytes for each additional one;
* bytes sent to a proxy against what changed, and against the number of services, on which they must not depend.

The exponent is the slope of the logarithms: 0 does not grow, 1 grows in proportion.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.scale import mesh
from bench.scale.compiling import Compiled, node
from bench.scale.fleets import Fleets, Roles, proxies
from bench.scale.mesh import Json, Size
from bench.scale.plane import Plane, certificates, load
from bench.scale.report import machine, shown, slope
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.ir.view import view_of_node
from fairlead.xds.messages import DeltaRequest
from fairlead.xds.session import Session
from fairlead.xds.wire import Encoder

_TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)


class Curve(NamedTuple):
    """A figure at several sizes. `unit` is `s` or `B`, `of` what is counted by the sizes."""

    name: str
    of: str
    unit: str
    points: tuple[tuple[int, float], ...]

    @property
    def slope(self) -> float:
        """By how much the figure grows with each one more (least squares)."""
        return slope([(float(size), value) for size, value in self.points])

    @property
    def exponent(self) -> float:
        """The slope of the logarithms."""
        return slope([(math.log(size), math.log(max(value, 1e-9))) for size, value in self.points])

    def lines(self) -> str:
        """For people."""
        each = f"{self.slope * 1e6:.3f} us" if self.unit == "s" else shown(self.slope, self.unit)
        measured = "  ".join(f"{size}: {_fine(value, self.unit)}" for size, value in self.points)
        return f"{self.name}\n  {measured}\n  {each} for each more of {self.of}, exponent {self.exponent:.2f}"


def _fine(value: float, unit: str) -> str:
    return f"{value * 1e3:.2f} ms" if unit == "s" and value < 1 else shown(value, unit)


class Told:
    """A proxy of a compiled mesh that takes everything, and the bytes that it is sent."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        [spec] = proxies(compiled.size, 1, Roles())
        self.view = view_of_node(*node(spec))
        publisher = compiled.model.publisher
        publisher.open(self.view)
        publisher.refresh()
        self._encoder = Encoder()
        self._session = Session(publisher.catalog(self.view), delta=True, patches=True)
        for type_url in _TYPES:
            named = type_url in (ENDPOINT, ROUTE)
            names = tuple(publisher.catalog(self.view)[type_url]) if named else ()
            self._session.receive(DeltaRequest(type_url, subscribe=names))
        self.sent()

    def sent(self) -> int:
        """Send what is due, have it acknowledged, and so on until nothing is left; the bytes of it."""
        size = 0
        while (response := self._session.next()) is not None:
            size += sum(map(len, self._encoder.delta(response)))
            self._session.receive(DeltaRequest(response.type_url, nonce=response.nonce))
        return size

    def after(self, documents: Sequence[Json]) -> int:
        """Bytes that one change of several documents sends."""
        self.compiled.put(documents)
        publisher = self.compiled.model.publisher
        changed = publisher.refresh().get(self.view, {})
        self._session.update(publisher.catalog(self.view), changed)
        return self.sent()


def moved(size: Size, count: int, run: int) -> list[Json]:
    """An endpoint of each of so many services is elsewhere."""
    found = [mesh.entry(size, number, 0) for number in range(count)]
    for number, one in enumerate(found):
        one["spec"]["address"] = f"10.{200 + run}.{number // 250}.{number % 250 + 1}"
    return found


def routed(size: Size, count: int, run: int) -> list[Json]:
    """Each of so many services has other routes."""
    return [mesh.virtual_service(size, number, f"v{number}", f"mark-{run}") for number in range(count)]


_SENT: dict[str, Callable[[Size, int, int], list[Json]]] = {"endpoint": moved, "VirtualService": routed}


def processor(services: Sequence[int], runs: int) -> list[Curve]:
    """Time of an endpoint change in the control plane: from the document to who is told. The least of the runs."""
    points: list[tuple[int, float]] = []
    for count in services:
        size = Size(count, 10, 50)
        compiled = Compiled(size)
        compiled.put(mesh.documents(size))
        compiled.open(200)
        compiled.model.publisher.refresh()
        gc.collect()
        gc.freeze()
        took = [compiled.took(moved(size, 1, run))[0] for run in range(runs)]
        points.append((count, min(took) / 1e3))
        gc.unfreeze()
    return [Curve("processor time of an endpoint change", "services", "s", tuple(points))]


def sent(services: Sequence[int], changed: Sequence[int]) -> list[Curve]:
    """Bytes to one proxy: for more and more of a change, and for one in a larger and larger mesh."""
    found: list[Curve] = []
    grown: dict[str, list[tuple[int, float]]] = {name: [] for name in _SENT}
    for count in services:
        size = Size(count, 10, 50)
        compiled = Compiled(size)
        compiled.put(mesh.documents(size))
        told = Told(compiled)
        for name, make in _SENT.items():
            # The first makes the objects; what is measured are changes of them.
            told.after(make(size, max(changed), 0))
            grown[name].append((count, told.after(make(size, 1, 1))))
        if count == services[-1]:
            for name, make in _SENT.items():
                points = tuple((many, float(told.after(make(size, many, 2 + at)))) for at, many in enumerate(changed))
                found.append(Curve(f"bytes to a proxy: {name}", "changed objects", "B", points))
    found += [Curve(f"bytes to a proxy: one {name}", "services", "B", tuple(grown[name])) for name in _SENT]
    return found


def memory(counts: Sequence[int], services: int, timeout: float) -> list[Curve]:
    """Resident memory of one control plane, to which more and more proxies come."""
    size = Size(services, 10, 50)
    state = Path(tempfile.mkdtemp(prefix="fairlead-slopes-"))
    plane = Plane(state)
    fleets: list[Fleets] = []
    points: list[tuple[int, float]] = []
    try:
        load(state, mesh.documents(size))
        plane.start(timeout)
        members = proxies(size, counts[-1], Roles(0, 0, 0))
        issued = state / "fleet.json"
        certificates(state, [(one["namespace"], one["account"]) for one in members], issued)
        there = 0
        for count in counts:
            made = Fleets(plane.target, state / "ca" / "root-cert.pem", issued, members[there:count], 2)
            fleets.append(made)
            begun = time.monotonic()
            made.connect(0)
            if made.synced(begun, timeout).missing:
                raise SystemExit(f"not all of {count} proxies are in sync after {timeout:.0f} s")
            made.settle()
            # What was needed on the way is given back a few seconds after the last has come.
            time.sleep(8)
            there = count
            points.append((count, float(plane.memory()["resident"])))
            print(f"  {count} proxies: {shown(points[-1][1], 'B')}", file=sys.stderr)
    finally:
        for one in fleets:
            one.stop()
        plane.stop()
        shutil.rmtree(state)
    return [Curve("resident memory of the control plane", "proxies", "B", tuple(points))]


def _numbers(text: str) -> list[int]:
    found = sorted({int(one) for one in text.split(",")})
    if len(found) < 4:
        raise argparse.ArgumentTypeError("a slope needs four sizes")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the arguments say; print, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.slopes", description=__doc__)
    parser.add_argument("--services", type=_numbers, default=[250, 500, 1000, 2000])
    parser.add_argument("--proxies", type=_numbers, default=[500, 1000, 2000, 4000])
    parser.add_argument("--changed", type=_numbers, default=[1, 2, 4, 8, 16, 32], help="objects in one change")
    parser.add_argument("--only", nargs="+", choices=["processor", "memory", "bytes"], default=[])
    parser.add_argument("--runs", type=int, default=30, help="of each endpoint change; the least counts")
    parser.add_argument("--timeout", type=float, default=600, help="for proxies to be in sync, seconds")
    parser.add_argument("--json", type=Path, default=Path("build/bench-slopes.json"))
    asked = parser.parse_args(arguments)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    described = machine()
    print("  ".join(f"{name}: {value}" for name, value in described.items()))
    found: list[Curve] = []
    for name, measure in (
        ("processor", lambda: processor(asked.services, asked.runs)),
        ("bytes", lambda: sent(asked.services, asked.changed)),
        ("memory", lambda: memory(asked.proxies, 1000, asked.timeout)),
    ):
        if asked.only and name not in asked.only:
            continue
        for curve in measure():
            print(curve.lines(), flush=True)
            found.append(curve)
    written = {
        "machine": described,
        "curves": [{**one._asdict(), "slope": one.slope, "exponent": one.exponent} for one in found],
    }
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(written, indent=2) + "\n")
    print(f"written: {asked.json}")


if __name__ == "__main__":
    main()
