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
    made = _merged(now, edited, before, ROOT, conflicts)
    return Merged(cast("Json", made), tuple(conflicts))


def _merged(now: object, edited: object, before: object, path: FieldPath, conflicts: list[FieldPath]) -> object:
    if _equal(edited, before):
        return now
    if _equal(now, edited):
        return before
    if isinstance(now, dict) and isinstance(edited, dict) and isinstance(before, dict):
        here, then, was = cast("Json", now), cast("Json", edited), cast("Json", before)
        out: Json = {}
        for key in (*here, *(one for one in was if one not in here)):
            parts = (one.get(key, ABSENT) for one in (here, then, was))
            value = _merged(*parts, path / key, conflicts)
            if value is not ABSENT:
                out[key] = value
        return out
    if isinstance(now, list) and isinstance(edited, list) and isinstance(before, list):
        lists = [cast("list[object]", one) for one in (now, edited, before)]
        if _in_place(lists[1], lists[0]) and _in_place(lists[1], lists[2]):
            return [_merged(*parts, path / at, conflicts) for at, parts in enumerate(zip(*lists, strict=True))]
    if not _equal(now, before):
        conflicts.append(path)
    return now


def _equal(left: object, right: object) -> bool:
    return left == right and type(left) is type(right)


def _in_place(left: Sequence[object], right: Sequence[object]) -> bool:
    """Whether elements only changed where they stand."""
    return len(left) == len(right) and aligned(left, right) == [*range(len(left))]
