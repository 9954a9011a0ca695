"""Waiting times between tries: exponential with full spread, so that a fleet does not come back in step."""

from __future__ import annotations

import random
from collections.abc import Iterable

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

PUSHBACK = "grpc-retry-pushback-ms"
DETAILS = "grpc-status-details-bin"
RECONNECT = (0.25, 15.0)
"""Seconds between an agent's tries to reach its control plane: at first, and at most."""
LONGEST_HINT = 300.0
"""Seconds: a server that asks for more is not believed."""


class Backoff:
    """`next` gives the seconds to wait; `reset` after a success."""

    def __init__(self, first: float, limit: float) -> None:
        self._first = first
        self._limit = limit
        self._step = 0
        self._hint: float | None = None

    def next(self) -> float:
        """Between a half and the whole of the doubled delay; after a hint, between it and half as much again."""
        ceiling = min(self._limit, self._first * 2 ** min(self._step, 32))
        self._step += 1
        hint, self._hint = self._hint, None
        if hint is not None:
            return hint + max(hint, self._first) / 2 * random.random()  # noqa: S311 (spread, not a secret)
        return ceiling * random.uniform(0.5, 1)  # noqa: S311 (spread, not a secret)

    def hint(self, seconds: float | None) -> None:
        """The server says when to come again; None if it does not. Negative: not soon, so as late as ever."""
        if seconds is not None:
            self._hint = self._limit if seconds < 0 else min(seconds, LONGEST_HINT)

    def reset(self) -> None:
        """The next wait is short again."""
        self._step = 0


def retry_hint(trailers: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Seconds after which a server wants to be asked again, from the trailers of a call that it ended.

    That is gRPC's `grpc-retry-pushback-ms` (negative: do not retry), or a google.rpc.RetryInfo in the status' details.
    What cannot be read counts as not said.
    """
    for key, value in trailers:
        if key == PUSHBACK:
            try:
                return int(value) / 1000
            except ValueError:
                return None
        if key == DETAILS and isinstance(value, bytes):
            return _from_details(value)
    return None


def _from_details(body: bytes) -> float | None:
    info = error_details_pb2.RetryInfo()
    try:
        for one in status_pb2.Status.FromString(body).details:
            if one.Unpack(info):
                return max(info.retry_delay.ToTimedelta().total_seconds(), 0.0)
    except (DecodeError, ValueError, OverflowError):
        return None
    return None
