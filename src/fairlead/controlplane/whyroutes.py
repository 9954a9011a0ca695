"""The route that walks requests through the running mesh: POST `/fairlead/v1/why`, for administrators.

The body has `from` (a caller) and `request` (see `simulate.request`; a caller of kind `peer` is whoever has that
`address`), and may have `with` (documents, as if they were applied), `at` (a revision, as things stood then),
`endpoint` (ADDRESS:PORT, the instance to follow where several could get the request) and `changes` (false: look for
none). The answer is a walk (see `simulate.answering`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.aside import Answer, Aside, Found, Inquiry
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.liveworkloads import LiveWorkloads
from fairlead.controlplane.operations import administrators, answered, refused
from fairlead.controlplane.places import Positions
from fairlead.controlplane.proxies import Proxies
from fairlead.model.diagnostic import Origin, Position
from fairlead.model.ref import Ref
from fairlead.simulate.answering import answer, caller_of
from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.request import Request
from fairlead.store.change import Place
from fairlead.store.errors import StoreError
from fairlead.store.store import Store

Json = dict[str, Any]
Allocate = Callable[[Json, Store], Json]
Differing = dict[Ref, Json | None]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"caller": "from", "more": "with"}):
    """The body of a request."""

    caller: Json
    request: Request
    more: tuple[Json, ...] = ()
    at: int | None = None
    changes: bool = True
    endpoint: str = ""


class Walks:
    """Walks through the mesh as it is, as it was, or as it would be, in copies of the process."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        delivery: Delivery,
        proxies: Proxies,
        allocate: Allocate,
        aside: Aside,
        place: Callable[[Ref], Place | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._feed = feed
        self._delivery = delivery
        self._proxies = proxies
        self._allocate = allocate
        self._aside = aside
        self._place = place

    async def answer(self, asked: Question) -> Found:
        """The walk. Raises ValueError, StoreError and Unanswered with messages for people."""

        def work(mesh: Mesh, _: Differing) -> Json:
            caller = caller_of(mesh, asked.caller)
            return answer(mesh, caller, asked.request, fixes=asked.changes, endpoint=asked.endpoint)

        return await self.on(asked.at, asked.more, work)

    async def on(self, at: int | None, more: tuple[Json, ...], work: Callable[[Mesh, Differing], Json]) -> Found:
        """What comes of work on the mesh as it stood at a revision (None: now) and as if documents were applied.

        `work` gets the mesh and what differs in it from now; what it refuses with ValueError or NobodyError is said.
        Raises ValueError, StoreError and Unanswered.
        """
        then = {} if at is None else await asyncio.to_thread(self._store.then, at)
        documents = {**then, **self._as_if(more)}

        def made(inquiry: Inquiry) -> Answer:
            try:
                self._feed.becoming(documents)
                return Answer(200, work(self._mesh(documents, Positions(inquiry)), documents))
            except (ValueError, NobodyError) as error:
                return Answer(400, refusal=str(error))

        return await self._aside.ask(made, self._place)

    def _mesh(self, documents: Mapping[Ref, Json | None], positions: Positions) -> Mesh:
        model = self._feed.model
        # What is held back from proxies is not what they have; but of what would be, nothing is held back.
        served = model.publisher.catalog if documents else self._delivery.served

        def position(origin: Origin) -> Position | None:
            # What is supposed stands elsewhere than what is stored.
            return None if origin.ref in documents else positions(origin.ref, origin.path)

        mesh = Mesh(model, LiveWorkloads((), ""), position, served=served)
        mesh.workloads = LiveWorkloads(self._proxies.known(), mesh.settings.trust_domain)
        return mesh

    def _as_if(self, documents: tuple[Json, ...]) -> dict[Ref, Json | None]:
        """Documents as admission would store them: read, and given the addresses that they need."""
        made: dict[Ref, Json | None] = {}
        for document in documents:
            obj, problems = self._feed.model.kinds.read(document)
            if obj is None:
                said = "; ".join(f"{one.path}: {one.message}" for one in problems)
                raise ValueError(f"{document.get('kind')}: {said}")
            made[obj.ref] = self._addressed(obj.ref, document)
        return made

    def _addressed(self, ref: Ref, document: Json) -> Json:
        """The document with the virtual address that it has, or would be given."""
        kind = self._feed.model.kinds.of(ref)
        if kind.allocate is None or kind.addresses is None or kind.addresses(document):
            return document
        stored: Json = self._store.get(ref) or {}
        spec: Json = stored.get("spec") or {}
        if ref.kind == "Service" and spec.get("clusterIP"):
            wanted: Json = document.get("spec") or {}
            return {**document, "spec": {"clusterIP": spec["clusterIP"], **wanted}}
        return self._allocate(document, self._store)


def why_routes(walks: Walks) -> list[BaseRoute]:
    """The route."""

    async def ask(request: HttpRequest) -> Response:
        try:
            asked = msgspec.json.decode(await request.body(), type=Question)
            return await answered(request, walks.answer(asked))
        except (msgspec.MsgspecError, ValueError, StoreError) as error:
            return refused(400, str(error))

    return [Route("/fairlead/v1/why", administrators(ask), methods=["POST"])]
