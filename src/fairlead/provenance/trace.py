"""Which objects and fields make an Envoy setting what it is.

The engine's recorded reads name the objects on which a resource depends. Then the resource is made again without each
of them, and of those that matter without each of their fields (`workbench`), and it is seen where it differs. Nothing
is known here of what any field means, so nothing can be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Literal

import msgspec
from google.protobuf.message import Message

from fairlead.compiler.model import MeshModel
from fairlead.compiler.parts import Layer, Part
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
from fairlead.provenance.workbench import Workbench, behind, body_of, elements, listing, stands_in, without_elements

MOST_OBJECTS = 150
"""A resource that more objects made is studied by its elements, if it has some: the one that is asked for, or of all
of them only which objects are behind each."""
MOST_TRIALS = 3000
"""How often a resource is made anew for one answer; what would take more is answered less precisely, and so marked."""

MOST_SINGLE = 16
"""Of more objects it is searched in groups of a kind which ones matter. That misses one whose part another one of its
kind would take, which went with it; for few, each is tried alone."""

Role = Literal["sets", "carries"]
Places = Callable[[Ref, FieldPath], Position | None]
"""Where in a file a field stands."""
Changed = Mapping[Ref, Object[Any] | None]
Differing = Callable[[Changed], tuple[Difference, ...]]
"""What differs with other objects."""


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
        self,
        model: MeshModel,
        part: Part,
        type_url: str,
        step: str = "",
        places: Places | None = None,
        *,
        layer: Layer | None = None,
        exact: bool = False,
    ) -> None:
        """`step` is the first step of what will be asked for, if it is only one element; `layer` lists the resource.

        Without a layer it is not asked what the resource is there for at all. `exact` lifts all bounds.
        """
        self._model = model
        self._kinds = model.kinds
        self._places = places
        self._type_url = type_url
        self._left = None if exact else MOST_TRIALS
        self.inexact = ""
        """Why the answer is less than exact, for people; empty where it is exact."""
        self.message: Message = decode(type_url, body_of(model.engine.call(part.rule, part.key)))
        refs = behind(model, part)
        pieces = elements(model, part, type_url) if len(refs) > MOST_OBJECTS else {}
        listed = listing(model, layer, part) if layer is not None else None
        found: list[Influence] = []
        if step in pieces:
            found += self._made_by(pieces[step])
        elif pieces and not exact:
            found += self._recorded(pieces)
            self.inexact = (
                f"{len(refs)} objects made this, so named are all objects that were read for an element, and no fields"
            )
        elif pieces:
            for each in dict.fromkeys((*pieces.values(), part)):
                elsewhere = {at for at, by in pieces.items() if by != each}
                found += self._made_by(each, elsewhere)
        else:
            found += self._made_by(part)
        if listed is not None:
            found += self._there_by(*listed, exact=exact, quiet=bool(step))
        self.influences = tuple(found)
        self._by_step: dict[str, list[int]] | None = None

    def origins(self, path: Path, above: int = -1) -> tuple[Traced, ...]:
        """Where the setting at a path of the resource comes from: what sets it first, as narrow as it goes.

        Of what only carries it, what carries a place of more than `above` steps.
        """
        concerned = self._concerning(path[0]) if path else self.influences
        found = list(dict.fromkeys(one for each in concerned for one in _narrowest(each, path, above)))
        return tuple(sorted(found, key=lambda one: (one.role == "carries", -len(one.origin.path))))

    def _concerning(self, step: str) -> tuple[Influence, ...]:
        """The influences on an element, or on all of the resource, in their order."""
        if self._by_step is None:
            self._by_step = {}
            for number, one in enumerate(self.influences):
                for at in _first_steps(one):
                    self._by_step.setdefault(at, []).append(number)
        numbers = {*self._by_step.get(step, ()), *self._by_step.get("", ())}
        return tuple(self.influences[number] for number in sorted(numbers))

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

    def _made_by(self, part: Part, elsewhere: Collection[str] = ()) -> Iterator[Influence]:
        """What each object behind a value does for it. Objects come first: fields only while trials are left.

        Of elements that are studied elsewhere nothing is told.
        """
        bench = Workbench(self._model, part)
        base = self._read(bench.make({}), elsewhere)

        def differing(changed: Changed) -> tuple[Difference, ...]:
            try:
                made = bench.make(changed)
            except Failure:
                return ()
            return tuple(differences(base, self._read(made, elsewhere)))

        return self._studied(bench.objects, behind(self._model, part), differing)

    def _there_by(self, part: Part, sought: Hashable, *, exact: bool, quiet: bool) -> Iterator[Influence]:
        """What makes a list have a resource in it; `quiet` where only a part of the resource is asked for."""
        refs = behind(self._model, part)
        if len(refs) > MOST_OBJECTS and not exact:
            said = f"whether it is there at all depends on {len(refs)} objects, which were not tried"
            if not quiet:
                self.inexact = f"{self.inexact}; {said}" if self.inexact else said
            return iter(())
        bench = Workbench(self._model, part)
        gone = (Difference((), self.message, None),)

        def differing(changed: Changed) -> tuple[Difference, ...]:
            try:
                return () if stands_in(bench.make(changed), sought) else gone
            except Failure:
                return ()

        return self._studied(bench.objects, refs, differing)

    def _recorded(self, pieces: Mapping[str, Part]) -> Iterator[Influence]:
        """The objects that were read for each element: all that matter, and maybe others."""
        for step, part in pieces.items():
            for ref in sorted(behind(self._model, part)):
                yield Influence(self._origin(ref, ROOT), (Difference((step,), self.message, None),))

    def _studied(
        self, objects: Mapping[Ref, Object[Any]], refs: Iterable[Ref], differing: Differing
    ) -> Iterator[Influence]:
        known = sorted(ref for ref in refs if ref in objects)
        if len(known) <= MOST_SINGLE:
            whole = [(ref, self._tried(differing, {ref: None})) for ref in known]
        else:
            kinds = groupby(known, lambda ref: (ref.group, ref.kind))
            whole = [found for _, listed in kinds for found in self._searched(differing, list(listed))]
        for ref, differs in whole:
            obj = objects[ref]
            narrower: tuple[Influence, ...] = ()
            data = document(self._kinds.of(obj.ref), obj)
            if differs and read(self._kinds, data, obj) == obj:
                narrower = tuple(one for path in tops(data) for one in self._field(differing, obj, data, path))
            yield Influence(self._origin(obj.ref, ROOT), differs, narrower)

    def _searched(self, differing: Differing, refs: list[Ref]) -> Iterator[tuple[Ref, tuple[Difference, ...]]]:
        """The objects of many that matter: a group without which nothing differs has none, another one is halved."""
        differs = self._tried(differing, dict.fromkeys(refs))
        if differs and len(refs) == 1:
            yield refs[0], differs
        elif differs:
            half = len(refs) // 2
            yield from self._searched(differing, refs[:half])
            yield from self._searched(differing, refs[half:])

    def _read(self, made: Any, elsewhere: Collection[str] = ()) -> Message | None:
        return None if made is None else without_elements(decode(self._type_url, body_of(made)), elsewhere)

    def _field(self, differing: Differing, obj: Object[Any], data: Json, path: FieldPath) -> Iterator[Influence]:
        differs, other = self._left_out(differing, obj, data, path)
        inner = tuple(one for name in children(data, path) for one in self._field(differing, obj, data, path / name))
        if differs:
            yield Influence(self._origin(obj.ref, path), differs, inner, other)
        else:
            yield from inner

    def _left_out(
        self, differing: Differing, obj: Object[Any], data: Json, path: FieldPath
    ) -> tuple[tuple[Difference, ...], bool]:
        """What differs without a field; with another value (then True) where it cannot be left out."""
        if self._left is not None and self._left <= 0:
            return (), False
        other = read(self._kinds, without(data, path), obj)
        if other is not None and other != obj:
            return self._tried(differing, {obj.ref: other}), False
        for changed in altered(data, path):
            other = read(self._kinds, changed, obj)
            if other is not None and other.ref == obj.ref:
                differs = self._tried(differing, {obj.ref: other})
                if differs:
                    return differs, True
        return (), False

    def _tried(self, differing: Differing, changed: Changed) -> tuple[Difference, ...]:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                said = f"not all fields were tried: after {MOST_TRIALS} trials objects are named and no fields of them"
                self.inexact = f"{self.inexact}; {said}" if self.inexact else said
        return differing(changed)

    def _origin(self, ref: Ref, path: FieldPath) -> Origin:
        return Origin(ref, path, self._places(ref, path) if self._places is not None else None)


def _first_steps(one: Influence) -> set[str]:
    """Where an influence, or one inside of it, makes a difference; empty for the resource as a whole."""
    found = {each.path[0] if each.path else "" for each in one.differs}
    return found.union(*(_first_steps(each) for each in one.narrower))


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
    model: MeshModel,
    view: View,
    type_url: str,
    name: str,
    step: str = "",
    places: Places | None = None,
    *,
    exact: bool = False,
) -> Study:
    """The study of a resource of an open view; `step` is the first step of a pattern (see `settings.find`).

    `exact` takes as long as it takes. Raises PathError if the view has no resource of this name.
    """
    found = model.publisher.listed(view, type_url, name)
    if found is None:
        raise PathError(f"there is no {type_url.rpartition('.')[2]} {name!r}")
    layer, part = found
    if step:
        message = decode(type_url, model.publisher.catalog(view)[type_url][name].body)
        meant = {path[0] for path, _ in find(message, (step,))}
        step = meant.pop() if len(meant) == 1 else ""
    return Study(model, part, type_url, step, places, layer=layer, exact=exact)


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
