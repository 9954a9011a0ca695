"""The three patch formats that are not apply: JSON patch, merge patch, strategic merge patch. Pure.

Sources: RFC 6902, RFC 7386, and Kubernetes' strategic merge patch (merge keys come from the schema). Every function
returns a new document and raises `PatchError` where the patch does not fit.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

from fairlead.apiserver.schema import child, item

Json = dict[str, Any]
MAX_OPERATIONS = 10_000
_SET_ORDER = "$setElementOrder/"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"


class PatchError(Exception):
    """A patch that cannot be applied; the text says what does not fit."""


def merge_patch(target: object, patch: object) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(cast("Json", target)) if isinstance(target, dict) else {}
    for key, value in cast("Json", patch).items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), value)
    return out


# RFC 6902


def json_patch(target: Json, patch: object) -> Any:
    """RFC 6902, all six operations."""
    if not isinstance(patch, list):
        raise PatchError("a JSON patch is a list of operations")
    operations = cast("list[object]", patch)
    if len(operations) > MAX_OPERATIONS:
        raise PatchError(f"more than {MAX_OPERATIONS} operations")
    box: Json = {"": deepcopy(target)}
    for number, operation in enumerate(operations):
        if not isinstance(operation, dict):
            raise PatchError(f"operation {number} is not an object")
        try:
            _operate(box, cast("Json", operation))
        except PatchError as error:
            raise PatchError(f"operation {number}: {error}") from None
    return box[""]


def _operate(box: Json, operation: Json) -> None:
    name, path = operation.get("op"), _pointer(operation.get("path"))
    if name in ("add", "replace", "test") and "value" not in operation:
        raise PatchError(f"{name} needs a value")
    if name == "add":
        _add(box, path, deepcopy(operation["value"]))
    elif name == "remove":
        _take(box, path)
    elif name == "replace":
        _take(box, path)
        _add(box, path, deepcopy(operation["value"]))
    elif name == "test":
        if _find(box, path) != operation["value"]:
            raise PatchError(f"the test of {operation['path']} failed")
    elif name == "copy":
        _add(box, path, deepcopy(_find(box, _pointer(operation.get("from")))))
    elif name == "move":
        source = _pointer(operation.get("from"))
        if path[: len(source)] == source and path != source:
            raise PatchError("a value cannot be moved into itself")
        _add(box, path, _take(box, source))
    else:
        raise PatchError(f"unknown op {name!r}; one of add, remove, replace, move, copy, test")


def _pointer(text: object) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f"{text!r} is not a JSON pointer such as /metadata/labels/app")
    return ["", *(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])]


def _position(part: str, size: int) -> int:
    if not part.isdecimal() or (part != "0" and part.startswith("0")) or len(part) > 9:
        raise PatchError(f"{part!r} is not a position in a list")
    if int(part) >= size:
        raise PatchError(f"there is no position {part} in a list of {size}")
    return int(part)


def _find(box: Json, path: list[str]) -> Any:
    at: Any = box
    for part in path:
        if isinstance(at, dict):
            entries = cast("Json", at)
            if part not in entries:
                raise PatchError(f"there is no {'/'.join(path)}")
            at = entries[part]
        elif isinstance(at, list):
            values = cast("list[Any]", at)
            at = values[_position(part, len(values))]
        else:
            raise PatchError(f"there is no {'/'.join(path)}")
    return at


def _add(box: Json, path: list[str], value: object) -> None:
    parent, last = _find(box, path[:-1]) if len(path) > 1 else box, path[-1]
    if isinstance(parent, dict):
        cast("Json", parent)[last] = value
    elif isinstance(parent, list):
        values = cast("list[object]", parent)
        values.insert(len(values) if last == "-" else _position(last, len(values) + 1), value)
    else:
        raise PatchError(f"{'/'.join(path[:-1])} is neither an object nor a list")


def _take(box: Json, path: list[str]) -> Any:
    found = _find(box, path)
    parent: Any = _find(box, path[:-1]) if len(path) > 1 else box
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[int(path[-1])]
    return found


# Strategic merge


def strategic_merge(target: object, patch: object, schema: Json) -> Any:
    """A merge patch that merges lists by the keys of the schema and understands `$patch` and its relatives."""
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch is an object")
    return _merge_object(cast("Json", target) if isinstance(target, dict) else {}, cast("Json", patch), schema)


def _merge_object(target: Json, patch: Json, schema: Json) -> Json:
    directive = patch.get("$patch")
    plain = {key: value for key, value in patch.items() if not key.startswith("$")}
    if directive == "replace":
        return plain
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise PatchError(f"unknown $patch {directive!r}; one of merge, replace, delete")
    out = dict(target)
    retained: object = patch.get("$retainKeys")
    if isinstance(retained, list):
        out = {key: value for key, value in out.items() if key in retained}
    for key, value in plain.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            inner: object = out.get(key)
            old = cast("Json", inner) if isinstance(inner, dict) else {}
            out[key] = _merge_object(old, cast("Json", value), child(schema, key))
        elif isinstance(value, list):
            out[key] = _merge_list(out.get(key), cast("list[Any]", value), child(schema, key))
        else:
            out[key] = value
    _directives(out, patch, schema)
    return out


def _directives(out: Json, patch: Json, schema: Json) -> None:
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVES) and isinstance(value, list):
            name = key.removeprefix(_DELETE_PRIMITIVES)
            if not isinstance(out.get(name, []), list):
                raise PatchError(f"{name} is not a list")
            unwanted = cast("list[Any]", value)
            out[name] = [one for one in cast("list[Any]", out.get(name) or []) if one not in unwanted]
        elif key.startswith(_SET_ORDER) and isinstance(value, list):
            name = key.removeprefix(_SET_ORDER)
            if isinstance(out.get(name), list):
                out[name] = _ordered(out[name], cast("list[Any]", value), child(schema, name))


def _merge_list(target: object, patch: list[Any], schema: Json) -> list[Any]:
    old = cast("list[Any]", target) if isinstance(target, list) else []
    if schema.get("x-kubernetes-patch-strategy") != "merge":
        return patch
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        return old + [one for one in patch if one not in old]
    out: list[Any] = [*old]
    additions: list[Json] = []
    for one in patch:
        if not isinstance(one, dict):
            raise PatchError(f"items of this list are objects with a {key}")
        entry = cast("Json", one)
        if entry.get("$patch") == "replace":
            return [other for other in patch if "$patch" not in cast("Json", other)]
        if key not in entry:
            raise PatchError(f"an item of the patch has no {key}, by which items of this list are merged")
        at = next((n for n, other in enumerate(out) if other.get(key) == entry[key]), None)
        if entry.get("$patch") == "delete":
            out = [other for other in out if other.get(key) != entry[key]]
        elif at is None:
            additions.append(_merge_object({}, entry, item(schema)))
        else:
            out[at] = _merge_object(out[at], entry, item(schema))
    return out + additions


def _ordered(values: list[Any], order: list[Any], schema: Json) -> list[Any]:
    key = schema.get("x-kubernetes-patch-merge-key")

    def rank(value: Any) -> int:
        wanted = _by(value, key)
        for at, one in enumerate(order):
            if _by(one, key) == wanted:
                return at
        return len(order)

    return sorted(values, key=rank)


def _by(value: Any, key: Any) -> Any:
    """What a list's item is told apart by: its merge key, or itself."""
    if isinstance(value, dict) and key:
        return cast("Json", value).get(key)
    return cast("Any", value)
