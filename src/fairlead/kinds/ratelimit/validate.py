"""Validation of RateLimit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envoy.type.v3.http_status_pb2 import StatusCode

from fairlead.kinds.ratelimit.spec import Per, RateLimit, Service, When
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import doubtful, duplicate, forbidden, invalid, required
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.syntax import wrong_duration
from fairlead.model.target import selector_problems, target_problems, unserved_targets

_HEADER = re.compile(r":?[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")
_METHOD = re.compile(r"[A-Z][A-Z-]*\Z")
_MOST = 64


def validate(obj: Object[RateLimit]) -> Iterator[Problem]:
    """Whom it is for, its local limits, and the server."""
    spec = obj.spec
    yield from target_problems(spec.selector, None, spec.target_refs)
    yield from selector_problems(spec.selector)
    yield from unserved_targets(None, spec.target_refs)
    if not spec.limits and spec.global_ is None:
        yield required(SPEC / "limits", "neither limits nor global: nothing is limited", "Give one of them.")
    named = [(one.name, one.when, one.per) for one in spec.limits]
    yield from _limits(named, SPEC / "limits")
    for at, one in enumerate(spec.limits):
        if one.burst and one.burst < one.requests and one.unit == "SECOND":
            where = SPEC.child("limits", at, "burst")
            yield doubtful(where, "fewer than the requests of a second: these can hardly be reached", "Raise it.")
    if spec.global_ is not None:
        yield from _service(spec.global_, SPEC / "global")
    if spec.status not in StatusCode.values():
        yield invalid(SPEC / "status", f"{spec.status} is not a status that Envoy can answer with", "Use 429.")
    if spec.bucket != "SHARED" and not spec.limits:
        yield doubtful(SPEC / "bucket", "counts for local limits only", "Remove it.")


def _service(said: Service, path: FieldPath) -> Iterator[Problem]:
    wrong = wrong_duration(said.timeout)
    if wrong:
        yield invalid(path / "timeout", wrong)
    if not said.descriptors:
        yield required(path / "descriptors", "required", "Say what the server is asked about.")
    if "." not in said.host.strip("."):
        yield invalid(
            path / "host", f"{said.host!r} is not a full host name", "Such as limits.infra.svc.cluster.local."
        )
    yield from _limits([(one.name, one.when, one.per) for one in said.descriptors], path / "descriptors")


def _limits(said: list[tuple[str, When | None, tuple[Per, ...]]], path: FieldPath) -> Iterator[Problem]:
    if len(said) > _MOST:
        yield invalid(path, f"more than {_MOST}", "Split the object.")
    names = [name for name, _, _ in said]
    for at, (name, when, per) in enumerate(said):
        if name in names[:at]:
            yield duplicate(path.child(at, "name"), f"{name!r} stands twice", "Give each limit its own name.")
        if when is not None:
            yield from _when(when, path.child(at, "when"))
        for position, one in enumerate(per):
            yield from _per(one, path.child(at, "per", position))


def _when(said: When, path: FieldPath) -> Iterator[Problem]:
    if not (said.methods or said.paths or said.headers):
        yield doubtful(path, "no condition: every request counts", "Remove it.")
    for at, one in enumerate(said.methods):
        if not _METHOD.match(one):
            yield invalid(path.child("methods", at), f"{one!r} is not a method", "Methods are in capitals, as GET.")
    for at, one in enumerate(said.paths):
        if not one.startswith(("/", "*")):
            yield invalid(path.child("paths", at), f"{one!r} is not a path", "Begin with /.")
        if "*" in one[:-1]:
            yield invalid(path.child("paths", at), "`*` is possible at the end only", "Use a prefix.")
    for name in said.headers:
        if not _HEADER.match(name):
            yield invalid(path.child("headers", name), f"{name!r} is not the name of a header")


def _per(said: Per, path: FieldPath) -> Iterator[Problem]:
    given = [name for name in ("header", "query", "attribute") if getattr(said, name)]
    if not given:
        yield required(path, "nothing to tell requests apart by", "Give header, query or attribute.")
    elif len(given) > 1:
        yield forbidden(path, f"only one of {', '.join(given)} can be set", "Use an element for each.")
    if said.header and not _HEADER.match(said.header):
        yield invalid(path / "header", f"{said.header!r} is not the name of a header")
