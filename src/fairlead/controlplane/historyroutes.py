"""Routes about the past: who changed what, who last changed each field, and restoring. Administrators only.

`/fairlead/v1/history` lists commits, newest first (`group kind namespace name since before limit status`);
`/fairlead/v1/history/REV` has one of them whole (`?answers=true`: with what each proxy did);
`/fairlead/v1/blame` one object by field (`group kind namespace name
at`); `/fairlead/v1/timeline` has everything that happened (`told.Asked`); POST `/fairlead/v1/rollback` restores
(`Restoring`), with `?dryRun=true` it says what that would do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.apiserver.admission import Admission
from fairlead.apiserver.app import user_of
from fairlead.apiserver.refusal import Refusal
from fairlead.apiserver.writes import Judged, Write
from fairlead.controlplane import past, told
from fairlead.controlplane.aside import Answer, Aside, Inquiry, Unanswered
from fairlead.controlplane.effectroutes import Effects
from fairlead.controlplane.operations import administrators, refused
from fairlead.model.caller import COMMAND_HEADER, MESSAGE_HEADER, decoded
from fairlead.model.diagnostic import Position
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.store.change import Json, Wanted
from fairlead.store.errors import Gone
from fairlead.store.store import Store
from fairlead.store.timeline import Asked as TimelineAsked
from fairlead.store.timeline import Timeline

DEFAULT_LIMIT = 50
_DONE = 200
PlaceOf = Callable[[Ref, FieldPath, int | None], Position | None]
"""Where a field of an object stands in a file, as it is or as it was at a revision."""


class Restoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to restore: `to` a revision, everything or one object; or `undo` takes one revision back."""

    to: int = 0
    undo: int = 0
    object: dict[str, str] | None = None


def wanted(query: Any) -> Wanted:
    """From the parameters of a request. Raises ValueError."""
    known = {"group", "kind", "namespace", "name", "since", "before", "after", "limit", "status"}
    unknown = sorted({*query} - known)
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}")
    return Wanted(
        query.get("group", ""),
        query.get("kind", ""),
        query.get("namespace"),
        query.get("name", ""),
        before=_number(query, "before"),
        after=_number(query, "after"),
        since=float(query.get("since", "0")),
        status=query.get("status") == "true",
        limit=_number(query, "limit", DEFAULT_LIMIT),
    )


def _number(query: Any, name: str, otherwise: int = 0) -> int:
    text = query.get(name, str(otherwise))
    if not text.isdecimal():
        raise ValueError(f"{name} must be a number")
    return int(text)


def ref_of(query: Any) -> Ref:
    """The object that a request names. Raises ValueError."""
    if not query.get("kind") or not query.get("name"):
        raise ValueError("name the object: group, kind, namespace, name")
    return Ref(query.get("group", ""), query["kind"], query.get("namespace", ""), query["name"])


def _nowhere(_ref: Ref, _path: FieldPath, _at: int | None) -> Position | None:
    return None


