"""Durations: Go syntax as Istio's API takes it (`1h3m2.5s`, `250ms`), in seconds."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_LONGEST = 100
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(rf"^[+-]?({_PART.pattern})+$")


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError where `text` is not a Go duration."""
    if text in ("0", "+0", "-0"):
        return 0.0
    if not is_duration(text):
        raise ValueError(f"{text!r} is not a duration such as 1h, 30s or 250ms")
    total = sum((Fraction(number) * _UNITS[unit] for number, unit in _PART.findall(text)), Fraction(0))
    return float(-total if text.startswith("-") else total)


def is_duration(text: str) -> bool:
    """Whether `parse_duration` would take it."""
    return text in ("0", "+0", "-0") or (len(text) <= _LONGEST and _WHOLE.match(text) is not None)
