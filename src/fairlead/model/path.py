"""Paths to fields, as Kubernetes writes them: `spec.http[0].route[1].destination.host`."""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 300
"""Characters of a field's name that are shown."""
_PART = re.compile(r"\[(\d+)\]|\[([^\]]*)\]|([^.\[\]]+)")
_PLAIN = re.compile(r"^[A-Za-z_$][A-Za-z0-9_\-$]*$")


class FieldPath(tuple[str | int, ...]):
    """A sequence of field names and list positions; empty means the whole object."""

    __slots__ = ()

    def child(self, *parts: str | int) -> FieldPath:
        """The path of something inside."""
        return FieldPath((*self, *parts))

    def __truediv__(self, part: str | int) -> FieldPath:
        return FieldPath((*self, part))

    def __str__(self) -> str:
        return "".join(map(_step, self)).removeprefix(".")

    def __repr__(self) -> str:
        return f"FieldPath({str(self)!r})"


@lru_cache(4096)
def _step(part: str | int) -> str:
    """How a name or position continues a path; few of them make most paths."""
    if isinstance(part, int):
        return f"[{part}]"
    short = part[:_LONGEST] + "..." if len(part) > _LONGEST else part
    return f".{short}" if _PLAIN.match(short) else f"[{short}]"


def path_of(text: str) -> FieldPath:
    """The inverse of `str(FieldPath)`: what a person or a server calls a field."""
    parts = (int(m[1]) if m[1] is not None else (m[2] if m[2] is not None else m[3]) for m in _PART.finditer(text))
    return FieldPath(tuple(parts))


ROOT = FieldPath()
SPEC = FieldPath(("spec",))
METADATA = FieldPath(("metadata",))
