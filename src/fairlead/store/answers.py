"""Who answered a push, when and how: a few bytes for each proxy.

A row is one integer: the proxy's number in the file, after how many milliseconds, and how. Rows of a push are kept
sorted by proxy, as differences of numbers and as times, byte plane by byte plane, compressed: where all proxies of a
mesh answer, numbers are a run of ones and only the low bytes of the times differ.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from enum import IntEnum
from itertools import accumulate
from operator import sub

_LONGEST = (1 << 30) - 1
_LOW = (1 << 32) - 1


class How(IntEnum):
    """What a proxy did with what it was sent."""

    ACKNOWLEDGED = 0
    REFUSED = 1
    LEFT = 2
    SILENT = 3


def answered(number: int, seconds: float, how: How) -> int:
    """One answer; of times above 12 days it is only known that they are."""
    millis = int(seconds * 1000 + 0.5)
    return number << 32 | (min(_LONGEST, millis)) << 2 | how


def packed(rows: Iterable[int]) -> tuple[list[int], bytes]:
    """The numbers of the proxies, and rows as they stand in the file."""
    ordered = sorted(rows)
    numbers = [one >> 32 for one in ordered]
    deltas = array("I", map(sub, numbers, (0, *numbers[:-1])))
    return numbers, zlib.compress(_planes(deltas) + _planes(array("I", [one & _LOW for one in ordered])), 1)


class Answers:
    """Rows out of the file."""

    def __init__(self, data: bytes) -> None:
        raw = zlib.decompress(data)
        half = len(raw) // 2
        self.numbers = list(accumulate(_whole(raw[:half])))
        self._values = _whole(raw[half:])

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, index: int) -> tuple[int, float, How]:
        """The number of a proxy, seconds, and what it did."""
        value = self._values[index]
        return self.numbers[index], (value >> 2) / 1000, How(value & 3)

    def of(self, number: int) -> tuple[float, How] | None:
        """Seconds and what a proxy did; None where it was not concerned."""
        index = bisect_left(self.numbers, number)
        return self.at(index)[1:] if index < len(self.numbers) and self.numbers[index] == number else None


def _planes(values: array[int]) -> bytes:
    if sys.byteorder != "little":
        values.byteswap()
    raw = values.tobytes()
    return b"".join(raw[at::4] for at in range(4))


def _whole(planes: bytes) -> array[int]:
    size = len(planes) // 4
    raw = bytearray(len(planes))
    for at in range(4):
        raw[at::4] = planes[at * size : (at + 1) * size]
    values = array("I", bytes(raw))
    if sys.byteorder != "little":
        values.byteswap()
    return values
