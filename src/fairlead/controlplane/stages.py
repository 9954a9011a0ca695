"""How long changes take on their way to the proxies, stage by stage.

Times are seconds. `queue` runs from the commit until a pass takes the change, `lower` turns objects into facts, `emit`
facts into resources, `diff` finds out whose resources have changed, `deliver` tells the streams; `ack` runs, for each
proxy, from the commit of the oldest change that it lacks until it has acknowledged all. The age of a revision runs from
its commit until the last proxy that had to be told of it has.
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

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """The samples."""
        seen = 0
        for bound, count in zip((*_BOUNDS, "+Inf"), self.counts, strict=True):
            seen += count
            yield f'{name}_bucket{{{labels}{"," if labels else ""}le="{bound}"}} {seen}'
        braced = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braced} {self.total:.6f}"
        yield f"{name}_count{braced} {seen}"


STAGES = ("queue", "lower", "emit", "diff", "deliver", "ack")


class Stages:
    """How long changes stay in each stage."""

    def __init__(self) -> None:
        self._histograms = {name: Histogram() for name in STAGES}
        self._age = Histogram()

    def observe(self, stage: str, seconds: float) -> None:
        """A stage took this long."""
        self._histograms[stage].observe(max(seconds, 0.0))

    def observe_age(self, seconds: float) -> None:
        """Everybody who had to be told of a revision has it, so long after its commit."""
        self._age.observe(max(seconds, 0.0))

    def lines(self) -> Iterator[str]:
        """The samples."""
        yield "# HELP fairlead_stage_seconds How long changes stay in a stage on their way to the proxies."
        yield "# TYPE fairlead_stage_seconds histogram"
        for stage, histogram in self._histograms.items():
            yield from histogram.lines("fairlead_stage_seconds", f'stage="{stage}"')
        said = "Seconds from a commit until the last proxy that had to be told of it has acknowledged it."
        yield f"# HELP fairlead_revision_age_seconds {said}"
        yield "# TYPE fairlead_revision_age_seconds histogram"
        yield from self._age.lines("fairlead_revision_age_seconds")
