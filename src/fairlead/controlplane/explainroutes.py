"""Routes that say where settings of running proxies come from, and what depends on an object. Administrators only.

`/fairlead/v1/explain/NAME.NAMESPACE` (`path`, `every=true`, `at`) has settings with their origins
(`provenance.explained`); `/fairlead/v1/affects` (`group kind namespace name field at`) has the proxies and resources
that depend on an object or a field (`effect.affected`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.operations import administrators, refused
from fairlead.controlplane.proxies import Proxies
from fairlead.effect.affected import affected
from fairlead.envoy.settings import PathError
from fairlead.model.path import ROOT, path_of
from fairlead.model.ref import Ref
from fairlead.provenance.explained import explained
from fairlead.store.errors import Gone
from fairlead.store.store import Store

Json = dict[str, Any]


class Explanations:
    """The routes and what they need."""

    def __init__(self, store: Store, feed: Feed, delivery: Delivery, proxies: Proxies) -> None:
        self._store = store
        self._feed = feed
        self._delivery = delivery
        self._proxies = proxies

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
            return refused(
                404, f"no proxy {name!r} is connected; `fairlead proxy-status` lists those that are [FL3813]"
            )
        try:
            with self._at(query.get("at", "")):
                found = explained(
                    self._feed.model, known.view, query.get("path", ""), every=query.get("every") == "true"
                )
        except Gone as error:
            return refused(410, f"{error} [FL3811]")
        except ValueError as error:
            return refused(404, f"{error} [FL3813]")
        return JSONResponse({"proxy": name, "revision": self._feed.revision, **found})

    async def _affects(self, request: Request) -> Response:
        query = request.query_params
        ref = Ref(query.get("group", ""), query.get("kind", ""), query.get("namespace", ""), query.get("name", ""))
        field = query.get("field", "")
        try:
            with self._at(query.get("at", "")):
                found = affected(self._feed.model, ref, path_of(field) if field else ROOT, self._delivery.names)
        except Gone as error:
            return refused(410, f"{error} [FL3811]")
        except PathError as error:
            return refused(404, f"{error} [FL3813]")
        except ValueError as error:
            return refused(400, f"{error} [FL3810]")
        return JSONResponse({"revision": self._feed.revision, **found})

    @contextmanager
    def _at(self, revision: str) -> Generator[None]:
        """As things stood at a revision, or now. Raises Gone, and ValueError for what is no number."""
        with self._feed.supposing(self._store.then(int(revision)) if revision else {}):
            yield
