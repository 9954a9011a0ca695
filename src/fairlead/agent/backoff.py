"""Waiting times between tries: exponential with full spread, so that a fleet does not come back in step."""

from __future__ import annotations

import random


class Backoff:
    """`next` gives the seconds to wait; `reset` after a success."""

    def __init__(self, first: float, limit: float) -> None:
        self._first = first
        self._limit = limit
        self._step = 0

    def next(self) -> float:
        """Between a half and the whole of the doubled delay."""
        ceiling = min(self._limit, self._first * 2 ** min(self._step, 32))
        self._step += 1
        return ceiling * random.uniform(0.5, 1)  # noqa: S311 (spread, not a secret)

    def reset(self) -> None:
        """The next wait is short again."""
        self._step = 0
