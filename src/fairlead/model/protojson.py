"""What protobuf's JSON takes beside the form that Fairlead's objects have.

Istio reads MeshConfig, MeshNetworks and ProxyConfig that way. A field may have the name of its .proto file
(`cluster_local` for `clusterLocal`, as in Istio's own documentation), null is a field that is not there (charts write
it for values that nobody set) and a message that says nothing in a map or a list, and a number may be a string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec
from msgspec import inspect

from fairlead.model.path import FieldPath

Path = tuple[str | int, ...]

_WORD = re.compile(r"_(.)")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class Read(msgspec.Struct):
    """A value as objects have it, and by path the names that are written otherwise."""

    value: Any
    written: dict[Path, str] = {}

    def original(self, path: FieldPath) -> FieldPath:
        """The path as it is written."""
        at = tuple(path)
        return FieldPath(tuple(self.written.get(at[: end + 1], at[end]) for end in range(len(at))))


def of_protojson(kind: type, value: object) -> Read:
    """A value of a struct; what protobuf does not take either, or is there twice, stays as it is."""
    written: dict[Path, str] = {}
    return Read(_read(_info(kind), value, (), written), written)


@lru_cache(maxsize=64)
def _info(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _read(info: inspect.Type, value: object, path: Path, written: dict[Path, str]) -> object:
    match info:
        case inspect.Metadata():
            return _read(info.type, value, path, written)
        case inspect.UnionType():
            found = next((one for one in info.types if _is_for(one, value)), None)
            text = isinstance(value, str) and any(isinstance(one, inspect.StrType) for one in info.types)
            return value if found is None or text else _read(found, value, path, written)
        case inspect.StructType() if value is None:
            return {}
        case inspect.StructType() if isinstance(value, dict):
            return _fields(info, cast("dict[Any, object]", value), path, written)
        case inspect.DictType() if isinstance(value, dict):
            held = cast("dict[Any, object]", value)
            return {name: _read(info.value_type, one, (*path, name), written) for name, one in held.items()}
        case inspect.ListType() | inspect.VarTupleType() if isinstance(value, list):
            items = enumerate(cast("list[object]", value))
            return [_read(info.item_type, one, (*path, at), written) for at, one in items]
        case inspect.IntType() | inspect.FloatType() if isinstance(value, str):
            return _number(int if isinstance(info, inspect.IntType) else float, value)
        case _:
            return value


def _is_for(info: inspect.Type, value: object) -> bool:
    """Whether a branch of a union is the one for such a value."""
    match info:
        case inspect.Metadata():
            return _is_for(info.type, value)
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case inspect.ListType() | inspect.VarTupleType():
            return isinstance(value, list)
        case inspect.IntType() | inspect.FloatType():
            return isinstance(value, str)
        case _:
            return False


def _number(kind: type[int | float], value: str) -> int | float | str:
    return kind(value) if _NUMBER.fullmatch(value) and (kind is float or value.lstrip("-").isdecimal()) else value


def _fields(
    info: inspect.StructType, value: Mapping[Any, object], path: Path, written: dict[Path, str]
) -> dict[Any, object]:
    known = {one.encode_name: one for one in info.fields}
    out: dict[Any, object] = {}
    for key, one in value.items():
        name = _json_name(key) if isinstance(key, str) else key
        if name == key or name not in known or name in value or name in out:
            name = key
        else:
            written[*path, name] = key
        if one is None and name in known:
            continue
        out[name] = _read(known[name].type, one, (*path, name), written) if name in known else one
    return out


def _json_name(name: str) -> str:
    """What protobuf makes of a field's name; `mesh_mTLS` is `meshMTLS`."""
    return _WORD.sub(lambda found: found[1].upper(), name)
