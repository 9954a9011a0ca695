"""Objects with one field left out or altered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from fairlead.compiler.registry import Registry
from fairlead.ir.kind import Kind
from fairlead.model.object import Object
from fairlead.model.path import FieldPath
from fairlead.model.syntax import is_ip

Json = dict[str, Any]
_ASIDE = ("apiVersion", "kind", "metadata", "status")
_SAID = ("labels", "annotations")
"""What of an object's metadata has a meaning to the mesh."""


def document(kind: Kind[Any], obj: Object[Any]) -> Json:
    """An object as the document that it is read from (fields with their default values are left out)."""
    made: Json = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": msgspec.to_builtins(obj.meta)}
    spec = msgspec.to_builtins(obj.spec)
    made.update(spec if kind.inline else {"spec": spec})
    if obj.status is not None:
        made["status"] = msgspec.to_builtins(obj.status)
    return made


def tops(data: Json) -> Iterator[FieldPath]:
    """The outermost fields of a document that may be left out."""
    for name in data:
        if name == "spec":
            yield from (FieldPath(("spec", inner)) for inner in children(data, FieldPath(("spec",))))
        elif name not in _ASIDE:
            yield FieldPath((name,))
    for name in _SAID:
        said = cast("Json", data["metadata"].get(name) or {})
        yield from (FieldPath(("metadata", name, inner)) for inner in said)


def children(data: Json, path: FieldPath) -> list[str | int]:
    """The names or places in a value of a document; none in a plain value."""
    value = value_at(data, path)
    if isinstance(value, Mapping):
        return list(cast("Mapping[str, Any]", value))
    return list(range(len(cast("list[Any]", value)))) if isinstance(value, list | tuple) else []


def value_at(data: Json, path: FieldPath) -> Any:
    """What stands at a path that is there."""
    here: Any = data
    for part in path:
        here = here[part]
    return here


def has(data: Json, path: FieldPath) -> bool:
    """Whether something stands at a path."""
    here: Any = data
    for part in path:
        if isinstance(here, Mapping) and part in here:
            here = cast("Json", here)[str(part)]
        elif isinstance(here, list | tuple) and isinstance(part, int) and part < len(cast("list[Any]", here)):
            here = cast("list[Any]", here)[part]
        else:
            return False
    return bool(path)


def without(data: Json, path: FieldPath) -> Json:
    """A document with one field or element left out; what holds it stays, if empty."""
    return _changed(data, path, None)


def altered(data: Json, path: FieldPath) -> list[Json]:
    """A document with another value in a field that cannot be left out; none if there is no obvious other value."""
    value = value_at(data, path)
    if isinstance(value, bool):
        others: list[Any] = [not value]
    elif isinstance(value, int | float):
        others = [value + 1, value - 1]
    elif isinstance(value, str) and is_ip(value):
        others = [value[:-1] + ("2" if value[-1] != "2" else "3"), f"{value}2"]
    elif isinstance(value, str) and value:
        others = [f"{value}x", f"x{value}"]
    else:
        others = []
    return [_changed(data, path, other) for other in others]


def _changed(here: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy with another value at a path; None leaves it out."""
    first, rest = path[0], path[1:]
    out: Any = dict(cast("Json", here)) if isinstance(here, Mapping) else list(here)
    if rest:
        out[first] = _changed(here[first], rest, value)
    elif value is None:
        del out[first]
    else:
        out[first] = value
    return out


def read(kinds: Registry, data: Json, obj: Object[Any]) -> Object[Any] | None:
    """The object that a document says, in the place of `obj`; None if it would not be admitted."""
    found, _ = kinds.read(data, obj.ref.namespace or "default")
    return found
