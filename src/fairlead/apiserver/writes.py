"""What is asked of admission, and what comes of it."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.model.ref import Ref

Json = dict[str, Any]


class Write(msgspec.Struct, frozen=True):
    """Who writes, how, and in which version; `manager` owns the fields, `author`, `message` and `command` (the command
    line that asked for it) go into the history."""

    author: str = ""
    manager: str = "unknown"
    message: str = ""
    version: str = ""
    subresource: str = ""
    dry_run: bool = False
    force: bool = False
    command: str = ""


class Admitted(msgspec.Struct, frozen=True):
    """What came of a write: the document as it is now, and what the writer should know."""

    document: Json
    warnings: tuple[str, ...] = ()
    created: bool = False


class Judged(msgspec.Struct):
    """What admission says of documents to be restored: warnings, and those that it would store otherwise."""

    warnings: list[str] = []
    altered: list[tuple[Ref, Json]] = []


class Precondition(msgspec.Struct, frozen=True):
    """Which object exactly is to be deleted."""

    uid: str = ""
    resource_version: str = ""


ANY = Precondition()
