"""Which objects and fields make an Envoy setting what it is.

The engine's recorded reads name the objects on which a resource depends. Then the resource is made again without each
of them, and of those that matter without each of their fields (`workbench`), and it is seen where it differs. Nothing
is known here of what any field means, so nothing can be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec
from google.protobuf.message import Message

from fairlead.compiler.model import MeshModel
from fairlead.compiler.parts import Part
from fairlead.envoy.difference import Difference, differences
from fairlead.envoy.protojson import decode
from fairlead.envoy.settings import Path, PathError, find, parse, written
from fairlead.inc import Failure
from fairlead.ir.view import View
from fairlead.model.diagnostic import Origin, Position
from fairlead.model.object import Object
from fairlead.model.path import ROOT, FieldPath
from fairlead.model.ref import Ref
from fairlead.provenance.documents import Json, altered, children, document, read, tops, without
from fairlead.provenance.workbench import Workbench, behind, behind_element

MOST_OBJECTS = 150
"""Of a resource that more objects made, only those behind the element that is asked for are looked at."""
MOST_TRIALS = 3000
"""How often a resource is made anew for one answer; what would take more is answered less precisely."""

Role = Literal["sets", "carries"]
Places = Callable[[Ref, FieldPath], Position | None]
"""Where in a file a field stands."""


class Influence(msgspec.Struct, frozen=True):
    """A field (or an object, at the empty path) and what differs in a resource without it."""

    origin: Origin
    differs: tuple[Difference, ...]
    narrower: tuple[Influence, ...] = ()
    """The fields inside that matter by themselves."""
    altered: bool = False
    """Whether the field had another value, because it cannot be left out."""


class Traced(msgspec.Struct, frozen=True):
    """What an origin does for a setting: `sets` it, or `carries` what the setting stands in."""

    origin: Origin
    role: Role


class Setting(msgspec.Struct, frozen=True):
    """A setting with its value (JSON-shaped) and where it comes from; no origins: it is the mesh's default."""

    path: Path
    value: Any
    origins: tuple[Traced, ...]


class Study:
    """One resource, and what each object and field does for it. Made once, asked for as many settings as you like."""

    def __init__(
        self, model: MeshModel, part: Part, type_url: str, step: str = "", places: Places | None = None
    ) -> None:
        """`step` is the first step of what will be asked for, if it is only one element."""
        self._kinds = model.kinds
        self._places = places
        self._left = MOST_TRIALS
        refs = behind(model, part)
        only: set[Ref] | None = None
        if len(refs) > MOST_OBJECTS and step:
            only = behind_element(model, part, type_url, step)
            refs = only if only is not None else refs
        self._bench = Workbench(model, part, only)
        made = model.engine.call(part.rule, part.key)
        self.message: Message = decode(type_url, made.body)
        self._base = self._bench.make({})
        objects = self._bench.objects
        self.influences = tuple(self._studied(objects[ref]) for ref in sorted(refs) if ref in objects)

    def origins(self, path: Path, above: int = -1) -> tuple[Traced, ...]:
        """Where the setting at a path of the resource comes from: what sets it first, as narrow as it goes.

        Of what only carries it, what carries a place of more than `above` steps.
        """
        found = list(dict.fromkeys(one for each in self.influences for one in _narrowest(each, path, above)))
        return tuple(sorted(found, key=lambda one: (one.role == "carries", -len(one.origin.path))))

    def absent(self) -> tuple[Path, ...]:
        """What would be in the resource besides, if some object or field were not there."""
        found: dict[Path, None] = {}
        waiting = list(self.influences)
        while waiting:
            one = waiting.pop(0)
            waiting += one.narrower
            if not one.altered:
                found.update(dict.fromkeys(each.path for each in one.differs if each.old is None and each.path))
        return tuple(found)

    def _studied(self, obj: Object[Any]) -> Influence:
        differs = self._tried(obj.ref, None)
        narrower: tuple[Influence, ...] = ()
        kind = self._kinds.of(obj.ref)
        data = document(kind, obj)
        if differs and read(self._kinds, data, obj) == obj:
            narrower = tuple(one for path in tops(data) for one in self._field(obj, data, path))
        return Influence(self._origin(obj.ref, ROOT), differs, narrower)

    def _field(self, obj: Object[Any], data: Json, path: FieldPath) -> Iterator[Influence]:
        differs, other = self._left_out(obj, data, path)
        inner = tuple(one for name in children(data, path) for one in self._field(obj, data, path / name))
        if differs:
            yield Influence(self._origin(obj.ref, path), differs, inner, other)
        else:
            yield from inner

    def _left_out(self, obj: Object[Any], data: Json, path: FieldPath) -> tuple[tuple[Difference, ...], bool]:
        """What differs without a field; with another value (then True) where it cannot be left out."""
        if self._left <= 0:
            return (), False
        other = read(self._kinds, without(data, path), obj)
        if other is not None and other != obj:
            return self._tried(obj.ref, other), False
        for changed in altered(data, path):
            other = read(self._kinds, changed, obj)
            if other is not None and other.ref == obj.ref:
                differs = self._tried(obj.ref, other)
                if differs:
                    return differs, True
        return (), False

    def _tried(self, ref: Ref, other: Object[Any] | None) -> tuple[Difference, ...]:
        self._left -= 1
        try:
            made = self._bench.make({ref: other})
        except Failure:
            return ()
        return tuple(differences(self._base, made))

    def _origin(self, ref: Ref, path: FieldPath) -> Origin:
        return Origin(ref, path, self._places(ref, path) if self._places is not None else None)


