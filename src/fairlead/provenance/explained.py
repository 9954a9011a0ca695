"""Settings of a proxy with where they come from, as data: what `fairlead explain PROXY` answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.message import Message

from fairlead.compiler.model import MeshModel
from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, NAME_TABLE, ROUTE, SECRET, Resource
from fairlead.envoy.settings import Path, PathError, escaped, find, leaves, parse, shown, written
from fairlead.ir.view import View
from fairlead.model.diagnostic import Origin
from fairlead.provenance.trace import Places, Study, study

Json = dict[str, Any]
TYPES: Mapping[str, str] = {
    "listeners": LISTENER,
    "routes": ROUTE,
    "clusters": CLUSTER,
    "endpoints": ENDPOINT,
    "secrets": SECRET,
    "extensions": EXTENSION,
    "names": NAME_TABLE,
}
"""Resource types by the words that stand first in a path."""
MOST = 20
"""Resources that are explained at once."""
_HIDDEN = (SECRET, EXTENSION)
_NOWHERE: Path = ("", "")
Catalog = Mapping[str, Mapping[str, Resource]]


def explained(model: MeshModel, view: View, words: str, places: Places | None = None, *, every: bool = False) -> Json:
    """What a path means for an open view, and where it comes from.

    `words` is `[TYPE/]NAME[/PATH]` with `*` and `?`; TYPE is one of `TYPES` and may be in the singular. Only a type, or
    nothing, lists names. `every` tells defaults, too. Raises PathError with a sentence for people.
    """
    types, name, inner = _asked(words)
    catalog = model.publisher.catalog(view)
    found = [(at, one) for at in types for one in sorted(catalog[TYPES[at]]) if name is None or _is(one, name)]
    if name is None:
        return {"listing": [{"type": at, "name": one} for at, one in found]}
    if not found:
        raise PathError(f"the proxy has no {' or '.join(types) if len(types) == 1 else 'resource'} called {name!r}")
    if len(found) > MOST:
        raise PathError(f"{name!r} means {len(found)} resources; name fewer than {MOST + 1} of them at once")
    made = [_resource(model, view, at, one, inner, places, every=every) for at, one in found]
    told = [one for one in made if one is not None]
    if not told:
        raise PathError(f"nothing stands at {written(inner)} in {', '.join(one for _, one in found[:3])}")
    return {"resources": told}


def _asked(words: str) -> tuple[list[str], str | None, Path]:
    steps = parse(words)
    known = {**{at: at for at in TYPES}, **{at[:-1]: at for at in TYPES}}
    types = list(TYPES)
    if steps and steps[0].lower() in known:
        types, steps = [known[steps[0].lower()]], steps[1:]
    return types, (steps[0] if steps else None), steps[1:]


def _is(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, escaped(pattern))


def _resource(
    model: MeshModel, view: View, at: str, name: str, inner: Path, places: Places | None, *, every: bool
) -> Json | None:
    made = study(model, view, TYPES[at], name, inner[0] if inner else "", places)
    hidden = TYPES[at] in _HIDDEN
    settings = [] if hidden and inner else list(_settings(made, inner, every=every, hidden=hidden))
    if not settings and inner:
        return None
    carried = [_origin(one.origin) for one in made.origins(_NOWHERE) if one.role == "carries"]
    return {"type": at, "name": name, "standsBy": carried, "settings": settings}


def _settings(made: Study, inner: Path, *, every: bool, hidden: bool) -> Iterator[Json]:
    if hidden:
        yield {"path": "", "value": "(not shown)", "origins": [_origin(one.origin) for one in made.origins(())]}
        return
    for at, value in find(made.message, inner):
        whole = [(at, value)] if not isinstance(value, Message) else list(leaves(value, at))
        for path, one in whole:
            origins = made.origins(path)
            sets = [_origin(each.origin) for each in origins if each.role == "sets"]
            if sets or every or len(whole) == 1:
                yield {"path": written(path), "value": shown(one), "origins": sets}


def _origin(one: Origin) -> Json:
    out: Json = {"object": dict(one.ref._asdict()), "field": str(one.path)}
    if one.position is not None:
        out["position"] = str(one.position)
    return out


def lines(found: Json) -> Iterator[tuple[str, str]]:
    """An answer as lines for people, each with its sort: `name`, `setting`, `origin`, `default` or `carried`."""
    for one in found.get("listing", ()):
        yield "name", f"{one['type']}/{one['name']}"
    for one in found.get("resources", ()):
        yield "name", f"{one['type']}/{one['name']}"
        if one["standsBy"]:
            yield "carried", "  stands by " + "; ".join(map(_said, one["standsBy"]))
        for each in one["settings"]:
            yield "setting", f"  {each['path'] or 'all of it'}: {_value(each['value'])}"
            yield from (("origin", f"      {_said(origin)}") for origin in each["origins"])
            if not each["origins"]:
                yield "default", "      a default of the mesh, or what the proxy says of itself"
        if not one["settings"]:
            yield "default", "  all settings are defaults of the mesh, or what the proxy says of itself"


def _said(origin: Json) -> str:
    ref = origin["object"]
    where = f"{ref['namespace']}/" if ref["namespace"] else ""
    field = f" {origin['field']}" if origin["field"] else ""
    place = f"{origin['position']}: " if "position" in origin else ""
    return f"{place}{ref['kind']} {where}{ref['name']}{field}"


def _value(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
