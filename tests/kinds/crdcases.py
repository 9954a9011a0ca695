"""Cases of the rules of Istio's CustomResourceDefinitions: a wrong and a right value of one field."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

Json = dict[str, Any]


class Case(NamedTuple):
    """A field (dotted; numbers are places in lists) of an otherwise valid spec, with a wrong and a right value.

    `at`: where it is refused, if that is another field. A right value of None means that the field is left out.
    """

    kind: str
    base: Json
    field: str
    wrong: Any
    right: Any = None
    at: str = ""


GONE = object()
"""A wrong value: the field is not there."""


def put(base: Json, field: str, value: Any) -> Json:
    """The spec with this value there; what leads to it is made."""
    spec = deepcopy(base)
    *way, last = steps = field.split(".")
    holder: Any = spec
    for step, following in zip(way, steps[1:], strict=True):
        if not step.isdecimal():
            holder.setdefault(step, [{}] if following.isdecimal() else {})
        holder = holder[_key(holder, step)]
    if value is GONE or value is None:
        holder.pop(last, None)
    else:
        holder[_key(holder, last)] = value
    return spec


def _key(holder: object, step: str) -> Any:
    return int(step) if isinstance(holder, list) else step


def many(count: int) -> Json:
    """So many labels."""
    return {f"k{at}": "v" for at in range(count)}


def times(kind: str, base: Json, field: str) -> list[Case]:
    """`duration(self) >= duration('1ms')`: too short, not a duration, and a neighbour."""
    return [Case(kind, base, field, "999us", "1ms"), Case(kind, base, field, "soon", "1h")]
