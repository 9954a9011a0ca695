"""Which client owns which field: managedFields, and server-side apply on top of them. Pure.

The semantics are those of Kubernetes' structured merge: fields are owned one by one; lists are owned whole unless the
schema says `x-kubernetes-list-type: map` (items by key) or `set` (items by value). A path is a tuple of the keys that
`FieldsV1` uses: `f:name`, `k:{"port":80}`, `v:"value"`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from fairlead.apiserver.schema import child, item

Json = dict[str, Any]
Path = tuple[str, ...]
Fields = frozenset[Path]

# Not owned by anybody: identity, and what the server itself keeps.
_SERVER: frozenset[Path] = frozenset(
    [("f:apiVersion",), ("f:kind",)]
    + [
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "generateName",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
        )
    ]
)
_ITEM = object()


class Owner(msgspec.Struct, frozen=True):
    """A field manager: its name, how it writes, in which API version, and to which sub-resource."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""


class FieldConflict(msgspec.Struct, frozen=True):
    """A field that an apply would change while another manager owns it."""

    owner: Owner
    path: Path


Owners = dict[Owner, Fields]


def _canonical(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def element(value: object, schema: Json, item_schema: Json) -> str | None:
    """The path element of a list item, or None where the list is owned whole."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return f"v:{_canonical(value)}"
    if kind == "map" and isinstance(value, dict):
        entry = cast("Json", value)
        keys = cast("list[str]", schema.get("x-kubernetes-list-map-keys") or [])
        found = {key: entry.get(key, child(item_schema, key).get("default")) for key in keys}
        return f"k:{_canonical({key: value for key, value in found.items() if value is not None})}"
    return None


def flatten(value: object, schema: Json, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every owned path of a value, with the value there."""
    if isinstance(value, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        entries = cast("Json", value)
        if not entries and path:
            yield path, {}
        known: Json = schema.get("properties") or {}
        for name, inner in entries.items():
            below = (*path, f"f:{name}")
            if below in _SERVER:
                continue
            if isinstance(inner, dict) and inner and name not in known:
                yield below, _ITEM
            yield from flatten(cast("object", inner), child(schema, name), below)
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") in ("map", "set"):
        inner_schema = item(schema)
        if not value:
            yield path, []
        for inner in cast("list[object]", value):
            part = element(inner, schema, inner_schema)
            if part is None:
                continue
            yield (*path, part), _ITEM
            if isinstance(inner, dict):
                yield from flatten(cast("object", inner), inner_schema, (*path, part))
    else:
        yield path, value


def fields_of(value: Json, schema: Json) -> Fields:
    """The paths that a document sets."""
    return frozenset(path for path, _ in flatten(value, schema))


def _within(fields: Iterable[Path], subresource: str) -> Fields:
    """A sub-resource's writer owns what is in it, everyone else what is not."""
    wanted = subresource == "status"
    return frozenset(path for path in fields if (path[:1] == ("f:status",)) == wanted)


# The wire form


def encode_fields(fields: Iterable[Path]) -> Json:
    """`FieldsV1`."""
    out: Json = {}
    for path in sorted(fields):
        at = out
        for part in path:
            at = at.setdefault(part, {})
        at["."] = {}
    return _undot(out)


def _undot(node: Json) -> Json:
    if set(node) == {"."}:
        return {}
    return {key: {} if key == "." else _undot(value) for key, value in node.items()}


def decode_fields(node: object, path: Path = ()) -> Iterator[Path]:
    """The paths of a `FieldsV1`; what is not shaped like one is skipped."""
    if not isinstance(node, dict):
        return
    entries = cast("Json", node)
    if not entries and path:
        yield path
    for key, inner in entries.items():
        if key == ".":
            yield path
        elif key[:2] in ("f:", "k:", "v:") and len(path) < 100:
            yield from decode_fields(inner, (*path, key))


def decode_owners(entries: object) -> tuple[Owners, dict[Owner, str]]:
    """managedFields, as owners and the times of their last writes."""
    owners: Owners = {}
    times: dict[Owner, str] = {}
    for entry in cast("list[object]", entries) if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        data = cast("Json", entry)
        if data.get("fieldsType", "FieldsV1") != "FieldsV1" or not data.get("operation"):
            continue
        owner = Owner(
            str(data.get("manager", "")),
            str(data["operation"]),
            str(data.get("apiVersion", "")),
            str(data.get("subresource", "")),
        )
        owners[owner] = owners.get(owner, frozenset()) | frozenset(decode_fields(data.get("fieldsV1")))
        times[owner] = str(data.get("time", ""))
    return owners, times


def encode_owners(owners: Owners, before: Owners, times: Mapping[Owner, str], now: str) -> list[Json]:
    """managedFields; an owner's time changes only if its fields do."""
    out: list[Json] = []
    for owner, fields in owners.items():
        if not fields:
            continue
        same = before.get(owner) == fields and times.get(owner)
        entry: Json = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.api_version,
            "time": times[owner] if same else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": encode_fields(fields),
        }
        if owner.subresource:
            entry["subresource"] = owner.subresource
        out.append(entry)
    return sorted(out, key=lambda one: (one["operation"] != "Apply", one["manager"], one["apiVersion"]))


def show(path: Path) -> str:
    """A path as Kubernetes prints it in conflicts: `.spec.ports[port=80].name`."""
    out: list[str] = []
    for part in path:
        kind, rest = part[:2], part[2:]
        if kind == "f:":
            out.append(f".{rest}")
        elif kind == "k:":
            keys = cast("Json", json.loads(rest))
            out.append("[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]")
        else:
            out.append(f"[={rest}]")
    return "".join(out)


# Writes


def after_update(old: Json | None, new: Json, owners: Owners, writer: Owner, schema: Json) -> Owners:
    """Owners after a plain write: who changes a field owns it, alone."""
    before = dict(flatten(old, schema)) if old is not None else {}
    after = dict(flatten(new, schema))
    changed = _within((path for path, value in after.items() if before.get(path, before) != value), writer.subresource)
    out = {owner: frozenset((fields - changed) & after.keys()) for owner, fields in owners.items()}
    mine = out.get(writer, frozenset()) | changed
    return {**out, writer: mine} if mine else out


def apply(
    live: Json, config: Json, owners: Owners, applier: Owner, schema: Json, *, force: bool
) -> tuple[Json, Owners, list[FieldConflict]]:
    """Server-side apply: the merged document, its owners, and the conflicts (then nothing else counts)."""
    wanted = dict(flatten(config, schema))
    mine = _within(wanted, applier.subresource)
    present = dict(flatten(live, schema))
    conflicts: list[FieldConflict] = []
    others = {owner: fields for owner, fields in owners.items() if not _same_applier(owner, applier)}
    for owner, fields in others.items():
        for path in sorted(fields & mine):
            if present.get(path, present) != wanted[path]:
                conflicts.append(FieldConflict(owner, path))
    if conflicts and not force:
        return live, owners, conflicts
    taken = {conflict.path for conflict in conflicts}
    previous = frozenset[Path]().union(*(fields for owner, fields in owners.items() if _same_applier(owner, applier)))
    held = frozenset[Path]().union(*others.values())
    merged = cast("Json", merge(live, config, schema))
    # Items of lists first: once a field of its key is gone, an item is not found any more.
    for path in sorted(previous - mine - held, key=lambda one: (not _is_item(one[-1]), -len(one), one)):
        if not any(kept[: len(path)] == path for kept in mine | held):
            _remove(merged, path, schema, mine | held)
    after = fields_of(merged, schema)
    out = {owner: frozenset((fields - taken) & after) for owner, fields in others.items()}
    out[applier] = mine
    return merged, out, []


def _same_applier(owner: Owner, applier: Owner) -> bool:
    return (owner.manager, owner.operation, owner.subresource) == (
        applier.manager,
        applier.operation,
        applier.subresource,
    )


def merge(live: object, config: object, schema: Json) -> object:
    """`config` laid over `live`: objects field by field, keyed lists item by item, anything else replaced."""
    if isinstance(live, dict) and isinstance(config, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        out = dict(cast("Json", live))
        for name, value in cast("Json", config).items():
            out[name] = merge(out[name], value, child(schema, name)) if name in out else value
        return out
    keyed = schema.get("x-kubernetes-list-type") in ("map", "set")
    if keyed and isinstance(live, list) and isinstance(config, list):
        inner = item(schema)
        merged = {element(one, schema, inner): one for one in cast("list[object]", live)}
        for one in cast("list[object]", config):
            key = element(one, schema, inner)
            merged[key] = merge(merged[key], one, inner) if key in merged else one
        return list(merged.values())
    return cast("object", config)


def _remove(document: Json, path: Path, schema: Json, kept: Fields) -> None:
    """Take away what is at a path, and the objects and lists that this leaves empty, unless somebody wants them so.

    Spec and metadata always stay.
    """
    trail: list[tuple[Any, Any]] = []
    at: Any = document
    for part in path:
        name: Any
        if part.startswith("f:"):
            name = part[2:]
            if not isinstance(at, dict) or name not in cast("Json", at):
                return
            below = child(schema, name)
        else:
            below = item(schema)
            if not isinstance(at, list):
                return
            entries = cast("list[object]", at)
            name = next((n for n, one in enumerate(entries) if element(one, schema, below) == part), None)
            if name is None:
                return
        trail.append((cast("Any", at), name))
        at = cast("Any", at)[name]
        schema = below
    for depth in range(len(trail) - 1, -1, -1):
        container, name = trail[depth]
        stays = depth == 0 or path[: depth + 1] in kept or _is_item(path[depth])
        if depth < len(trail) - 1 and (container[name] or stays):
            return
        del container[name]


def _is_item(part: str) -> bool:
    # An item of a list stays until it is itself removed.
    return not part.startswith("f:")


def without_nulls(value: object) -> object:
    """An applied configuration says nothing about a field by writing null."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in cast("Json", value).items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(one) for one in cast("list[object]", value)]
    return value
