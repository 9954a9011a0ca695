"""Keeping the control plane's memory small and its pauses short, when there is nothing better to do.

A compiled mesh is millions of objects that live long. Python's collector of cycles would walk through all of them again
and again, and stop the event loop for that; what is known to stay is put out of its sight instead. Objects still die
by their reference counts.
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


def grown() -> None:
    """Many proxies have come: what was made for them stays, and what was needed on the way goes back to the system."""
    gc.freeze()
    give_back()


def give_back() -> None:
    """Return free heap to the system, where the C library knows how (glibc)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
