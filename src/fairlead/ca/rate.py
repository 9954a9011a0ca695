"""How often one caller, and all together, may ask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable


class Rate:
    """Token buckets: `burst` at once, then `per_second`. Buckets of at most `keys` callers are remembered.

    The clock returns monotonic seconds.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float], keys: int = 4096) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._keys = keys
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> bool:
        """Whether `key` may ask now; counts the question if so."""
        now = self._clock()
        level, then = self._buckets.pop(key, (float(self._burst), now))
        level = min(float(self._burst), level + (now - then) * self._per_second)
        allowed = level >= 1
        self._buckets[key] = (level - 1 if allowed else level, now)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return allowed
