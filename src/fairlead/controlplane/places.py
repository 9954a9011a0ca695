"""Where objects of the running mesh stand in files: as `fairlead apply -f` has said of what it applied.

POST `/fairlead/v1/places` takes a list of them (`Told`). Administrators only. A place holds as long as the object's
spec is the one that was applied; after an edit by other means nothing is said, for lines may be others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.aside import Inquiry
from fairlead.controlplane.operations import administrators, refused
from fairlead.model.diagnostic import Origin, Position
from fairlead.model.manifest import Manifest
from fairlead.model.path import FieldPath, path_of
from fairlead.model.ref import Ref
from fairlead.store.change import Mark, Place
from fairlead.store.store import Store

Json = dict[str, Any]
MOST_MARKS = 2_000
"""Fields of one object; of more, the outer ones."""
_MOST_OBJECTS = 2_000
_LONGEST_NAME = 1_000
_SECRET = ("data", "stringData")


class Applied(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object as the server answered, the file that it is from, and the lines and columns of its fields."""

    object: Ref
    uid: str
    generation: int
    file: str
    marks: tuple[Mark, ...]


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    places: tuple[Applied, ...]


class Places:
    """Remembers places, and finds that of a field."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[BaseRoute]:
        """The route."""
        return [Route("/fairlead/v1/places", administrators(self._tell), methods=["POST"])]

    async def _tell(self, request: Request) -> Response:
        try:
            told = msgspec.json.decode(await request.body(), type=Told)
        except msgspec.DecodeError as error:
            return refused(400, str(error))
        if len(told.places) > _MOST_OBJECTS:
            return refused(413, f"at most {_MOST_OBJECTS} places at once")
        self._store.keep_places(_kept(one) for one in told.places)
        return JSONResponse({"kept": len(told.places)})

    def position(self, origin: Origin) -> Position | None:
        """Where a field of an object stands, if that is known of the object as it is now."""
        return self.of(origin.ref, origin.path)

    def of(self, ref: Ref, path: FieldPath, at: int | None = None) -> Position | None:
        """Where a field stands; of the object as it was at a revision, if that is asked for. Raises Gone."""
        place = self.place(ref, at)
        return None if place is None else Placed(place).position(path)

    def place(self, ref: Ref, at: int | None = None) -> Place | None:
        """Where an object stands, if that is still so of what is stored, or was stored at a revision. Raises Gone."""
        place = self._store.place(ref)
        if place is None:
            return None
        document = self._store.get(ref) if at is None else self._store.get_at(ref, at)
        meta: Json = (document or {}).get("metadata") or {}
        return place if (meta.get("uid"), meta.get("generation")) == (place.uid, place.generation) else None


class Placed:
    """The positions of one object's fields."""

    def __init__(self, place: Place) -> None:
        self._manifest = Manifest({}, place.file, {mark: (line, column) for mark, line, column in place.marks})

    def position(self, path: FieldPath) -> Position | None:
        """Where a field stands, or what holds it."""
        return self._manifest.position(path)


class Positions:
    """Positions in a copy of the process, which inquires of each object once."""

    def __init__(self, inquiry: Inquiry) -> None:
        self._inquiry = inquiry
        self._known: dict[Ref, Placed | None] = {}

    def __call__(self, ref: Ref, path: FieldPath) -> Position | None:
        """Where a field of an object stands, if that is known."""
        self._learn([ref])
        placed = self._known[ref]
        return None if placed is None else placed.position(path)

    def put_in(self, answer: Json) -> Json:
        """An answer (JSON-shaped) in which every origin, an object with a field, gets its position, too."""
        origins = list(_origins(answer))
        refs = [Ref(**{name: str(one["object"].get(name, "")) for name in Ref._fields}) for one in origins]
        self._learn(refs)
        for ref, one in zip(refs, origins, strict=True):
            found = self(ref, path_of(one["field"]) if one["field"] else FieldPath())
            if found is not None:
                one["position"] = str(found)
        return answer

    def _learn(self, refs: Iterable[Ref]) -> None:
        lacking = [ref for ref in dict.fromkeys(refs) if ref not in self._known]
        for ref, place in zip(lacking, self._inquiry(lacking) if lacking else (), strict=True):
            self._known[ref] = None if place is None else Placed(place)


def _origins(answer: object) -> Iterator[Json]:
    if isinstance(answer, list):
        for one in cast("list[object]", answer):
            yield from _origins(one)
    elif isinstance(answer, dict):
        held = cast("Json", answer)
        for one in held.values():
            yield from _origins(one)
        if isinstance(held.get("object"), dict) and isinstance(held.get("field"), str):
            yield held


def _kept(one: Applied) -> Place:
    """What is kept of a place: nothing but names of fields, and of secrets not even those inside."""
    marks = [mark for mark in one.marks if one.object.kind != "Secret" or mark[0][:1] not in {(at,) for at in _SECRET}]
    marks.sort(key=lambda mark: len(mark[0]))
    return Place(one.object, one.uid, one.generation, one.file[:_LONGEST_NAME], tuple(marks[:MOST_MARKS]))
