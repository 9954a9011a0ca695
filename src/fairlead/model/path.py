"""Paths to fields, as Kubernetes writes them: `spec.http[0].route[1].destination.host`."""

from __future__ import annotations

import re

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
        out: list[str] = []
        for part in self:
            if isinstance(part, str) and len(part) > _LONGEST:
                part = part[:_LONGEST] + "..."
            if isinstance(part, int):
                out.append(f"[{part}]")
            elif _PLAIN.match(part):
                out.append(f".{part}" if out else part)
            else:
                out.append(f"[{part}]")
        return "".join(out)

    def __repr__(self) -> str:
        return f"FieldPath({str(self)!r})"


def path_of(text: str) -> FieldPath:
    """The inverse of `str(FieldPath)`: what a person or a server calls a field."""
    parts = (int(m[1]) if m[1] is not None else (m[2] if m[2] is not None else m[3]) for m in _PART.finditer(text))
    return FieldPath(tuple(parts))


ROOT = FieldPath()
SPEC = FieldPath(("spec",))
METADATA = FieldPath(("metadata",))
