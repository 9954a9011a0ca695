"""A control plane that serves a simulated fleet, for questions that are asked of it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.scale import mesh
from bench.scale.fleets import Fleets, Roles, proxies
from bench.scale.mesh import Json, Size
from bench.scale.plane import Plane, certificates, load


class Fleet(NamedTuple):
    """How many proxies there are, in how many processes, and how many seconds they have to be in sync."""

    proxies: int
    processes: int
    timeout: float


@contextlib.contextmanager
def served(plane: Plane, state: Path, size: Size, fleet: Fleet, *more: Json) -> Iterator[tuple[Fleets, int]]:
    """The fleet, in sync, and the number of objects: services, a VirtualService for every tenth, and `more`.

    At the end everything is stopped and `state` removed.
    """
    fleets: Fleets | None = None
    try:
        rules = [mesh.virtual_service(size, at, f"v{at}", "r") for at in range(0, size.services, 10)]
        objects = load(state, [*mesh.documents(size), *rules, *more])
        members = proxies(size, fleet.proxies, Roles(0, 0, 0))
        plane.start()
        issued = state / "fleet.json"
        certificates(state, [(one["namespace"], one["account"]) for one in members], issued)
        fleets = Fleets(plane.target, state / "ca" / "root-cert.pem", issued, members, fleet.processes)
        begun = time.monotonic()
        fleets.connect(0)
        if fleets.synced(begun, fleet.timeout).missing:
            raise SystemExit(f"not all proxies are in sync; log: {plane.log.read_text()[-2000:]}")
        yield fleets, objects
    finally:
        if fleets is not None:
            fleets.stop()
        plane.stop()
        shutil.rmtree(state)
