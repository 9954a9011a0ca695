"""Profiles as files: a flame graph that is one SVG document, or speedscope's JSON.

The SVG needs no script and no network: each box has its name, share and samples as a tooltip. Format of the JSON:
speedscope's file format schema, sampled profiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any
from zlib import crc32

Stacks = Sequence[tuple[Sequence[str], int]]
"""Calls from the outermost to the innermost, and how often they were seen."""

WIDTH, ROW, CHARACTER, MARGIN = 1200, 17, 6.6, 10
NARROWEST = 0.3
"""Pixels: what is narrower is left out, with what it calls."""


class _Box:
    __slots__ = ("called", "count")

    def __init__(self) -> None:
        self.count = 0
        self.called: dict[str, _Box] = {}


def _tree(stacks: Stacks) -> _Box:
    root = _Box()
    for stack, count in stacks:
        at = root
        at.count += count
        for name in stack:
            at = at.called.setdefault(name, _Box())
            at.count += count
    return root


def _laid(box: _Box, name: str, left: float, depth: int, scale: float) -> Iterator[tuple[str, float, int, int]]:
    """Each box that can be seen: name, left edge in pixels, depth, samples."""
    if box.count * scale < NARROWEST:
        return
    yield name, left, depth, box.count
    for called in sorted(box.called):
        yield from _laid(box.called[called], called, left, depth + 1, scale)
        left += box.called[called].count * scale


def svg(stacks: Stacks, title: str) -> str:
    """The flame graph: outermost calls at the top, widths as shares of all samples."""
    root = _tree(stacks)
    total = max(root.count, 1)
    scale = (WIDTH - 2 * MARGIN) / total
    boxes = list(_laid(root, "all", MARGIN, 0, scale)) if root.count else []
    height = (max((depth for _, _, depth, _ in boxes), default=0) + 1) * ROW + 50
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{WIDTH / 2}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for name, left, depth, count in boxes:
        width, top = count * scale, 32 + depth * ROW
        room = int((width - 6) / CHARACTER)
        said = f"{name} ({count} samples, {100 * count / total:.1f} %)"
        out.append(f'<g><title>{escape(said)}</title><rect x="{left:.1f}" y="{top}" width="{width:.1f}"')
        out.append(f' height="{ROW - 1}" fill="{_colour(name)}" rx="1"/>')
        if room >= 3:
            shown = name if len(name) <= room else f"{name[: room - 2]}.."
            out.append(f'<text x="{left + 3:.1f}" y="{top + 12}">{escape(shown)}</text>')
        out.append("</g>")
    out.append("</svg>\n")
    return "".join(out)


def _colour(name: str) -> str:
    """Warm for our own calls, cool for libraries', grey for waiting; the same name has the same colour."""
    spread = crc32(name.encode()) % 50
    if name.startswith("("):
        return "#ddd"
    if name.startswith("fairlead."):
        return f"rgb({205 + spread},{120 + spread * 2},70)"
    return f"rgb({130 + spread},{170 + spread},{215 + spread % 30})"


def speedscope(stacks: Stacks, title: str, rate: int) -> dict[str, Any]:
    """The document, with weights in seconds."""
    frames: dict[str, int] = {}
    samples = [[frames.setdefault(name, len(frames)) for name in stack] for stack, _ in stacks]
    weights = [count / rate for _, count in stacks]
    profile = {
        "type": "sampled",
        "name": title,
        "unit": "seconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": title,
        "exporter": "fairlead",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": [profile],
    }
