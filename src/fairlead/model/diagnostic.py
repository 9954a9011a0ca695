"""Findings: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from fairlead.model.path import ROOT, FieldPath
from fairlead.model.ref import Ref


class Severity(StrEnum):
    """How bad a finding is: an error refuses the object, a warning does not."""

    ERROR = "Error"
    WARNING = "Warning"
    INFO = "Info"


class Position(msgspec.Struct, frozen=True):
    """A place in a text; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Origin(msgspec.Struct, frozen=True):
    """An object and a field of it. `position` is known where the object came from a file."""

    ref: Ref
    path: FieldPath = ROOT
    position: Position | None = None

    def __str__(self) -> str:
        field = f" {self.path}" if self.path else ""
        where = f"{self.position}: " if self.position else ""
        return f"{where}{self.ref}{field}"


class Problem(msgspec.Struct, frozen=True):
    """A finding inside one object, before it is known which object that is.

    `reason` is one of the Kubernetes `Status` cause reasons (FieldValueInvalid, FieldValueRequired,
    FieldValueNotSupported, FieldValueDuplicate, FieldValueForbidden, FieldValueTypeInvalid, FieldValueUnknown).
    """

    path: FieldPath
    message: str
    severity: Severity = Severity.ERROR
    remedy: str = ""
    code: str = "FL0001"
    reason: str = "FieldValueInvalid"


class Diagnostic(msgspec.Struct, frozen=True):
    """A finding about an object, complete: code, severity, origin, one sentence, remedy."""

    code: str
    severity: Severity
    message: str
    origin: Origin
    remedy: str = ""

    @staticmethod
    def of(problem: Problem, ref: Ref, position: Position | None = None) -> Diagnostic:
        """Place a problem in its object."""
        return Diagnostic(
            problem.code,
            problem.severity,
            problem.message,
            Origin(ref, problem.path, position),
            problem.remedy,
        )

    def __str__(self) -> str:
        said = f"{self.message}. {self.remedy}" if self.remedy else self.message
        return f"{self.origin}: {self.severity.lower()}: {said} [{self.code}]"


def has_errors(found: Iterable[Problem | Diagnostic]) -> bool:
    """Whether any finding is an error."""
    return any(item.severity is Severity.ERROR for item in found)
