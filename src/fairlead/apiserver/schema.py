"""From a kind's structs to a Kubernetes structural schema. Pure.

No references and no `anyOf` with null: `T | None` is T, because Kubernetes reads an absent field and null alike, and
`int | str` is `x-kubernetes-int-or-string`. Descriptions are docstrings and `msgspec.Meta(description=...)`;
`Meta(extra_json_schema=...)` carries `x-kubernetes-list-type` and the merge keys.
"""

from __future__ import annotations

from functools import lru_cache
from inspect import cleandoc
from typing import Any, cast

from msgspec import NODEFAULT, inspect

from fairlead.ir.kind import Kind

Json = dict[str, Any]

_Sized = inspect.DictType | inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType

ANYTHING: Json = {"x-kubernetes-preserve-unknown-fields": True}
_STRING: Json = {"type": "string"}
_STRINGS: Json = {"type": "object", "additionalProperties": _STRING}
_TIME: Json = {"type": "string", "format": "date-time"}

METADATA: Json = {
    "type": "object",
    "description": "Standard object metadata: what identifies the object and what the server keeps about it.",
    "properties": {
        "name": {**_STRING, "description": "Unique among the objects of this kind in the namespace."},
        "generateName": {**_STRING, "description": "Prefix of a name that the server makes up."},
        "namespace": {**_STRING, "description": "The namespace that the object is in."},
        "labels": {**_STRINGS, "description": "Keys and values by which selectors find the object."},
        "annotations": {**_STRINGS, "description": "Keys and values that tools keep with the object."},
        "uid": {**_STRING, "description": "Set by the server; never used twice."},
        "resourceVersion": {**_STRING, "description": "Set by the server: the revision of the last write."},
        "generation": {"type": "integer", "format": "int64", "description": "Counts changes of the specification."},
        "creationTimestamp": {**_TIME, "description": "Set by the server."},
        "deletionTimestamp": {**_TIME, "description": "Set by the server while finalizers hold a deleted object."},
        "deletionGracePeriodSeconds": {"type": "integer", "format": "int64"},
        "finalizers": {
            "type": "array",
            "items": _STRING,
            "x-kubernetes-list-type": "set",
            "x-kubernetes-patch-strategy": "merge",
            "description": "The object stays until this list is empty.",
        },
        "ownerReferences": {
            "type": "array",
            "description": "The objects that this one belongs to.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "x-kubernetes-patch-merge-key": "uid",
            "x-kubernetes-patch-strategy": "merge",
            "items": {
                "type": "object",
                "properties": {
                    "apiVersion": _STRING,
                    "kind": _STRING,
                    "name": _STRING,
                    "uid": _STRING,
                    "controller": {"type": "boolean"},
                    "blockOwnerDeletion": {"type": "boolean"},
                },
            },
        },
        "managedFields": {
            "type": "array",
            "items": {"type": "object", **ANYTHING},
            "x-kubernetes-list-type": "atomic",
            "description": "Which client set which field.",
        },
        "selfLink": _STRING,
    },
}


def structural(kind: Kind[Any], version: str) -> Json:
    """The schema of a whole object. Shared: do not alter it."""
    names = (kind.group, version, kind.kind, kind.doc)
    return _structural(names, kind.spec, kind.status, inline=kind.inline, has_status=kind.has_status)


@lru_cache(maxsize=512)
def _structural(
    names: tuple[str, str, str, str], spec_type: type, status_type: type | None, *, inline: bool, has_status: bool
) -> Json:
    group, version, kind, doc = names
    spec = of_type(spec_type)
    properties: Json = {
        "apiVersion": {**_STRING, "description": "The version of the API that this object is written in."},
        "kind": {**_STRING, "description": "The kind of the object."},
        "metadata": METADATA,
    }
    required: list[str] = []
    if inline:
        properties |= spec.get("properties", {})
        required = spec.get("required", [])
    else:
        properties["spec"] = spec
    if has_status:
        status = {"type": "object", **ANYTHING} if status_type is None else of_type(status_type)
        properties["status"] = {"description": "What was observed; written by Fairlead.", **status}
    out: Json = {
        "type": "object",
        "description": doc,
        "properties": properties,
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": kind}],
    }
    if required:
        out["required"] = required
    return out


