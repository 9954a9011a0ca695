"""The destinations of a VirtualService, each with the place where it is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fairlead.analyze import shape
from fairlead.analyze.document import Document
from fairlead.model.path import SPEC, FieldPath


class Target(NamedTuple):
    """One destination: `section` is http, tcp or tls; `word` what it is called in sentences; `path` its field."""

    section: str
    word: str
    host: str
    subset: str
    port: int | None
    path: FieldPath


def _target(section: str, word: str, to: dict[str, Any], path: FieldPath) -> Iterator[Target]:
    host = shape.text(to, "host")
    if host:
        yield Target(section, word, host, shape.text(to, "subset"), shape.number(to, "port", "number"), path)


def targets(one: Document) -> tuple[Target, ...]:
    """Every destination, mirrors among them, in the order of the document."""
    return one.once(_targets)


def _targets(one: Document) -> tuple[Target, ...]:
    return tuple(_each(one))


def _each(one: Document) -> Iterator[Target]:
    for section in ("http", "tcp", "tls"):
        for at, rule in shape.entries(one.spec, section):
            base = SPEC.child(section, at)
            for number, route in shape.entries(rule, "route"):
                to = shape.mapping(route, "destination")
                yield from _target(section, "host", to, base.child("route", number, "destination"))
            if section != "http":
                continue
            yield from _target(section, "mirror host", shape.mapping(rule, "mirror"), base / "mirror")
            for number, mirror in shape.entries(rule, "mirrors"):
                to = shape.mapping(mirror, "destination")
                yield from _target(section, "mirror host", to, base.child("mirrors", number, "destination"))
