"""Which proxies and which of their Envoy resources depend on an object, or on a field of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.publish import Changes
from fairlead.effect.report import Names, proxies
from fairlead.envoy.difference import differences
from fairlead.envoy.protojson import decode
from fairlead.envoy.resource import apart
from fairlead.envoy.settings import PathError, written
from fairlead.ir.view import View
from fairlead.model.object import Object
from fairlead.model.path import ROOT, SPEC, FieldPath
from fairlead.model.ref import Ref
from fairlead.provenance.documents import altered, document, has, read, without
from fairlead.provenance.explained import TYPES

Json = dict[str, Any]
_PATHS = 8
_Key = tuple[tuple[str, str], ...]


def affected(model: MeshModel, ref: Ref, field: FieldPath, names: Names) -> Json:
    """What would be different for open views without an object, or without a field of it.

    Groups of proxies with the resources (and of fields the settings) that depend on it. Raises PathError where there is
    no such object or field, or where the field can neither be left out nor be another one.
    """
    obj = model.engine.get(OBJECTS, ref)
    if obj is None:
        raise PathError(f"there is no {ref}")
    found: list[Json] = []
    field = _whole(model, obj, field)
    for other in [None] if field == ROOT else _others(model, obj, field):
        found = _differing(model, ref, other, names)
        if found:
            break
    return {"object": dict(ref._asdict()), "field": str(field), "affects": found}


def _whole(model: MeshModel, obj: Object[Any], field: FieldPath) -> FieldPath:
    """A field with the `spec` that people leave out."""
    data = document(model.kinds.of(obj.ref), obj)
    whole = FieldPath((*SPEC, *field))
    return whole if field and not has(data, field) and has(data, whole) else field


def _others(model: MeshModel, obj: Object[Any], field: FieldPath) -> list[Object[Any]]:
    data = document(model.kinds.of(obj.ref), obj)
    if not has(data, field):
        raise PathError(f"{obj.ref} has no {field}, or it has its default value")
    made = [read(model.kinds, one, obj) for one in (without(data, field), *altered(data, field))]
    out = [one for one in made if one is not None and one != obj and one.ref == obj.ref]
    if not out:
        raise PathError(f"{field} of {obj.ref} can neither be left out nor be another one")
    return out


def _differing(model: MeshModel, ref: Ref, other: Object[Any] | None, names: Names) -> list[Json]:
    groups: dict[_Key, tuple[list[View], list[Json]]] = {}
    with model.supposing([other] if other is not None else [], [ref] if other is None else []) as differing:
        told: dict[int, list[Json]] = {}
        for view, changes in differing.items():
            if id(changes) not in told:
                told[id(changes)] = list(_resources(model, view, changes, inside=other is not None))
            resources = told[id(changes)]
            if resources:
                key = tuple((one["type"], one["name"]) for one in resources)
                groups.setdefault(key, ([], resources))[0].append(view)
    out = [
        {"proxies": proxies([name for view in views for name in names(view)]), "resources": resources}
        for views, resources in groups.values()
    ]
    return sorted(out, key=lambda one: (-one["proxies"]["count"], str(one["proxies"]["summary"])))


def _resources(model: MeshModel, view: View, changes: Changes, *, inside: bool) -> Iterator[Json]:
    words = {type_url: word for word, type_url in TYPES.items()}
    for type_url in TYPES.values():
        now = model.publisher.catalog(view)[type_url]
        for name, was in sorted(changes.get(type_url, {}).items()):
            new = now.get(name)
            if was == new:
                continue
            one: Json = {"type": words[type_url], "name": name}
            if was is None or new is None:
                one["how"] = "is there because of it" if new is None else "is left out because of it"
            elif inside or len(changes.get(type_url, {})) == 1:
                old, now_there = (decode(type_url, body or b"") for body in apart(was, new))
                paths = [written(each.path) for each in differences(old, now_there)]
                one["settings"] = paths[:_PATHS]
                if len(paths) > _PATHS:
                    one["more"] = len(paths) - _PATHS
            yield one


def lines(found: Json) -> Iterator[tuple[str, str]]:
    """An answer as lines for people, each with its sort: `group`, `change` or `field`."""
    for group in found["affects"]:
        yield "group", group["proxies"]["summary"]
        for one in group["resources"]:
            how = f" {one['how']}" if "how" in one else ""
            yield "change", f"  {one['type']}/{one['name']}{how}"
            yield from (("field", f"      {path}") for path in one.get("settings", ()))
            if "more" in one:
                yield "field", f"      and {one['more']} more settings"
    if not found["affects"]:
        yield "group", "No proxy depends on it."
