"""Checks of header names and values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fairlead.ir.logformat import HEADER_OPERATORS, format_problems
from fairlead.kinds.virtualservice.spec import Headers
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import invalid, required
from fairlead.model.path import FieldPath

_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110: token
_PSEUDO = (":method", ":scheme", ":authority", ":path", ":status")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_OPERATOR = re.compile(r'%[A-Za-z0-9_]+(?:\((?:[^()"]|"[^"]*")*\))?(?::[0-9]+)?%')
_CLAIM = re.compile(r"@request\.auth\.claims(?:\..+|\[.+\])", re.IGNORECASE)


def is_claim(name: str) -> bool:
    """Whether a header match means a claim of the request's JWT (`@request.auth.claims.group`)."""
    return _CLAIM.fullmatch(name) is not None


def is_authority(name: str) -> bool:
    """Whether a header is the request's host."""
    return name.lower() in (":authority", "host")


def check_match_header(path: FieldPath, name: str) -> Iterator[Problem]:
    """The name of a header that is matched."""
    if not name:
        yield required(path, "header name cannot be empty")
    elif not is_claim(name) and name not in _PSEUDO and not _NAME.fullmatch(name):
        yield invalid(path, f"header name {name} is not a valid header name")


def check_cors_header(path: FieldPath, name: str) -> Iterator[Problem]:
    """The name of a header in a CORS policy."""
    if not name:
        yield required(path, "header name cannot be empty")
    elif not _NAME.fullmatch(name):
        yield invalid(path, f"header name {name} is not a valid header name")


def check_headers(path: FieldPath, headers: Headers | None) -> Iterator[Problem]:
    """Header operations."""
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        where = path / side
        for verb, values in (("set", operations.set), ("add", operations.add)):
            yield from _values(where / verb, values, request=side == "request")
        for at, name in enumerate(operations.remove):
            yield from _name(where.child("remove", at), name)


def _values(path: FieldPath, values: Mapping[str, str], *, request: bool) -> Iterator[Problem]:
    for name, value in values.items():
        where = path / name
        # The authority may be set on the way to the destination: that is a rewrite of the host.
        if not (request and is_authority(name)):
            yield from _name(where, name)
        if _CONTROL.search(value):
            yield invalid(where, "the header's value has control characters")
        elif not _formats(value):
            message = f"header value {value!r} has an unescaped or unbalanced %"
            yield invalid(where, message, "Write a literal percent sign as %%.")
        else:
            yield from format_problems(value, where, HEADER_OPERATORS)


def _name(path: FieldPath, name: str) -> Iterator[Problem]:
    if not name:
        yield required(path, "header name cannot be empty")
    elif name.lower() == "host":
        yield invalid(path, f"invalid header {name!r}: cannot set Host header")
    elif name.startswith(":"):
        yield invalid(path, f'invalid header {name!r}: header cannot have ":" prefix')


def _formats(value: str) -> bool:
    at = value.find("%")
    while at >= 0:
        found = _OPERATOR.match(value, at)
        if value.startswith("%%", at):
            at += 2
        elif found:
            at = found.end()
        else:
            return False
        at = value.find("%", at)
    return True
