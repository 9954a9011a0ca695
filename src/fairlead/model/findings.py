"""The findings that validators of several kinds make, worded and coded alike."""

from __future__ import annotations

from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.path import FieldPath

NO_EFFECT = "FL0100"
DEPRECATED = "FL0101"
UNUSED = "FL0102"
DOUBTFUL = "FL0103"


def invalid(path: FieldPath, message: str, remedy: str = "") -> Problem:
    """A value that is not acceptable."""
    return Problem(path, message, remedy=remedy)


def required(path: FieldPath, message: str, remedy: str = "") -> Problem:
    """Something that must be given is not."""
    return Problem(path, message, remedy=remedy, code="FL0004", reason="FieldValueRequired")


def duplicate(path: FieldPath, message: str, remedy: str = "") -> Problem:
    """A value that may stand once stands twice."""
    return Problem(path, message, remedy=remedy, reason="FieldValueDuplicate")


def forbidden(path: FieldPath, message: str, remedy: str = "") -> Problem:
    """A field that may not be set beside what else is set."""
    return Problem(path, message, remedy=remedy, reason="FieldValueForbidden")


def unsupported(path: FieldPath, message: str, remedy: str = "") -> Problem:
    """A value outside of the known ones."""
    return Problem(path, message, remedy=remedy, code="FL0005", reason="FieldValueNotSupported")


def doubtful(path: FieldPath, message: str, remedy: str = "") -> Problem:
    """A warning: probably not what was meant."""
    return Problem(path, message, Severity.WARNING, remedy, DOUBTFUL)


def unused(path: FieldPath, message: str, remedy: str = "") -> Problem:
    """A warning: this part of the object can never take effect."""
    return Problem(path, message, Severity.WARNING, remedy, UNUSED)


def deprecated(path: FieldPath, instead: str) -> Problem:
    """A warning: the field still works as Istio's does, and another one took its place."""
    name = path[-1]
    return Problem(path, f"{name} is deprecated", Severity.WARNING, f"Use {instead} instead.", DEPRECATED)


def no_effect(path: FieldPath, remedy: str = "") -> Problem:
    """A warning: the field is understood and checked, and this version of the mesh does not act on it."""
    message = f"{path} has no effect in this version"
    return Problem(path, message, Severity.WARNING, remedy or "Remove it, or do not rely on it.", NO_EFFECT)
