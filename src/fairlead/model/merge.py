"""Taking one edit of a document back when the document has been edited since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from fairlead.model.difference import ABSENT, aligned
from fairlead.model.path import ROOT, FieldPath

Json = dict[str, Any]


class Merged(msgspec.Struct, frozen=True):
    """The document with the edit taken back, and the fields that were edited again since, which stay as they are."""

    document: Json
    conflicts: tuple[FieldPath, ...] = ()


def without(now: Json, edited: Json, before: Json) -> Merged:
    """`now`, with what the edit from `before` to `edited` did to it taken back.

    A list is one value where elements came, went or moved: positions in it mean something else. The result shares
    parts with what was given.
    """
    conflicts: list[FieldPath] = []
    made = _fields(now, edited, before, ROOT, conflicts)
    return Merged(made, tuple(conflicts))


def _merged(now: Any, edited: Any, before: Any, path: FieldPath, conflicts: list[FieldPath]) -> Any:
    if _equal(edited, before):
        return now
    if _equal(now, edited):
        return before
    if isinstance(now, dict) and isinstance(edited, dict) and isinstance(before, dict):
        return _fields(cast("Json", now), cast("Json", edited), cast("Json", before), path, conflicts)
    if isinstance(now, list) and isinstance(edited, list) and isinstance(before, list):
        here, then, was = cast("list[Any]", now), cast("list[Any]", edited), cast("list[Any]", before)
        if _in_place(then, here) and _in_place(then, was):
            return [
                _merged(one, two, three, path / at, conflicts)
                for at, (one, two, three) in enumerate(zip(here, then, was, strict=True))
            ]
    if not _equal(now, before):
        conflicts.append(path)
    return cast("object", now)


def _fields(now: Json, edited: Json, before: Json, path: FieldPath, conflicts: list[FieldPath]) -> Json:
    out: Json = {}
    for key in (*now, *(one for one in before if one not in now)):
        here, then, was = now.get(key, ABSENT), edited.get(key, ABSENT), before.get(key, ABSENT)
        value = _merged(here, then, was, path / key, conflicts)
        if value is not ABSENT:
            out[key] = value
    return out


def _equal(left: Any, right: Any) -> bool:
    return left == right and type(left) is type(right)


def _in_place(left: Sequence[object], right: Sequence[object]) -> bool:
    """Whether elements only changed where they stand."""
    return len(left) == len(right) and aligned(left, right) == [*range(len(left))]
