"""Routes that say where settings of running proxies come from, and what depends on an object. Administrators only.

`/fairlead/v1/explain/NAME.NAMESPACE` (`path`, `every=true`, `exact=true`, `at`) has settings with their origins
(`provenance.explained`); `/fairlead/v1/affects` (`group kind namespace name field at`) has the proxies and resources
that depend on an object or a field (`effect.affected`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.aside import Answer, Aside, Inquiry
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.operations import administrators, answered, refused
from fairlead.controlplane.places import Places, Positions
from fairlead.controlplane.proxies import Proxies
from fairlead.effect.affected import affected
from fairlead.envoy.settings import PathError
from fairlead.model.path import ROOT, path_of
from fairlead.model.ref import Ref
from fairlead.provenance.explained import Wish, explained
from fairlead.store.errors import Gone
from fairlead.store.store import Store

Json = dict[str, Any]


class Explanations:
    """The routes and what they need."""

    def __init__(
        self, store: Store, feed: Feed, delivery: Delivery, proxies: Proxies, aside: Aside, places: Places
    ) -> None:
        self._store = store
        self._feed = feed
        self._delivery = delivery
        self._proxies = proxies
        self._aside = aside
        self._places = places

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        return [
            Route("/fairlead/v1/explain/{name}", administrators(self._explain)),
            Route("/fairlead/v1/affects", administrators(self._affects)),
        ]

    async def _explain(self, request: Request) -> Response:
        name, query = request.path_params["name"], request.query_params
        known = next((one for one in self._proxies.known() if f"{one.name}.{one.namespace}" == name), None)
        if known is None:
            return refused(404, f"{self._proxies.missing(name)} [FL3813]")
        path, wish = query.get("path", ""), Wish(query.get("every") == "true", query.get("exact") == "true")

        def work() -> Json:
            return {"proxy": name, **explained(self._feed.model, known.view, path, wish=wish)}

        return await self._answered(request, query.get("at", ""), work)

    async def _affects(self, request: Request) -> Response:
        query = request.query_params
        ref = Ref(query.get("group", ""), query.get("kind", ""), query.get("namespace", ""), query.get("name", ""))
        try:
            field = path_of(query.get("field", "")) if query.get("field") else ROOT
        except ValueError as error:
            return refused(400, f"{error} [FL3810]")
        return await self._answered(
            request, query.get("at", ""), lambda: affected(self._feed.model, ref, field, self._delivery.names)
        )

    async def _answered(self, request: Request, at: str, work: Callable[[], Json]) -> Response:
        """What `work` says in a copy of the process, as things stood at a revision or stand now."""
        try:
            revision = int(at) if at else None
            was = await asyncio.to_thread(self._store.then, revision) if revision is not None else {}
        except Gone as error:
            return refused(410, f"{error} [FL3811]")
        except ValueError as error:
            return refused(400, f"{error} [FL3810]")

        def answer(inquiry: Inquiry) -> Answer:
            try:
                self._feed.becoming(was)
                return Answer(200, Positions(inquiry).put_in({"revision": self._feed.revision, **work()}))
            except PathError as error:
                return Answer(404, refusal=f"{error} [FL3813]")
            except ValueError as error:
                return Answer(422, refusal=f"{error} [FL3812]")

        return await answered(request, self._aside.ask(answer, lambda ref: self._places.place(ref, revision)))
