"""Decoding of JSON-shaped data into typed structs, with every problem named by its field path.

msgspec decodes; it stops at the first problem and knows nothing of near misses. Where it refuses, the value is
walked beside its type and every unknown field, missing field and wrong type is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from fairlead.model.diagnostic import Problem
from fairlead.model.names import nearest
from fairlead.model.path import ROOT, FieldPath

T = TypeVar("T")

_LARGEST = 1 << 64
MOST = 100
"""Problems of one value that are told: nobody reads more, and each looks for near misses."""


def decode(kind: type[T], value: object, path: FieldPath = ROOT) -> tuple[T | None, list[Problem]]:
    """The typed value, or None and the problems (never both empty)."""
    try:
        return msgspec.convert(value, kind, strict=True), []
    except (msgspec.ValidationError, OverflowError) as error:
        problems = list(islice(_walk(_info(kind), value, path), MOST))
        return None, problems or [Problem(path, _plain(str(error)), code="FL0002", reason="FieldValueInvalid")]


def encode(value: object) -> Any:
    """The JSON-shaped form of a struct (defaults omitted, as its type says)."""
    return msgspec.to_builtins(value, str_keys=True)


@lru_cache(maxsize=4096)
def _info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _plain(message: str) -> str:
    return message.partition(" - at ")[0].replace("`", "")


def _wrong(path: FieldPath, wanted: str, value: object) -> Problem:
    return Problem(path, f"expected {wanted}, found {_kind_of(value)}", code="FL0002", reason="FieldValueTypeInvalid")


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < _LARGEST else "a huge number"
    if isinstance(value, str):
        return f"the string {value!r}" if len(value) < 60 else "a string"
    return "a list" if isinstance(value, list) else "an object"


def _walk(info: inspect.Type, value: object, path: FieldPath) -> Iterator[Problem]:
    if isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.StructType):
        yield from _walk_struct(info, value, path)
    elif isinstance(info, inspect.UnionType):
        yield from _walk_union(info, value, path)
    elif isinstance(info, inspect.DictType):
        if not isinstance(value, dict):
            yield _wrong(path, "an object", value)
            return
        held = cast("dict[str, object]", value)
        yield from _walk_size(info, len(held), path)
        for key, item in held.items():
            yield from _walk(info.value_type, item, path / key)
    elif isinstance(info, inspect.ListType | inspect.VarTupleType):
        if not isinstance(value, list):
            yield _wrong(path, "a list", value)
            return
        items = cast("list[object]", value)
        yield from _walk_size(info, len(items), path)
        for at, item in enumerate(items):
            yield from _walk(info.item_type, item, path / at)
    else:
        yield from _walk_leaf(info, value, path)


def _walk_size(
    info: inspect.DictType | inspect.ListType | inspect.VarTupleType, size: int, path: FieldPath
) -> Iterator[Problem]:
    """Bounds on how many entries a list or map may have."""
    if info.max_length is not None and size > info.max_length:
        remedy = "Remove some, or split the object."
        yield Problem(path, f"{size} entries are more than {info.max_length}", remedy=remedy, code="FL0006")
    if info.min_length is not None and size < info.min_length:
        remedy = "Leave the field out, or add some."
        yield Problem(path, f"{size} entries are fewer than {info.min_length}", remedy=remedy, code="FL0006")


def _walk_struct(info: inspect.StructType, value: object, path: FieldPath) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong(path, "an object", value)
        return
    data = cast("dict[str, object]", value)
    fields = {field.encode_name: field for field in info.fields}
    for name, item in data.items():
        field = fields.get(name)
        if field is None:
            near = nearest(name, fields)
            remedy = f"Did you mean {near!r}?" if near else f"Known fields: {', '.join(sorted(fields))}."
            yield Problem(
                path / name,
                f"unknown field {name!r}",
                remedy=remedy,
                code="FL0003",
                reason="FieldValueUnknown",
            )
        else:
            yield from _walk(field.type, item, path / name)
    for name, field in fields.items():
        if field.required and name not in data:
            yield Problem(path / name, "required", code="FL0004", reason="FieldValueRequired")


def _walk_union(info: inspect.UnionType, value: object, path: FieldPath) -> Iterator[Problem]:
    if value is None and info.includes_none:
        return
    best: list[Problem] | None = None
    for option in info.types:
        if isinstance(option, inspect.NoneType):
            continue
        found = list(islice(_walk(option, value, path), MOST))
        if not found:
            return
        if best is None or max(len(one.path) for one in found) > max(len(one.path) for one in best):
            best = found
    yield from best or ()


def _walk_leaf(info: inspect.Type, value: object, path: FieldPath) -> Iterator[Problem]:
    wanted = _LEAVES.get(type(info))
    if isinstance(info, inspect.LiteralType):
        if value not in info.values:
            yield _unsupported(path, value, [str(item) for item in info.values])
        return
    if isinstance(info, inspect.EnumType):
        names = [str(item.value) for item in info.cls]
        if value not in names:
            yield _unsupported(path, value, names)
        return
    if wanted is None:
        return
    accepts, name = wanted
    if not isinstance(value, accepts) or (isinstance(value, bool) and bool not in accepts):
        yield _wrong(path, name, value)
        return
    yield from _walk_bounds(info, value, path)


def _unsupported(path: FieldPath, value: object, known: list[str]) -> Problem:
    near = nearest(str(value), known)
    remedy = f"Did you mean {near!r}?" if near else f"One of: {', '.join(known)}."
    return Problem(
        path,
        f"unsupported value {_kind_of(value)}",
        remedy=remedy,
        code="FL0005",
        reason="FieldValueNotSupported",
    )


def _walk_bounds(info: inspect.Type, value: object, path: FieldPath) -> Iterator[Problem]:
    if isinstance(info, inspect.IntType | inspect.FloatType):
        number = cast("float", value)
        if (info.ge is not None and number < info.ge) or (info.gt is not None and number <= info.gt):
            yield Problem(path, f"{number} is too small", code="FL0006")
        if (info.le is not None and number > info.le) or (info.lt is not None and number >= info.lt):
            yield Problem(path, f"{number} is too large", code="FL0006")
    elif isinstance(info, inspect.StrType):
        text = cast("str", value)
        if info.max_length is not None and len(text) > info.max_length:
            yield Problem(path, f"longer than {info.max_length} characters", code="FL0006")
        if info.min_length is not None and len(text) < info.min_length:
            yield Problem(path, "must not be empty", code="FL0006", reason="FieldValueRequired")


_LEAVES: dict[type[Any], tuple[tuple[type, ...], str]] = {
    inspect.StrType: ((str,), "a string"),
    inspect.IntType: ((int,), "an integer"),
    inspect.FloatType: ((int, float), "a number"),
    inspect.BoolType: ((bool,), "true or false"),
}
