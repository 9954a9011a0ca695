"""`python -m bench`: measures, prints a table, writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.e2e.mesh import Mesh, eventually, request

from bench.pair import application, pair
from bench.shop import rss, shop
from fairlead import __version__

Json = dict[str, Any]
PORT = 18080
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: app}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 18080}]
"""


def share(values: list[float], at: float) -> float:
    """A percentile."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * at))], 2)


def load(address: str, port: int, connections: int, seconds: float) -> Json:
    """Load from a process of its own."""
    command = [sys.executable, "-m", "bench.load", address, str(port), "--name", f"echo:{PORT}"]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
    return json.loads(done.stdout)


def paths(seconds: float, connections: int) -> Json:
    """One request directly, through a pair by hand, and through two sidecars: alone and many at once."""
    out: Json = {}
    with tempfile.TemporaryDirectory(prefix="fl-bench-") as name, Mesh() as mesh:
        directory = Path(name)
        client = mesh.add("client", labels={"app": "client"})
        server = mesh.add("echo", labels={"app": "echo"}, ports={"http": PORT})
        gateway = mesh.add("gateway", namespace="edge", labels={"istio": "ingressgateway"}, proxy_type="router")
        with application(directory, server.app, PORT), pair(directory, server.app, PORT) as (at, port, pids):
            mesh.start(client, server, gateway)
            mesh.apply(SERVICE)
            eventually(lambda: request(client.out, PORT, host=f"echo:{PORT}").status == 200, "the mesh serves")
            ways = {"direct": (server.app, PORT), "envoy pair": (at, port), "two sidecars": (client.out, PORT)}
            for address, number in ways.values():
                load(address, number, 4, 1)
            for title, (address, number) in ways.items():
                out[title] = {
                    "alone": load(address, number, 1, seconds),
                    "many": load(address, number, connections, seconds),
                }
            out["envoy pair"]["envoy_rss_mb"] = [rss(pid) for pid in pids]
            out["two sidecars"]["envoy_rss_mb"] = [rss(one.status()["pid_envoy"]) for one in (client, server)]
    return out


def whole_shop(edits: int) -> Json:
    """Start, change, weigh."""
    with shop() as running:
        took = running.effects(edits)
        return {
            "start_seconds": {key: round(value, 2) for key, value in running.seconds.items()},
            "change_to_effect_ms": {
                "edits": len(took),
                "p50": share(took, 0.5),
                "p90": share(took, 0.9),
                "p99": share(took, 0.99),
                "max": round(max(took), 2),
            },
            "rss_mb": running.memory(),
        }


def machine() -> Json:
    """What it was measured on."""
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return {
        "fairlead": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "cpu": model,
        "load_before": round(os.getloadavg()[0], 2),
    }


def show(found: Json) -> None:
    """The table."""
    table = Table(title="Fairlead benchmarks")
    table.add_column("what")
    table.add_column("measured", justify="right")
    whole = found["shop"]
    for key, value in whole["start_seconds"].items():
        if key != "proxies":
            table.add_row(f"shop of {whole['start_seconds']['proxies']:.0f} proxies: {key} after", f"{value:.2f} s")
    effect = whole["change_to_effect_ms"]
    table.add_row(f"change to effect, {effect['edits']} edits: p50 / p99", f"{effect['p50']} / {effect['p99']} ms")
    direct = found["paths"]["direct"]["alone"]["p50_ms"]
    for title, one in found["paths"].items():
        alone, many = one["alone"], one["many"]
        added = "" if title == "direct" else f" (+{alone['p50_ms'] - direct:.3f})"
        table.add_row(f"{title}, 1 connection: p50 / p99", f"{alone['p50_ms']:.3f}{added} / {alone['p99_ms']:.3f} ms")
        row = f"{many['per_second']:.0f} / s, p99 {many['p99_ms']:.2f} ms"
        table.add_row(f"{title}, {found['connections']} connections", row)
    for kind, values in whole["rss_mb"].items():
        if values:
            row = f"{statistics.median(values):.0f} (max {max(values):.0f}) MB"
            table.add_row(f"resident, {len(values)} x {kind.replace('_', ' ')}: median", row)
    Console().print(table)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--edits", type=int, default=100, help="edits for change-to-effect (default 100)")
    parser.add_argument("--seconds", type=float, default=5, help="seconds of load for each row (default 5)")
    parser.add_argument("--connections", type=int, default=16, help="connections of the throughput rows (default 16)")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="where the JSON goes")
    given = parser.parse_args()
    found: Json = {"machine": machine(), "connections": given.connections}
    console = Console(stderr=True)
    with console.status("the shop: start, changes, memory"):
        found["shop"] = whole_shop(given.edits)
    with console.status("requests: direct, a pair by hand, two sidecars"):
        found["paths"] = paths(given.seconds, given.connections)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(found, indent=2) + "\n")
    show(found)
    console.print(f"written to {given.output}")


if __name__ == "__main__":
    main()
