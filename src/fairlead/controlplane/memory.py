"""Keeping the control plane's memory small and its pauses short, when there is nothing better to do.

A compiled mesh is millions of objects that live long. Python's collector of cycles would walk through all of them again
and again, and stop the event loop for that; what is known to stay is put out of its sight instead. Objects still die
by their reference counts, and what is made for a proxy must need nothing else: a cycle that is out of sight stays.
"""

from __future__ import annotations

import ctypes
import gc

_THRESHOLDS = (20_000, 20, 20)


def loading() -> None:
    """All that is made from now on stays, so that looking for garbage among it again and again would only cost time."""
    gc.disable()


def loaded() -> None:
    """Everything that is stored has been compiled: it stays."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(*_THRESHOLDS)
    give_back()


class Storms:
    """Tells when a storm is over: `many` proxies have come between two looks, or there are so many more than before.

    Proxies that come and go one by one are none, however many they are in the end: they take the places of others, and
    what would be put out of the collector's sight again and again is mostly what it has not come to yet.
    """

    def __init__(self, many: int) -> None:
        self._many = many
        self._seen = self._there = 0
        self.going_on = False
        """Whether one is not over yet."""

    def over(self, admitted: int, there: int, waiting: int) -> bool:
        """Whether there was one and nobody waits any more. `admitted` have come since the start, `there` are here."""
        self._there = min(self._there, there)
        self.going_on = self.going_on or max(admitted - self._seen, there - self._there) >= self._many
        self._seen = admitted
        if waiting or not self.going_on:
            return False
        self.going_on, self._there = False, there
        return True


def grown() -> None:
    """Many proxies have come: what was made for them stays, and what was needed on the way goes back to the system."""
    # What is garbage now would never be found again.
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Return free heap to the system, where the C library knows how (glibc)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
