"""A long run with churn, refusals and reconnects: memory must be flat, and at the end everybody must have everything.

    python -m bench.scale.soak --seconds 600 --services 300 --proxies 300

At the end the bytes that every proxy holds are compared with what another process compiles from a copy of the store.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.scale import mesh
from bench.scale.fleets import Fleets, Roles, proxies
from bench.scale.mesh import Size
from bench.scale.plane import Plane, certificates, load
from bench.scale.proxy import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, POISON, ROUTE, claimed, digest
from bench.scale.report import machine, shown, slope

Held = dict[str, dict[str, str]]
"""Hashes of bytes by type and name."""
_SAMPLE_SECONDS = 2.0
_WARM_SHARE = 0.3
"""Of the run: so long caches fill, and memory is not judged."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--services", type=int, default=300)
    parser.add_argument("--endpoints", type=int, default=5, help="of each service")
    parser.add_argument("--namespaces", type=int, default=20)
    parser.add_argument("--proxies", type=int, default=300)
    parser.add_argument("--processes", type=int, default=1, help="of the fleet")
    parser.add_argument("--rate", type=float, default=20, help="changes a second")
    parser.add_argument("--misbehaving", type=float, default=0.05, help="share each that refuses, is slow, reconnects")
    parser.add_argument("--timeout", type=float, default=180, help="for all to be in sync at the end, seconds")
    parser.add_argument("--json", type=Path, default=Path("build/bench-soak.json"))
    parser.add_argument("--expected", nargs=2, type=Path, metavar=("STORE", "MEMBERS"), help=argparse.SUPPRESS)
    return parser.parse_args()


# The other process: what everybody should have, from nothing but the store.


def expected(store: Path, members: list[dict[str, Any]]) -> dict[int, Held]:
    """What each proxy should hold, as hashes of bytes."""
    from fairlead.compiler.model import MeshModel
    from fairlead.ir.view import view_of_node
    from fairlead.store.store import Store

    opened = Store(store)
    documents, _ = opened.snapshot()
    model = MeshModel()
    read = [model.kinds.read(one, ref.namespace or "default")[0] for ref, one in dict(documents).items()]
    model.apply([one for one in read if one is not None])
    opened.close()
    hashes: dict[int, str] = {}
    kept: list[Any] = []
    found: dict[int, Held] = {}
    for one in members:
        catalog = model.compile(view_of_node(*claimed(one)))
        for rows in catalog.values():
            for resource in rows.values():
                if id(resource) not in hashes:
                    # Kept, so that no other can have its id.
                    kept.append(resource)
                    hashes[id(resource)] = digest(resource.body)
        found[one["index"]] = {
            type_url: {name: hashes[id(resource)] for name, resource in rows.items()}
            for type_url, rows in catalog.items()
        }
    return found


def differences(held: Held, should: Held) -> list[str]:
    """How what a proxy holds differs. Of endpoints and routes it has those that it asked for."""
    said: list[str] = []
    for type_url in (CLUSTER, LISTENER, NAME_TABLE, ENDPOINT, ROUTE):
        have, want = held.get(type_url, {}), should.get(type_url, {})
        short = type_url.rpartition(".")[2]
        missing = want.keys() - have.keys() if type_url in (CLUSTER, LISTENER, NAME_TABLE) else ()
        said += [f"{short} {name} is missing" for name in sorted(missing)]
        for name, hashed in sorted(have.items()):
            if name not in want:
                said.append(f"{short} {name} should not be there")
            elif want[name] != hashed:
                said.append(f"{short} {name} has other bytes")
    return said


# The run.


