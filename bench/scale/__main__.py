"""Command line of the scale benchmark."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.scale import mesh
from bench.scale import slopes as growth
from bench.scale.fleets import Fleets, Roles, proxies
from bench.scale.mesh import Size
from bench.scale.plane import Plane, certificates, load
from bench.scale.proxy import ENDPOINT
from bench.scale.report import machine, shown, slope, table
from bench.scale.rows import Bench, Row

_TARGETS: dict[str, tuple[float, float]] = {
    "endpoint": (0.12, 0.6),
    "routes": (0.25, 1.2),
    "private": (0.04, 0.08),
    "authorization": (0.03, 0.03),
    "service": (0.3, 1.5),
    "cold": (12, 60),
    "churn": (0.3, 1.5),
    "memory": (350 << 20, 700 << 20),
}


def _target(name: str, count: int) -> float | None:
    """The figure to meet: for 1,000 proxies, and for 5,000."""
    small, large = _TARGETS[name]
    return small if count <= 1000 else large if count <= 5000 else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--namespaces", type=int, default=50)
    parser.add_argument("--proxies", default="1000", help="how many; several, with commas, give slopes")
    parser.add_argument("--processes", type=int, default=2, help="of the fleet")
    parser.add_argument("--runs", type=int, default=5, help="of each change; the median is shown")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="CHANGE",
        choices=["endpoint", "routes", "policy", "private", "authorization", "nothing", "service", "churn"],
        help="measure these changes only",
    )
    parser.add_argument("--churn", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--churn-runs", type=int, default=1, help="how often; the median is shown")
    parser.add_argument("--rate", type=float, default=0, help="new connections a second at the start (0: all at once)")
    parser.add_argument("--misbehaving", type=float, default=0.01, help="share each that refuses, is slow, reconnects")
    parser.add_argument("--timeout", type=float, default=300, help="for all proxies to be in sync, seconds")
    parser.add_argument("--json", type=Path, default=Path("build/bench-scale.json"))
    parser.add_argument("--slopes", action="store_true", help="how work grows instead: --slopes --help")
    parser.add_argument("--keep", action="store_true", help="leave the state directory and its log")
    return parser.parse_args()


def measure(options: argparse.Namespace, count: int) -> list[Row]:
    """All rows for a number of proxies."""
    size = Size(options.services, options.endpoints, options.namespaces)
    roles = Roles(*[options.misbehaving] * 3)
    state = Path(tempfile.mkdtemp(prefix="fairlead-scale-"))
    plane = Plane(state)
    fleets: Fleets | None = None
    try:
        objects = load(state, mesh.documents(size))
        members = proxies(size, count, roles)
        started = plane.start(options.timeout)
        empty = plane.memory()["resident"]
        issued = state / "fleet.json"
        certificates(state, [(one["namespace"], one["account"]) for one in members], issued)
        print(f"{objects} objects loaded; the control plane listens after {started:.1f} s", file=sys.stderr)
        fleets = Fleets(plane.target, state / "ca" / "root-cert.pem", issued, members, options.processes)
        rows = [Row("start of the control plane", "s", [started])]
        rows += _starts(options, size, plane, fleets, count)
        rows += _changes(options, Bench(size, plane, fleets, options.runs), count)
        memory = plane.memory()
        each = (memory["resident"] - empty) / max(count, 1)
        rows.append(
            Row("resident memory", "B", [memory["resident"]], _target("memory", count), {**memory, "empty": empty})
        )
        # With what all proxies share, so it is less the more there are; what one more takes is a slope (`--slopes`).
        rows.append(Row("memory of the control plane, by the number of proxies", "B", [each]))
        return rows
    finally:
        if fleets is not None:
            fleets.stop()
        plane.stop()
        if options.keep:
            print(f"state and log: {state}", file=sys.stderr)
        else:
            shutil.rmtree(state)


def _starts(options: argparse.Namespace, size: Size, plane: Plane, fleets: Fleets, count: int) -> list[Row]:
    """Everybody for the first time; then everybody again, after the control plane has been away."""
    begun, cpu = time.monotonic(), plane.cpu()
    fleets.connect(options.rate)
    first = fleets.synced(begun, options.timeout)
    if first.missing:
        raise SystemExit(f"{first.missing} proxies are not in sync after {options.timeout:.0f} s; log: {plane.log}")
    sent = fleets.settle()["bytes"]
    rows = [
        Row(
            "first start: all in sync",
            "s",
            [first.percentile(1)],
            None,
            {"bytes_per_proxy": [sent / count], "cpu": plane.cpu() - cpu},
        )
    ]
    before = fleets.settle()["bytes"]
    entry, where = mesh.entry(size, 0, 0), "10.254.0.1"
    waiting = fleets.expect(ENDPOINT, f"outbound|80||{size.host(0)}", where, timeout=options.timeout)
    plane.stop()
    begun = time.monotonic()
    plane.start(options.timeout)
    # A proxy that already has everything is sent nothing when it returns: what shows that it is served is a change.
    plane.patch(entry, {"spec": {"address": where}})
    again = waiting.wait(begun)
    sent = fleets.settle()["bytes"] - before
    rows.append(
        Row(
            "cold start, all reconnect: all in sync",
            "s",
            [again.percentile(1)],
            _target("cold", count),
            {"bytes_per_proxy": [sent / count], "cpu": plane.cpu()},
        )
    )
    return rows


def _changes(options: argparse.Namespace, bench: Bench, count: int) -> list[Row]:
    rows: list[Row] = []
    made: dict[str, Callable[[], list[Row]]] = {
        "endpoint": lambda: [bench.endpoint(_target("endpoint", count))],
        "routes": lambda: [bench.routes(_target("routes", count))],
        "policy": lambda: [bench.policy(_target("routes", count))],
        "private": lambda: [bench.routes(_target("private", count), private=True)],
        "authorization": lambda: [bench.authorization(_target("authorization", count))],
        "nothing": bench.nothing,
        "service": lambda: [bench.service(_target("service", count))],
        "churn": lambda: _churns(options, bench, count) if options.churn else [],
    }
    for name in options.only or made:
        for row in made[name]():
            print(f"  {row.name}: {shown(row.figure, row.unit)}", file=sys.stderr)
            rows.append(row)
    return rows


def _churns(options: argparse.Namespace, bench: Bench, count: int) -> list[Row]:
    """The churn, as often as wanted, as one row."""
    found = [bench.churn(_target("churn", count), options.churn) for _ in range(options.churn_runs)]
    values = [one.values[0] for one in found]
    return [Row(found[0].name, "s", values, found[0].target, {"runs": [one.detail for one in found]})]


def main() -> None:
    """Measure, print, write."""
    if "--slopes" in sys.argv[1:]:
        growth.main([one for one in sys.argv[1:] if one != "--slopes"])
        return
    options = _arguments()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    found: dict[int, list[Row]] = {}
    described = machine()
    print("  ".join(f"{name}: {value}" for name, value in described.items()))
    for count in [int(one) for one in options.proxies.split(",")]:
        found[count] = measure(options, count)
        mesh_size = f"{options.services} services x {options.endpoints} endpoints, {options.namespaces} namespaces"
        print(f"\n{mesh_size}, {count} proxies\n{table(found[count])}", flush=True)
    slopes: dict[str, float] = {}
    if len(found) > 1:
        print("\nper additional proxy")
        for name in [row.name for row in next(iter(found.values()))]:
            points = [(float(count), row.figure) for count, rows in found.items() for row in rows if row.name == name]
            slopes[name] = slope(points)
            unit = next(row.unit for row in next(iter(found.values())) if row.name == name)
            said = f"{slopes[name] * 1e6:.0f} us" if unit == "s" else shown(slopes[name], unit)
            print(f"  {name}: {said}")
    written: dict[str, Any] = {
        "machine": described,
        "options": {key: str(value) for key, value in vars(options).items()},
        "slopes": slopes,
        "sizes": {str(count): [msgspec.to_builtins(row) for row in rows] for count, rows in found.items()},
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(written, indent=2, default=str) + "\n")
    print(f"\nwritten: {options.json}")


if __name__ == "__main__":
    main()
