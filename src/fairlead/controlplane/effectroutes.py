"""POST `/fairlead/v1/effect`: what a change would do to the proxies that are connected. Administrators only.

The body is a `Supposed`. The answer is what `effect.report` makes, with the revision that it starts from. The change is
compiled in a copy of the process (`aside`); how many connections would drain is then asked of the agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.compiler.publish import Changes
from fairlead.controlplane import guard
from fairlead.controlplane.aside import Answer, Aside, Unanswered
from fairlead.controlplane.callers import Callers
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.fleet import Fleet
from fairlead.controlplane.operations import administrators, refused
from fairlead.controlplane.proxies import Proxies
from fairlead.effect import Effect, attributed, counted, draining, effects, objects_of, told
from fairlead.ir.view import View
from fairlead.model.ref import Ref
from fairlead.store.errors import Gone
from fairlead.store.store import Store

Json = dict[str, Any]


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object by its name."""

    kind: str
    name: str
    group: str = ""
    namespace: str = ""


class Supposed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change: documents as they would be stored, and objects that would go.

    `against` asks instead what everything did that was written after that revision. With `full`, fields come with their
    values.
    """

    documents: tuple[Json, ...] = ()
    deleted: tuple[Named, ...] = ()
    against: int = 0
    full: bool = False


class Effects:
    """The route and what it needs."""

    def __init__(
        self, store: Store, feed: Feed, delivery: Delivery, proxies: Proxies, aside: Aside, fleet: Fleet
    ) -> None:
        self._store = store
        self._feed = feed
        self._delivery = delivery
        self._proxies = proxies
        self._aside = aside
        self._fleet = fleet

    async def of(self, changed: dict[Ref, Json | None], *, full: bool = False, backwards: bool = False) -> Json:
        """What it does to proxies if objects are as these documents say (None: gone).

        `backwards` tells what taking that back does. Raises ValueError where one cannot be read, and Unanswered.
        """
        found = await self._aside.ask(lambda _: self._told(changed, full=full, backwards=backwards))
        if found.refusal:
            raise ValueError(found.refusal)
        document = found.document
        return counted(document, await self._connections(draining(document)))

    def routes(self) -> list[BaseRoute]:
        """The route."""
        return [Route("/fairlead/v1/effect", administrators(self._effect), methods=["POST"])]

    async def _effect(self, request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await request.body(), type=Supposed)
            changed = await self._changed(asked)
            return JSONResponse(await self.of(changed, full=asked.full, backwards=asked.against > 0))
        except msgspec.DecodeError as error:
            return refused(400, f"{error} [FL3810]")
        except Gone as error:
            return refused(410, f"{error} [FL3811]")
        except ValueError as error:
            return refused(422, f"{error} [FL3812]")
        except Unanswered as error:
            return refused(503, str(error))

    async def _changed(self, asked: Supposed) -> dict[Ref, Json | None]:
        """The documents that would be other ones. Raises ValueError and Gone."""
        if asked.against:
            if asked.documents or asked.deleted:
                raise ValueError("compare with a revision, or suppose a change, not both")
            return await asyncio.to_thread(self._store.then, asked.against)
        changed: dict[Ref, Json | None] = {}
        for one in asked.deleted:
            changed[Ref(one.group, one.kind, one.namespace, one.name)] = None
        for document in asked.documents:
            changed[self._ref(document)] = document
        return changed

    def _ref(self, document: Json) -> Ref:
        kind, problems = self._feed.model.kinds.identify(document)
        if kind is None:
            raise ValueError("; ".join(one.message for one in problems))
        meta = cast("Json", document.get("metadata") or {})
        return kind.ref(str(meta.get("namespace") or "default"), str(meta.get("name") or ""))

    def _told(self, changed: dict[Ref, Json | None], *, full: bool, backwards: bool) -> Answer:
        """Called in a copy of the process."""
        before = objects_of(self._feed.model, changed)
        try:
            differing = self._feed.becoming(changed)
        except ValueError as error:
            return Answer(422, refusal=str(error))
        fleet, model = self._fleet, self._feed.model
        callers = Callers(model, self._delivery, self._proxies, fleet.traffic, fleet.plaintext)
        publisher = model.publisher

        def judge(changes: Mapping[View, Changes]) -> tuple[Effect, ...]:
            asks = publisher.asks
            return effects(changes, publisher.catalog, self._objection, callers.known, asks=asks, backwards=backwards)

        found = attributed(model, judge(differing), differing, before, judge)
        return Answer(200, {"revision": self._feed.revision, **told(found, self._delivery.names, full=full)})

    async def _connections(self, names: frozenset[str]) -> Mapping[str, Mapping[str, int]]:
        """Open connections of proxies by name and listener."""
        nodes = {node: name for node in self._delivery.nodes() if (name := node.split("~")[2]) in names}
        found = await self._fleet.open_connections(nodes)
        return {nodes[node]: counts for node, counts in found.items()}

    def _objection(self, view: View, changes: Changes) -> str:
        return guard.objection(self._delivery.limits, self._feed.model.publisher.catalog(view), changes)
