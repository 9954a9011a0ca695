"""What happened: changes and versions."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from fairlead.model.ref import Ref

Json = dict[str, Any]
Operation = Literal["ADDED", "MODIFIED", "DELETED"]


class Change(msgspec.Struct, frozen=True):
    """One write of a commit. The documents are shared between all who see the change: do not alter them.

    `new` is None exactly for DELETED, `old` exactly for ADDED. `revision` is that of the commit; `time` is in Unix
    seconds. `via` says which verb of which client it was, `command` the command line that asked for it; `meant` is
    False where only status or bookkeeping was written.
    """

    revision: int
    operation: Operation
    ref: Ref
    old: Json | None
    new: Json | None
    author: str = ""
    time: float = 0
    message: str = ""
    via: str = ""
    command: str = ""
    meant: bool = True


class Version(msgspec.Struct, frozen=True):
    """One version in an object's history; `document` is None where the object was deleted."""

    revision: int
    operation: Operation
    document: Json | None
    author: str
    time: float
    message: str
    via: str = ""
    command: str = ""
    meant: bool = True


class Part(NamedTuple):
    """A part of a list: behind (namespace, name), at most so many (-1: all that there are)."""

    after: tuple[str, str] = ("", "")
    most: int = -1


ALL = Part()


class Wanted(msgspec.Struct, frozen=True):
    """Which commits are asked for: those of an object or kind, between two revisions (exclusive), since a time.

    Empty or 0 stands for all; `namespace` None for all, "" for objects without one. `status` wants those also that
    wrote status only. `limit` counts commits.
    """

    group: str = ""
    kind: str = ""
    namespace: str | None = None
    name: str = ""
    before: int = 0
    after: int = 0
    since: float = 0
    status: bool = False
    limit: int = 0


Mark = tuple[tuple[str | int, ...], int, int]
"""A field's path, line and column."""
Marks = tuple[Mark, ...]


class Place(msgspec.Struct, frozen=True):
    """Where an object stood in a file when it was applied, and which version of it: `generation` counts its specs."""

    ref: Ref
    uid: str
    generation: int
    file: str
    marks: Marks = ()
