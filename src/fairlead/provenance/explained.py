"""Settings of a proxy with where they come from, as data: what `fairlead explain PROXY` answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from google.protobuf.message import Message

from fairlead.compiler.model import MeshModel
from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, NAME_TABLE, ROUTE, SECRET, Resource
from fairlead.envoy.settings import Path, PathError, escaped, find, leaves, parse, shown, written
from fairlead.ir.view import View
from fairlead.model.diagnostic import Origin
from fairlead.provenance.trace import Places, Study, Traced, study

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
_FEW = 8
"""Settings with the same origins that are shown in words."""
_DEFAULT = "a default of the mesh, or what the proxy says of itself"
_NOWHERE: Path = ("", "")


class Wish(msgspec.Struct, frozen=True):
    """How much is wanted: `every` tells defaults of the mesh, too; `exact` tries everything, however long it takes."""

    every: bool = False
    exact: bool = False


_USUAL = Wish()
Catalog = Mapping[str, Mapping[str, Resource]]


def explained(model: MeshModel, view: View, words: str, places: Places | None = None, wish: Wish = _USUAL) -> Json:
    """What a path means for an open view, and where it comes from.

    `words` is `[TYPE/]NAME[/PATH]` with `*` and `?`; TYPE is one of `TYPES` and may be in the singular. Only a type, or
    nothing, lists names. A resource says with `inexact` why what is told of it is less than exact. Raises PathError
    with a sentence for people.
    """
    catalog = model.publisher.catalog(view)
    types, name, inner = _asked(words, catalog)
    found = [(at, one) for at in types for one in sorted(catalog[TYPES[at]]) if name is None or _is(one, name)]
    if name is None:
        return {"listing": [{"type": at, "name": one} for at, one in found]}
    if not found:
        raise PathError(f"the proxy has no {' or '.join(types) if len(types) == 1 else 'resource'} called {name!r}")
    if len(found) > MOST:
        raise PathError(f"{name!r} means {len(found)} resources; name fewer than {MOST + 1} of them at once")
    made = [_resource(model, view, (at, one), inner, places, wish) for at, one in found]
    told = [one for one in made if one is not None]
    if not told:
        raise PathError(f"nothing stands at {written(inner)} in {', '.join(one for _, one in found[:3])}")
    return {"resources": told}


def _asked(words: str, catalog: Catalog) -> tuple[list[str], str | None, Path]:
    # Names of secrets and of routes of sockets have slashes: what is a name as it stands is not taken apart.
    slashed = [one for type_url in TYPES.values() for one in catalog[type_url] if "/" in one and one in words]
    for one in sorted(slashed, key=len, reverse=True):
        before, _, after = words.partition(one)
        types = _types(before.rstrip("/"))
        if types is not None and (not after or after.startswith("/")):
            return types, one, parse(after)
    steps = parse(words)
    types = _types(steps[0]) if steps else None
    if types is not None:
        return types, (steps[1] if len(steps) > 1 else None), steps[2:]
    return list(TYPES), (steps[0] if steps else None), steps[1:]


def _types(word: str) -> list[str] | None:
    """The types that a first step means, "" for all; None if it is none."""
    known = {**{at: at for at in TYPES}, **{at[:-1]: at for at in TYPES}}
    if not word:
        return list(TYPES)
    return [known[word.lower()]] if word.lower() in known else None


def _is(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, escaped(pattern))


def _resource(
    model: MeshModel, view: View, which: tuple[str, str], inner: Path, places: Places | None, wish: Wish
) -> Json | None:
    at, name = which
    made = study(model, view, TYPES[at], name, inner[0] if inner else "", places, exact=wish.exact)
    carried = tuple(one.origin for one in made.origins(_NOWHERE) if one.role == "carries")
    if TYPES[at] in _HIDDEN:
        whole = [_setting("", "(not shown)", made.origins(()), ())]
        return None if inner else _answer(which, carried, whole, made.inexact)
    found = list(find(made.message, inner))
    if not found:
        return None
    settings = [one for path, value in found for one in _settings(made, path, value, carried, every=wish.every)]
    settings += [one for path, _ in found for one in _kept_out(made, path)]
    return _answer(which, carried, settings, made.inexact)


def _answer(which: tuple[str, str], carried: tuple[Origin, ...], settings: list[Json], inexact: str) -> Json:
    out: Json = {"type": which[0], "name": which[1], "standsBy": [_origin(one) for one in carried]}
    return {**out, "settings": settings} | ({"inexact": inexact} if inexact else {})


def _settings(made: Study, path: Path, value: Any, carried: tuple[Origin, ...], *, every: bool) -> Iterator[Json]:
    """The settings at a place: those that some object is behind, or all. One that is asked for alone is always told."""
    whole = [(path, value)] if not isinstance(value, Message) else list(leaves(value, path))
    for at, one in whole:
        above = len(path) if len(whole) > 1 else -1
        found = _setting(written(at), shown(one), made.origins(at, above), carried)
        if found["origins"] or every or len(whole) == 1:
            yield found


def _setting(path: str, value: Any, origins: tuple[Traced, ...], carried: tuple[Origin, ...]) -> Json:
    """A setting with what sets it, or else what it alone stands by: not what the whole resource does."""
    sets = [one.origin for one in origins if one.role == "sets"]
    nearer = [one.origin for one in origins if one.role == "carries" and one.origin not in carried]
    return {"path": path, "value": value, "origins": [_origin(one) for one in sets or nearer]}


def _kept_out(made: Study, path: Path) -> Iterator[Json]:
    """What would stand in a place besides, if some object or field were not there."""
    for at in made.absent():
        if at[: len(path)] == path:
            yield {**_setting(written(at), None, made.origins(at), ()), "keptOut": True}


def _origin(one: Origin) -> Json:
    out: Json = {"object": dict(one.ref._asdict()), "field": str(one.path)}
    if one.position is not None:
        out["position"] = str(one.position)
    return out


def lines(found: Json) -> Iterator[tuple[str, str]]:
    """An answer as lines for people, each with its sort: `name`, `setting`, `origin`, `default`, `carried`
    or `inexact`.
    """
    for one in found.get("listing", ()):
        yield "name", f"{one['type']}/{one['name']}"
    for one in found.get("resources", ()):
        yield "name", f"{one['type']}/{one['name']}"
        if one["standsBy"]:
            yield "carried", "  stands by " + "; ".join(map(_said, one["standsBy"]))
        groups: dict[tuple[str, ...], list[Json]] = {}
        for each in one["settings"]:
            groups.setdefault(tuple(map(_said, each["origins"])), []).append(each)
        for origins, settings in groups.items():
            for at in origins or (_DEFAULT,):
                yield ("origin" if origins else "default"), f"  {at}"
            yield from (("setting", f"      {_shown(each)}") for each in settings[:_FEW])
            if len(settings) > _FEW:
                yield "default", f"      and {len(settings) - _FEW} more (-o yaml shows all)"
        if not one["settings"]:
            yield "default", f"  all of it: {_DEFAULT}"
        if "inexact" in one:
            yield "inexact", f"  not exact: {one['inexact']}; ask for one setting of it, or add --exact"


def _shown(setting: Json) -> str:
    what = "is kept out" if setting.get("keptOut") else _value(setting["value"])
    return f"{setting['path'].replace('[+', '[') or 'all of it'}: {what}"


def _said(origin: Json) -> str:
    ref = origin["object"]
    where = f"{ref['namespace']}/" if ref["namespace"] else ""
    field = f" {origin['field']}" if origin["field"] else ""
    place = f"{origin['position']}: " if "position" in origin else ""
    return f"{place}{ref['kind']} {where}{ref['name']}{field}"


def _value(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
