"""When the next pass over committed changes is made. Pure: times are given, in seconds of one clock.

The first change after a pause goes through at once, and a burst costs a few passes and not one a change. What a pass
costs is its own work, and the pushes that come of it: where thousands of proxies see a change these are most of it. So
while changes keep coming, passes are so far apart that both have no more than their share of the processor; what is
superseded meanwhile is never made, and never sent. When no further change comes, nobody waits for that.
"""

from __future__ import annotations

SHORTEST = 0.02
"""The least time between two passes."""
PASS_SHARE, LAST_SHARE = 0.25, 0.5
"""The most of the processor that passes have while changes keep coming, and where they come so slowly that each may be
the last."""
FEW, FEW_SHARE = 3, 0.5
"""So many changes since the last pass are no flood: pushes may have this part of the processor."""
PUSH_SHARE = 0.3
"""And this part while changes keep coming, with their answers."""
LONGEST = 2.0
"""No change waits longer than this, whatever the load is."""
QUIET, LONGEST_QUIET = 0.2, 0.15
"""Changes have ended when none came for as long as the last pass took and for this part of what its pushes took, or
for so long (seconds)."""


class Pacing:
    """Decides it. `spent` is what pushes have taken since the start of the process, in seconds of processor time."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._ready = self._soon = 0.0
        """When passes have had no more than their share; the second where changes seem to have ended."""
        self._spent = self._took = 0.0
        self._oldest: float | None = None
        self._newest = 0.0
        self._count = 0
        """Changes since the last pass."""

    def changed(self, now: float) -> None:
        """There is something to compile."""
        if self._oldest is None:
            self._oldest = now
        self._newest = now
        self._count += 1

    def due(self, spent: float) -> float:
        """When the next pass is to be made, as things are now. Asked again then: it may be later by that time."""
        work = max(spent - self._spent, 0.0)
        oldest = self._newest if self._oldest is None else self._oldest
        loaded = max(self._ready, self._begun + work / (PUSH_SHARE if self._count > FEW else FEW_SHARE))
        ended = max(self._soon, self._newest + min(max(work * QUIET, self._took), LONGEST_QUIET))
        return min(loaded, ended, max(self._ready, oldest + LONGEST))

    def passed(self, begun: float, ended: float, spent: float) -> None:
        """A pass over all changes until now has been made."""
        self._begun, self._spent, self._oldest, self._count = begun, spent, None, 0
        self._took = ended - begun
        self._ready, self._soon = (
            ended + min(max(self._took * (1 / share - 1), SHORTEST), LONGEST) for share in (PASS_SHARE, LAST_SHARE)
        )
