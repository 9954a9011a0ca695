"""Refusals: everything the API says no to, as a Kubernetes `Status`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fairlead.ir.kind import Kind
from fairlead.model.diagnostic import Problem, Severity
from fairlead.store import AlreadyExists, Conflict, Gone, NotFound, StoreError

Json = dict[str, Any]

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refusal(Exception):
    """A request that is not served. `code` is the HTTP status."""

    def __init__(self, code: int, message: str, *, reason: str = "", details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _REASONS.get(code, "")
        self.details = details or {}

    def status(self) -> Json:
        """The `Status` document."""
        out: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            out["details"] = self.details
        return out


def qualified(kind: Kind[Any]) -> str:
    """`virtualservices.networking.istio.io`"""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def named(kind: Kind[Any], name: str, *, by_kind: bool = False) -> Json:
    """The details that say which object is meant. Most refusals name the resource, Invalid names the kind."""
    out: Json = {"name": name, "kind": kind.kind if by_kind else kind.plural}
    if kind.group:
        out["group"] = kind.group
    return out


def missing(kind: Kind[Any], name: str) -> Refusal:
    """404: no such object."""
    return Refusal(404, f'{qualified(kind)} "{name}" not found', details=named(kind, name))


def cause(problem: Problem) -> Json:
    """A `StatusCause`; the remedy is part of the message because clients print nothing else."""
    message = f"{problem.message}. {problem.remedy}" if problem.remedy else problem.message
    return {"reason": problem.reason, "message": message, "field": str(problem.path)}


def invalid(kind: Kind[Any], name: str, problems: Iterable[Problem]) -> Refusal:
    """422: the object is understood and not acceptable; every problem is a cause."""
    causes = [cause(one) for one in problems if one.severity is Severity.ERROR]
    said = "; ".join(f"{one['field']}: {one['message']}" if one["field"] else one["message"] for one in causes)
    qualified_kind = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details = named(kind, name, by_kind=True) | {"causes": causes}
    return Refusal(422, f'{qualified_kind} "{name}" is invalid: {said}', details=details)


def bad_request(message: str, details: Json | None = None) -> Refusal:
    """400: not understood."""
    return Refusal(400, message, details=details)


def from_store(kind: Kind[Any], name: str, error: StoreError) -> Refusal:
    """What the store refused, in the words of the API."""
    if isinstance(error, NotFound):
        return missing(kind, name)
    if isinstance(error, AlreadyExists):
        said = f'{qualified(kind)} "{name}" already exists'
        return Refusal(409, said, reason="AlreadyExists", details=named(kind, name))
    if isinstance(error, Conflict):
        said = (
            f'Operation cannot be fulfilled on {qualified(kind)} "{name}": the object has been modified '
            f"({error.field} is {error.found}, not {error.wanted}); please apply your changes to the latest version "
            "and try again"
        )
        return Refusal(409, said, details=named(kind, name))
    if isinstance(error, Gone):
        return expired(error)
    return Refusal(503, f"the store cannot be used: {error}")


def expired(error: Gone) -> Refusal:
    """410: the revision is not kept; list again and go on from there."""
    said = f"too old resource version: {error.revision} ({error.oldest}); {error}. List again and go on from there."
    return Refusal(410, said)
