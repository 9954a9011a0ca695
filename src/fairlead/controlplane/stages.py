"""How long changes take on their way to the proxies, stage by stage.

Times are seconds. `queue` runs from the commit until a pass takes the change, `lower` turns objects into facts, `emit`
facts into resources and their difference, `deliver` wakes the streams; `ack` runs from the end of the last pass that
changed anything to an acknowledgement.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """Durations in buckets; the last one has no upper bound."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(_BOUNDS, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The samples."""
        seen = 0
        for bound, count in zip((*_BOUNDS, "+Inf"), self.counts, strict=True):
            seen += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {seen}'
        yield f"{name}_sum{{{labels}}} {self.total:.6f}"
        yield f"{name}_count{{{labels}}} {seen}"


class Stages:
    """How long changes stay in each stage."""

    def __init__(self) -> None:
        self._histograms = {name: Histogram() for name in ("queue", "lower", "emit", "deliver", "ack")}

    def observe(self, stage: str, seconds: float) -> None:
        """A stage took this long."""
        self._histograms[stage].observe(max(seconds, 0.0))

    def lines(self) -> Iterator[str]:
        """The samples."""
        yield "# HELP fairlead_stage_seconds How long changes stay in a stage on their way to the proxies."
        yield "# TYPE fairlead_stage_seconds histogram"
        for stage, histogram in self._histograms.items():
            yield from histogram.lines("fairlead_stage_seconds", f'stage="{stage}"')
