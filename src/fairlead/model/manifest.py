"""Documents as they arrive: JSON-shaped data, and where in the text each value stood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.model.diagnostic import Position
from fairlead.model.path import FieldPath

Json = dict[str, Any]


class Manifest(msgspec.Struct, frozen=True):
    """One document: its data and, if it came from a text, the position of each value by path."""

    data: Json
    file: str = ""
    marks: Mapping[tuple[str | int, ...], tuple[int, int]] = {}

    def position(self, path: FieldPath) -> Position | None:
        """Where the value at `path` stands, or the nearest enclosing value that has a position."""
        if not self.marks:
            return None
        at: tuple[str | int, ...] = tuple(path)
        while at not in self.marks:
            if not at:
                return None
            at = at[:-1]
        line, column = self.marks[at]
        return Position(self.file, line, column)
