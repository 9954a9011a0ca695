"""Sets that mostly have one member, where there are very many of them.

A dictionary of one member takes 230 bytes, a tuple 56. So up to a few members stand in a tuple, more in a dictionary;
always in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

T = TypeVar("T", bound=Hashable)
Few = tuple[T, ...] | dict[T, None]
"""The members: to be read like any collection, and replaced by what `joined` and `parted` return."""
MOST = 4
"""So many members stand in a tuple."""


def joined(held: Few[T], one: T) -> Few[T]:
    """The same with one more member, or as it was if that is among them."""
    if isinstance(held, dict):
        held[one] = None
        return held
    if one in held:
        return held
    return (*held, one) if len(held) < MOST else dict.fromkeys((*held, one))


def parted(held: Few[T], one: T) -> Few[T]:
    """The same without this one, if it was among them."""
    if isinstance(held, dict):
        held.pop(one, None)
        return held or ()
    return tuple([member for member in held if member != one])
