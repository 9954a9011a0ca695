"""Keeping the agent small: there is one beside every workload."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

_M_ARENA_MAX = -8
_MADV_DONTNEED = 4


def one_arena() -> None:
    """Let glibc's allocator keep one arena instead of one per thread; elsewhere nothing happens."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what only the start needed: free heap, and the libraries' code that ran once.

    Dropped code pages are unmodified file pages: what is used again comes back from the page cache.
    """
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, mode, *_, path = line.split(maxsplit=5)
            if mode == "r-xp" and path.startswith("/"):
                begin, _, end = span.partition("-")
                libc.madvise(int(begin, 16), int(end, 16) - int(begin, 16), _MADV_DONTNEED)