class History:
    """The routes and what they need."""

    def __init__(
        self,
        store: Store,
        effects: Effects,
        admission: Admission,
        aside: Aside,
        timeline: Timeline,
        places: PlaceOf = _nowhere,
    ) -> None:
        self._aside = aside
        self._places = places
        self._timeline = timeline
        self._store = store
        self._effects = effects
        self._admission = admission

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        return [
            Route("/fairlead/v1/history", administrators(self._list)),
            Route("/fairlead/v1/history/{revision:int}", administrators(self._show)),
            Route("/fairlead/v1/timeline", administrators(self._events)),
            Route("/fairlead/v1/blame", administrators(self._blame)),
            Route("/fairlead/v1/rollback", administrators(self._rollback), methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        try:
            asked = wanted(request.query_params)
        except ValueError as error:
            return refused(400, str(error))
        # In a thread: an answer may be long, and proxies wait for the loop.
        found = await asyncio.to_thread(past.commits, self._store, asked)
        if not found and asked.name and asked.namespace is not None:
            ref = Ref(asked.group, asked.kind, asked.namespace, asked.name)
            if await asyncio.to_thread(self._store.get, ref) is None:
                return refused(404, past.missing(self._store, ref))
        oldest = {"revision": self._store.revision, "oldest": self._store.oldest, "commits": found}
        return Response(msgspec.json.encode(oldest), media_type="application/json")

    async def _show(self, request: Request) -> Response:
        try:
            number = request.path_params["revision"]
            found = await asyncio.to_thread(past.shown, self._store, number)
        except Gone as error:
            return refused(410, f"{error} [FL3902]")
        every = request.query_params.get("answers") == "true"
        rows = await asyncio.to_thread(self._timeline.listing, TimelineAsked(revision=number, every=every))
        # One that somebody did not answer for long has an earlier row; the last one says how it ended.
        ended = {(one.first, one.revision): one for _, one in rows}
        found["pushes"] = [told.happening(one) for one in ended.values()]
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def _events(self, request: Request) -> Response:
        try:
            asked = told.asked(request.query_params)
        except ValueError as error:
            return refused(400, str(error))
        found = await asyncio.to_thread(told.events, self._store, self._timeline, asked)
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def _blame(self, request: Request) -> Response:
        try:
            ref = ref_of(request.query_params)
            at = _number(request.query_params, "at") or None
        except ValueError as error:
            return refused(400, str(error))

        def found() -> Json | None:
            made = past.blame(self._store.versions(ref), at)
            for one in made["fields"] if made is not None else ():
                position = self._places(ref, FieldPath(tuple(one["path"])), at)
                if position is not None:
                    one["position"] = str(position)
            return made

        made = await asyncio.to_thread(found)
        if made is None:
            return refused(404, past.missing(self._store, ref, at))
        return Response(msgspec.json.encode(made), media_type="application/json")

    async def _rollback(self, request: Request) -> Response:
        dry, force = (request.query_params.get(one) == "true" for one in ("dryRun", "force"))
        try:
            asked = msgspec.json.decode(await request.body(), type=Restoring)
            if bool(asked.to) == bool(asked.undo) or (asked.undo and asked.object):
                raise ValueError("give a revision to restore, or one to undo")
            ref = ref_of(asked.object) if asked.object else None
            if asked.undo:
                plan = await asyncio.to_thread(past.taken_back, self._store, asked.undo)
            else:
                plan = await asyncio.to_thread(past.restored, self._store, asked.to, ref)
        except (msgspec.DecodeError, ValueError) as error:
            return refused(400, str(error))
        except Gone as error:
            return refused(410, f"{error} [FL3902]")
        except past.RollbackRefused as error:
            return refused(409, str(error))
        if plan.conflicts and not force and not dry:
            said = "; ".join(plan.conflicts[:5])
            return refused(409, f"{said}. Look at them with `fairlead show`; --force takes them back too [FL3900]")
        message = decoded(request.headers.get(MESSAGE_HEADER, ""))
        what = f"undo {asked.undo}" if asked.undo else f"back to {asked.to}"
        write = Write(
            author=user_of(request).name,
            manager="fairlead",
            message=f"{what}: {message}" if message else what,
            command=decoded(request.headers.get(COMMAND_HEADER, "")),
            dry_run=dry,
        )
        try:
            effect = await self._effects.of(plan.documents)
            return await self._done(plan, write, effect)
        except Refusal as error:
            return JSONResponse(error.status(), error.code)
        except ValueError as error:
            return refused(422, f"what was stored then cannot be read any more: {error} [FL3812]")
        except Unanswered as error:
            return refused(503, str(error))

    async def _done(self, plan: past.Plan, write: Write, effect: Json) -> Response:
        """Restore, or only judge it; what it does to objects and proxies.

        Judged in a copy of the process and written by a thread: there may be thousands of objects.
        """
        before = await asyncio.to_thread(lambda: {ref: self._store.get(ref) for ref in plan.documents})
        revision = self._store.revision
        judged = Judged()
        if plan.documents:
            found = await self._aside.ask(partial(self._judged, plan, before, write))
            if found.status != _DONE:
                return Response(found.body, found.status, media_type="application/json")
            judged = msgspec.json.decode(found.body, type=Judged)
            await asyncio.to_thread(self._admission.restore, plan.documents, before, judged, write)
        made = self._store.revision

        def body() -> bytes:
            changes = [past.described(ref, before[ref], plan.documents[ref]) for ref in sorted(plan.documents)]
            return msgspec.json.encode(
                {
                    "dryRun": write.dry_run,
                    "revision": made if made != revision else 0,
                    "changes": changes,
                    "undone": past.listed(plan.undone),
                    "conflicts": plan.conflicts,
                    "warnings": judged.warnings,
                    "effect": effect,
                }
            )

        return Response(await asyncio.to_thread(body), media_type="application/json")

    def _judged(self, plan: past.Plan, before: dict[Ref, Json | None], write: Write, _: Inquiry) -> Answer:
        """What admission says. Called in a copy of the process."""
        try:
            return Answer(_DONE, msgspec.to_builtins(self._admission.judged(plan.documents, before, write)))
        except Refusal as error:
            return Answer(error.code, error.status())
