"""The table, the slopes and the machine."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from bench.scale.rows import Row


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": pages,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def shown(value: float, unit: str) -> str:
    """A figure for people."""
    if math.isinf(value):
        return "not all"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.1f} s"
    if unit == "B":
        for name, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
            if abs(value) >= size:
                return f"{value / size:.1f} {name}"
        return f"{value:.0f} B"
    return f"{value:.3g} {unit}".strip()


def table(rows: Sequence[Row]) -> str:
    """The rows: figure, target, and whether it is met."""
    lines = [("figure", "median", "runs", "target", "", "per proxy")]
    for row in rows:
        runs = "  ".join(shown(one, row.unit) for one in row.values) if len(row.values) > 1 else ""
        met = "" if row.target is None else "met" if row.figure <= row.target else "missed"
        target = "" if row.target is None else shown(row.target, row.unit)
        sent = row.detail.get("bytes_per_proxy")
        each = shown(sorted(sent)[len(sent) // 2], "B") if sent else ""
        lines.append((row.name, shown(row.figure, row.unit), runs, target, met, each))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope of values over sizes."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
