"""What happened: changes and versions."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fairlead.model.ref import Ref

Json = dict[str, Any]
Operation = Literal["ADDED", "MODIFIED", "DELETED"]


class Change(msgspec.Struct, frozen=True):
    """One write of a commit. The documents are shared between all who see the change: do not alter them.

    `new` is None exactly for DELETED, `old` exactly for ADDED. `revision` is that of the commit; `time` is in Unix
    seconds.
    """

    revision: int
    operation: Operation
    ref: Ref
    old: Json | None
    new: Json | None
    author: str = ""
    time: float = 0
    message: str = ""


class Version(msgspec.Struct, frozen=True):
    """One version in an object's history; `document` is None where the object was deleted."""

    revision: int
    operation: Operation
    document: Json | None
    author: str
    time: float
    message: str
