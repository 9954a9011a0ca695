"""Documents as they arrive: JSON-shaped data, and where in the text each value stood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from fairlead.model.diagnostic import Position
from fairlead.model.path import FieldPath

Json = dict[str, Any]


Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, from 1."""


class Marks(Mapping[Path, Place]):
    """Positions by path that are looked for when somebody asks for one: of most documents nobody does."""

    __slots__ = ("_find", "_found")

    def __init__(self, find: Callable[[], Mapping[Path, Place]]) -> None:
        self._find = find
        self._found: Mapping[Path, Place] | None = None

    def _all(self) -> Mapping[Path, Place]:
        if self._found is None:
            self._found = self._find()
        return self._found

    def __getitem__(self, path: Path) -> Place:
        return self._all()[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


class Manifest(msgspec.Struct, frozen=True):
    """One document: its data and, if it came from a text, the position of each value by path."""

    data: Json
    file: str = ""
    marks: Mapping[Path, Place] = {}

    def position(self, path: FieldPath) -> Position | None:
        """Where the value at `path` stands, or the nearest enclosing value that has a position."""
        if not self.marks:
            return None
        at: Path = tuple(path)
        while at not in self.marks:
            if not at:
                return None
            at = at[:-1]
        line, column = self.marks[at]
        return Position(self.file, line, column)