def _narrowest(one: Influence, path: Path, above: int) -> Iterator[Traced]:
    role = role_of(one.differs, path, above)
    inner = list(dict.fromkeys(found for each in one.narrower for found in _narrowest(each, path, above)))
    if inner and (role != "sets" or any(each.role == "sets" for each in inner)):
        yield from inner
    elif role is not None:
        yield Traced(one.origin, role)
    else:
        yield from inner


def role_of(differs: Iterable[Difference], path: Path, above: int = -1) -> Role | None:
    """What a difference at these places means for a setting: another one, gone with what held it, or nothing."""
    role: Role | None = None
    for one in differs:
        shared = min(len(one.path), len(path))
        if one.path[:shared] != path[:shared]:
            continue
        if len(one.path) < len(path) and one.new is None:
            role = "carries" if len(one.path) > above else role
        else:
            return "sets"
    return role


def study(
    model: MeshModel, view: View, type_url: str, name: str, step: str = "", places: Places | None = None
) -> Study:
    """The study of a resource of an open view; `step` is the first step of a pattern (see `settings.find`).

    Raises PathError if the view has no resource of this name.
    """
    part = model.publisher.part(view, type_url, name)
    if part is None:
        raise PathError(f"there is no {type_url.rpartition('.')[2]} {name!r}")
    if step:
        message = decode(type_url, model.publisher.catalog(view)[type_url][name].body)
        meant = {path[0] for path, _ in find(message, (step,))}
        step = meant.pop() if len(meant) == 1 else ""
    return Study(model, part, type_url, step, places)


def trace(
    model: MeshModel, view: View, type_url: str, name: str, path: str = "", places: Places | None = None
) -> tuple[Origin, ...]:
    """The objects and fields that make a setting of an open view what it is, most decisive first.

    `path` is a proto JSON path inside of the resource (`virtualHosts[NAME]/routes[0]/route/timeout`); empty for the
    resource as a whole. What sets the value comes alone; only where nothing does, what the setting stands in. Empty for
    a default of the mesh. Raises PathError where nothing stands there.
    """
    wanted = parse(path)
    made = study(model, view, type_url, name, wanted[0] if wanted else "", places)
    at = next((found for found, _ in find(made.message, wanted)), None)
    if at is None:
        raise PathError(f"nothing stands at {written(wanted)} in {name}")
    found = made.origins(at)
    sets = tuple(one.origin for one in found if one.role == "sets")
    return sets or tuple(one.origin for one in found)