def of_type(kind: Any) -> Json:
    """The schema of a Python type."""
    return _of(inspect.type_info(kind), ())


def _of(info: inspect.Type, inside: tuple[type, ...]) -> Json:
    if isinstance(info, inspect.Metadata):
        return _of(info.type, inside) | cast("Json", info.extra_json_schema or {})
    if isinstance(info, inspect.StructType):
        return _struct(info, inside)
    if isinstance(info, inspect.UnionType):
        return _union(info, inside)
    if isinstance(info, inspect.DictType):
        values: Json = {"type": "object", "additionalProperties": _of(info.value_type, inside) or dict(ANYTHING)}
        return values | _sizes(info, "Properties")
    if isinstance(info, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        items: Json = {"type": "array", "items": _of(info.item_type, inside) or dict(ANYTHING)}
        return items | _sizes(info, "Items")
    return _leaf(info)


def _sizes(info: _Sized, of: str) -> Json:
    """How many entries there may be: `minItems`, `maxProperties` and the like."""
    bounds = {f"min{of}": info.min_length, f"max{of}": info.max_length}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _struct(info: inspect.StructType, inside: tuple[type, ...]) -> Json:
    if info.cls in inside:
        return {"type": "object", **ANYTHING}
    out: Json = {"type": "object"}
    if info.cls.__doc__:
        out["description"] = cleandoc(info.cls.__doc__)
    properties: Json = {}
    for field in info.fields:
        schema = _of(field.type, (*inside, info.cls))
        default: object = field.default
        if default is not NODEFAULT and isinstance(default, str | int | float) and default and "type" in schema:
            schema = {**schema, "default": default}
        properties[field.encode_name] = schema
    if properties:
        out["properties"] = properties
    required = [field.encode_name for field in info.fields if field.required]
    if required:
        out["required"] = required
    return out


def _union(info: inspect.UnionType, inside: tuple[type, ...]) -> Json:
    options = [_of(one, inside) for one in info.types if not isinstance(one, inspect.NoneType)]
    if len(options) == 1:
        return options[0]
    if {one.get("type") for one in options} == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True}
    return dict(ANYTHING)


def _leaf(info: inspect.Type) -> Json:
    if isinstance(info, inspect.LiteralType):
        values = list(info.values)
        return {"type": "integer" if all(isinstance(one, int) for one in values) else "string", "enum": values}
    if isinstance(info, inspect.EnumType):
        return {"type": "string", "enum": [str(one.value) for one in info.cls]}
    if isinstance(info, inspect.StrType):
        bounds = {"minLength": info.min_length, "maxLength": info.max_length, "pattern": info.pattern}
        return {"type": "string"} | {key: value for key, value in bounds.items() if value is not None}
    if isinstance(info, inspect.IntType):
        return {"type": "integer", "format": "int64"} | _bounds(info)
    if isinstance(info, inspect.FloatType):
        return {"type": "number", "format": "double"} | _bounds(info)
    if isinstance(info, inspect.BoolType):
        return {"type": "boolean"}
    if isinstance(info, inspect.BytesType):
        return {"type": "string", "format": "byte"}
    if isinstance(info, inspect.DateTimeType):
        return dict(_TIME)
    return dict(ANYTHING)


def _bounds(info: inspect.IntType | inspect.FloatType) -> Json:
    out: Json = {}
    if info.ge is not None or info.gt is not None:
        out["minimum"] = info.ge if info.ge is not None else info.gt
        if info.ge is None:
            out["exclusiveMinimum"] = True
    if info.le is not None or info.lt is not None:
        out["maximum"] = info.le if info.le is not None else info.lt
        if info.le is None:
            out["exclusiveMaximum"] = True
    return out


def child(schema: Json, name: str) -> Json:
    """The schema of a field of an object; an empty one where nothing is known."""
    properties = cast("Json", schema.get("properties") or {})
    if name in properties:
        return properties[name]
    more = schema.get("additionalProperties")
    return cast("Json", more) if isinstance(more, dict) else {}


def item(schema: Json) -> Json:
    """The schema of a list's items."""
    found = schema.get("items")
    return cast("Json", found) if isinstance(found, dict) else {}
