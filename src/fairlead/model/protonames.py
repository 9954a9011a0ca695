"""Names of fields as a .proto file has them (`cluster_local`), which protobuf's JSON takes beside `clusterLocal`.

Istio reads MeshConfig, MeshNetworks and ProxyConfig as protobuf's JSON, and its own documentation has such names.
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


class Read(msgspec.Struct):
    """A value with the names that JSON has, and by path where it is written with another one."""

    value: Any
    written: dict[Path, str] = {}

    def original(self, path: FieldPath) -> FieldPath:
        """The path as it is written."""
        at = tuple(path)
        return FieldPath(tuple(self.written.get(at[: end + 1], at[end]) for end in range(len(at))))


def with_json_names(kind: type, value: object) -> Read:
    """A value of a struct; whatever is not a field's name by its .proto file, or is there twice, stays as it is."""
    written: dict[Path, str] = {}
    return Read(_named(_info(kind), value, (), written), written)


@lru_cache(maxsize=64)
def _info(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _named(info: inspect.Type, value: object, path: Path, written: dict[Path, str]) -> object:
    match info:
        case inspect.Metadata():
            return _named(info.type, value, path, written)
        case inspect.UnionType():
            found = next((one for one in info.types if _holds(one, value)), None)
            return value if found is None else _named(found, value, path, written)
        case inspect.StructType() if isinstance(value, dict):
            return _fields(info, cast("dict[Any, object]", value), path, written)
        case inspect.DictType() if isinstance(value, dict):
            held = cast("dict[Any, object]", value)
            return {name: _named(info.value_type, one, (*path, name), written) for name, one in held.items()}
        case inspect.ListType() | inspect.VarTupleType() if isinstance(value, list):
            items = enumerate(cast("list[object]", value))
            return [_named(info.item_type, one, (*path, at), written) for at, one in items]
        case _:
            return value


def _holds(info: inspect.Type, value: object) -> bool:
    """Whether a branch of a union is the one for such a value, as far as names in it go."""
    if isinstance(info, inspect.Metadata):
        return _holds(info.type, value)
    if isinstance(info, inspect.StructType | inspect.DictType):
        return isinstance(value, dict)
    return isinstance(info, inspect.ListType | inspect.VarTupleType) and isinstance(value, list)


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
        out[name] = _named(known[name].type, one, (*path, name), written) if name in known else one
    return out


def _json_name(name: str) -> str:
    """What protobuf makes of a field's name; `mesh_mTLS` is `meshMTLS`."""
    return _WORD.sub(lambda found: found[1].upper(), name)