class Soak:
    """A mesh under churn."""

    def __init__(self, size: Size, plane: Plane, fleets: Fleets) -> None:
        self.size = size
        self.plane = plane
        self.fleets = fleets
        self.changes = 0
        self.memory: list[tuple[float, int]] = []
        self.rows: list[tuple[float, int]] = []

    def churn(self, seconds: float, rate: float) -> None:
        """Change things for so long, and look at memory."""
        begun = time.monotonic()
        sampled = 0.0
        while (now := time.monotonic() - begun) < seconds:
            due = self.changes / rate
            if now < due:
                time.sleep(min(due - now, 0.5))
                continue
            self._change(self.changes)
            self.changes += 1
            if now - sampled >= _SAMPLE_SECONDS:
                sampled = now
                self.memory.append((now, self.plane.memory()["resident"]))
                held: dict[str, int] = self.plane.send("GET", "/fairlead/v1/memory")["held"]
                self.rows.append((now, sum(held.values())))
            if self.changes % 1000 == 0:
                print(f"  {now:.0f} s: {self.changes} changes, {shown(self.memory[-1][1], 'B')}", file=sys.stderr)

    def _change(self, number: int) -> None:
        size, plane = self.size, self.plane
        index = number * 17 % size.services
        match number % 20:
            case 3:
                # A thing that some proxies refuse, and later one that they do not.
                mark = POISON.decode() if number // 20 % 2 else f"mended-{number}"
                plane.apply(mesh.virtual_service(size, 1 % size.services, "poison", mark))
            case 9 | 13:
                plane.apply(
                    mesh.virtual_service(size, number % 7 % size.services, f"soak{number % 7}", f"mark-{number}")
                )
            case 11:
                plane.apply(mesh.destination_rule(size, index, f"soak{index}", f"sni-{number}.test"))
            case 15:
                plane.apply(mesh.service(size, 61000 + number // 20 % 3, f"late{number // 20 % 3}"))
            case 19:
                made = mesh.service(size, 61000 + number // 20 % 3, f"late{number // 20 % 3}")
                plane.delete(made)
            case _:
                where = f"10.252.{number // 250 % 250}.{number % 250 + 1}"
                plane.patch(mesh.entry(size, index, number % size.endpoints), {"spec": {"address": where}})

    def finish(self) -> int:
        """Take back what some proxies refuse; the revision of that, the last change of the run."""
        made = self.plane.apply(mesh.virtual_service(self.size, 1 % self.size.services, "poison", "mended"))
        return int(made["metadata"]["resourceVersion"])

    def settled(self, revision: int, timeout: float) -> float:
        """Wait until each proxy has been seen without anything due since `revision`: after how many seconds.

        Not all at once, since some come and go. Raises SystemExit.
        """
        begun = time.monotonic()
        left = {f"{one['namespace']}/{one['name']}" for one in self.fleets.members}
        while True:
            found: dict[str, Any] = self.plane.send("GET", "/fairlead/v1/proxies?brief=true")
            if found["revision"] >= revision:
                listed: list[dict[str, Any]] = found["proxies"]
                left -= {f"{one['namespace']}/{one['name']}" for one in listed if one["behindSeconds"] is None}
            took = time.monotonic() - begun
            if not left and not found["refused"]:
                return took
            if took > timeout:
                raise SystemExit(f"not in sync after {timeout:.0f} s: {', '.join(sorted(left)[:10])}")
            time.sleep(0.2)

    def compared(self, state: Path) -> dict[int, list[str]]:
        """How what proxies hold differs from what another process compiles. The control plane has ended before."""
        members = state / "members.json"
        members.write_text(json.dumps(self.fleets.members))
        command = [sys.executable, "-m", "bench.scale.soak", "--expected", str(state / "store.db"), str(members)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        should = {int(index): held for index, held in json.loads(done.stdout).items()}
        held = self.fleets.held(list(should))
        return {index: said for index in should if (said := differences(held.get(index, {}), should[index]))}


def flat(points: list[tuple[float, int]]) -> tuple[float, float]:
    """Growth in units an hour over the judged part, and the spread there."""
    judged = [(at, float(value)) for at, value in points if at >= points[-1][0] * _WARM_SHARE]
    values = [value for _, value in judged]
    return slope(judged) * 3600, max(values) - min(values)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole soak; what it found. Raises SystemExit if a proxy is wrong at the end."""
    size = Size(options.services, options.endpoints, options.namespaces)
    state = Path(tempfile.mkdtemp(prefix="fairlead-soak-"))
    plane = Plane(state)
    fleets: Fleets | None = None
    try:
        load(state, mesh.documents(size))
        members = proxies(size, options.proxies, Roles(*[options.misbehaving] * 3))
        plane.start()
        issued = state / "fleet.json"
        certificates(state, [(one["namespace"], one["account"]) for one in members], issued)
        root = state / "ca" / "root-cert.pem"
        fleets = Fleets(plane.target, root, issued, members, options.processes, digests=True)
        begun = time.monotonic()
        fleets.connect(0)
        if missing := fleets.synced(begun, options.timeout).missing:
            raise SystemExit(f"{missing} proxies were not in sync at the start")
        soak = Soak(size, plane, fleets)
        soak.churn(options.seconds, options.rate)
        seconds = soak.settled(soak.finish(), options.timeout)
        counted, metrics = fleets.counters(), plane.metrics()
        plane.stop()
        wrong = soak.compared(state)
        growth, spread = flat(soak.memory)
        rows_growth, rows_spread = flat(soak.rows)
        return {
            "machine": machine(),
            "options": {key: str(value) for key, value in vars(options).items()},
            "changes": soak.changes,
            "changes_per_second": soak.changes / options.seconds,
            "nacks": counted["nacks"],
            "connections": counted["connections"],
            "resident_start": soak.memory[0][1],
            "resident_end": soak.memory[-1][1],
            "resident_growth_per_hour": growth,
            "resident_spread": spread,
            "rows_growth_per_hour": rows_growth,
            "rows_spread": rows_spread,
            "behind_at_end": metrics.get("fairlead_proxies_behind"),
            "refusing_at_end": metrics.get("fairlead_proxies_refusing"),
            "compared": len(members),
            "in_sync_after": seconds,
            "wrong": {str(index): said[:5] for index, said in wrong.items()},
            "memory": soak.memory,
        }
    finally:
        if fleets is not None:
            fleets.stop()
        plane.stop()
        shutil.rmtree(state)


def main() -> None:
    """Run, print, write; exit status 1 if a proxy holds something else than it should."""
    options = _arguments()
    if options.expected:
        store, members = options.expected
        json.dump(expected(store, json.loads(members.read_text())), sys.stdout)
        return
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    found = run(options)
    growth, spread = found["resident_growth_per_hour"], found["resident_spread"]
    print(f"{found['changes']} changes in {options.seconds:.0f} s, {options.proxies} proxies")
    print(f"refusals {found['nacks']}, connections {found['connections']}")
    start, end = shown(found["resident_start"], "B"), shown(found["resident_end"], "B")
    print(f"resident {start} to {end}; slope {shown(growth, 'B')} an hour, spread {shown(spread, 'B')}")
    print(f"rows and values: slope {found['rows_growth_per_hour']:.0f} an hour, spread {found['rows_spread']:.0f}")
    same = found["compared"] - len(found["wrong"])
    print(f"{same} of {found['compared']} proxies hold what a compile from nothing gives, byte for byte")
    for index, said in list(found["wrong"].items())[:10]:
        print(f"  proxy {index}: {'; '.join(said)}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(f"written: {options.json}")
    if found["wrong"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
