"""What a step of the demonstration is, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from fairlead.cli.demo.shop import Shop

Z = 4.0
"""How many standard deviations a share may be off: by chance alone, one run in 16,000 is further off."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was measured."""

    what: str
    expected: str
    measured: str
    ok: bool


class Step(msgspec.Struct, frozen=True):
    """`tells` explains it to a newcomer; `files` are shown; `attempt` is a command to try it by hand.

    In `attempt`, {http} is the gateway's address, {https_port} its other port, {ratings} where ratings' workload is,
    {state} the state directory, {files} the samples in it, and {fairlead} this program.
    """

    number: int
    title: str
    tells: str
    run: Callable[[Shop], Awaitable[list[Check]]]
    files: tuple[str, ...] = ()
    attempt: str = ""


class Result(msgspec.Struct, frozen=True):
    """A step that has run."""

    step: int
    title: str
    seconds: float
    ok: bool
    checks: tuple[Check, ...]


def exactly(what: str, expected: object, measured: object) -> Check:
    """A check of equality."""
    return Check(what, str(expected), str(measured), expected == measured)


def zero(what: str, count: int, of: int, least: int = 1) -> Check:
    """A check that nothing of at least `least` things failed."""
    return Check(what, f"0 of {least} or more", f"{count} of {of}", count == 0 and of >= least)


def share(what: str, hits: int, of: int, expected: float) -> Check:
    """A check that `hits` of `of` independent trials are as likely as `expected` says."""
    off = Z * math.sqrt(expected * (1 - expected) / of) if of else 0.0
    low, high = max(0.0, expected - off), min(1.0, expected + off)
    measured = hits / of if of else math.nan
    said = f"{expected:.0%} ({low:.1%} to {high:.1%})"
    return Check(what, said, f"{measured:.1%} ({hits} of {of})", low <= measured <= high)


def took(what: str, seconds: float, limit: float) -> Check:
    """A check of a time in seconds."""
    return Check(what, f"at most {limit:g} s", f"{seconds:.2f} s", seconds <= limit)
