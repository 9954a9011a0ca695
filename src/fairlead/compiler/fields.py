"""The fields of a kind as people read them: name, type, default and meaning, from the kind's own structs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import inspect

from fairlead.ir.kind import Kind
from fairlead.model.object import Spec

_PLAIN: dict[type[Any], str] = {
    inspect.StrType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
    inspect.AnyType: "anything",
    inspect.NoneType: "null",
}


class Field(msgspec.Struct, frozen=True):
    """A field of a struct. `struct` is the struct that its value is, holds or lists (None: a plain value)."""

    name: str
    type: str
    default: str
    required: bool
    description: str
    struct: type[Any] | None = None


class Structure(msgspec.Struct, frozen=True):
    """A struct with its fields; `path` is the first place where it stands, below the kind."""

    path: str
    name: str
    description: str
    fields: tuple[Field, ...]


def structures(kind: Kind[Any]) -> tuple[Structure, ...]:
    """The structs of a kind, each once, in the order in which a reader meets them."""
    top = "" if kind.inline else "spec"
    out: list[Structure] = []
    left: list[tuple[str, type[Any]]] = [(top, kind.spec)]
    seen: set[type[Any]] = {kind.spec}
    while left:
        path, struct = left.pop(0)
        found = fields(struct)
        out.append(Structure(path, struct.__name__, _first(struct), found))
        for one in found:
            if one.struct is not None and one.struct not in seen:
                seen.add(one.struct)
                left.append((f"{path}.{one.name}" if path else one.name, one.struct))
    return tuple(out)


def fields(struct: type[Any]) -> tuple[Field, ...]:
    """The fields of a struct, in their order."""
    info = cast("inspect.StructType", inspect.type_info(struct))
    return tuple(_field(one) for one in info.fields)


def at(kind: Kind[Any], path: Sequence[str]) -> Field | None:
    """The field at a path of names such as `spec.http.retries`, or None. The path may leave `spec` out."""
    names = list(path[1:] if path[:1] == ("spec",) and not kind.inline else path)
    here = Field("spec", "object", "", required=False, description=kind.doc, struct=kind.spec)
    for name in names:
        if here.struct is None:
            return None
        found = next((one for one in fields(here.struct) if one.name == name), None)
        if found is None:
            return None
        here = found
    return here


def _field(said: inspect.Field) -> Field:
    described = _described(said.type)
    name, struct = _type(said.type)
    return Field(said.encode_name, name, _default(said), said.required, described or (_first(struct)), struct)


def _described(info: inspect.Type) -> str:
    while isinstance(info, inspect.Metadata):
        # msgspec types it as a bare dict.
        schema = cast("dict[str, object] | None", info.extra_json_schema)  # pyright: ignore[reportUnknownMemberType]
        text = str((schema or {}).get("description", ""))
        if text:
            return text
        info = info.type
    return ""


def _type(info: inspect.Type) -> tuple[str, type[Any] | None]:
    if isinstance(info, inspect.Metadata):
        return _type(info.type)
    if isinstance(info, inspect.StructType):
        return "object", info.cls
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        name, struct = _type(info.item_type)
        return f"list of {name}", struct
    if isinstance(info, inspect.DictType):
        name, struct = _type(info.value_type)
        return f"map of {name}", struct
    if isinstance(info, inspect.UnionType):
        found = [_type(one) for one in info.types if not isinstance(one, inspect.NoneType)]
        return " or ".join(name for name, _ in found), next((one for _, one in found if one is not None), None)
    if isinstance(info, inspect.LiteralType):
        return ", ".join(map(str, info.values)), None
    if isinstance(info, inspect.EnumType):
        return ", ".join(str(one.value) for one in info.cls), None
    return _PLAIN.get(type(info), "text"), None


def _default(said: inspect.Field) -> str:
    value = said.default
    if value in (msgspec.NODEFAULT, None, "", ()) or isinstance(value, Spec | dict):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, cast("Sequence[object]", value))) if isinstance(value, tuple) else str(value)


def _first(struct: type[Any] | None) -> str:
    """The first paragraph of a struct's own documentation."""
    text = (struct.__doc__ or "") if struct is not None else ""
    return " ".join(text.partition("\n\n")[0].split())
