"""Where objects of the running mesh stand in files: as `fairlead apply -f` has said of what it applied.

POST `/fairlead/v1/places` takes a list of them (`Told`). Administrators only. A place holds as long as the object's
spec is the one that was applied; after an edit by other means nothing is said, for lines may be others.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

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
        place = self._store.place(ref)
        if place is None:
            return None
        document = self._store.get(ref) if at is None else self._store.get_at(ref, at)
        meta: Json = (document or {}).get("metadata") or {}
        if (meta.get("uid"), meta.get("generation")) != (place.uid, place.generation):
            return None
        marks = {mark: (line, column) for mark, line, column in place.marks}
        return Manifest({}, place.file, marks).position(path)

    def put_in(self, answer: Any, at: int | None = None) -> Any:
        """An answer (JSON-shaped) in which every origin, an object with a field, has its position, too."""
        if isinstance(answer, list):
            return [self.put_in(one, at) for one in cast("list[Any]", answer)]
        if not isinstance(answer, dict):
            return answer
        held = {key: self.put_in(value, at) for key, value in cast("Json", answer).items()}
        if isinstance(held.get("object"), dict) and isinstance(held.get("field"), str):
            ref = Ref(**{name: str(held["object"].get(name, "")) for name in Ref._fields})
            found = self.of(ref, path_of(held["field"]) if held["field"] else FieldPath(), at)
            if found is not None:
                held["position"] = str(found)
        return held


def _kept(one: Applied) -> Place:
    """What is kept of a place: nothing but names of fields, and of secrets not even those inside."""
    marks = [mark for mark in one.marks if one.object.kind != "Secret" or mark[0][:1] not in {(at,) for at in _SECRET}]
    marks.sort(key=lambda mark: len(mark[0]))
    return Place(one.object, one.uid, one.generation, one.file[:_LONGEST_NAME], tuple(marks[:MOST_MARKS]))
