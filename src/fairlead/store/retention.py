"""How much history is kept."""

from __future__ import annotations

import msgspec


class Retention(msgspec.Struct, frozen=True):
    """Bounds of the history; the first that is exceeded compacts. Current objects are never touched.

    `seconds` is the age at which superseded versions may go, `rows` and `bytes` bound all versions together, `every`
    is the number of writes between two looks.
    """

    seconds: float = 30 * 24 * 3600
    rows: int = 200_000
    bytes: int = 1 << 30
    every: int = 1000
