"""The route that walks requests through the running mesh: POST `/fairlead/v1/why`, for administrators.

The body has `from` (a caller) and `request` (see `simulate.request`; a caller of kind `peer` is whoever has that
`address`), and may have `with` (documents, as if they were applied), `at` (a revision, as things stood then),
`endpoint` (ADDRESS:PORT, the instance to follow where several could get the request) and `changes` (false: look for
none). The answer is a walk (see `simulate.answering`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.liveworkloads import LiveWorkloads
from fairlead.controlplane.operations import administrators, refused
from fairlead.controlplane.proxies import Proxies
from fairlead.model.diagnostic import Origin, Position
from fairlead.model.ref import Ref
from fairlead.simulate.answering import answering, caller_of
from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.origins import Positions
from fairlead.simulate.request import Request
from fairlead.simulate.world import World
from fairlead.store.errors import StoreError
from fairlead.store.store import Store

Json = dict[str, Any]
Allocate = Callable[[Json, Store], Json]
Differing = dict[Ref, Json | None]
T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work on a mesh that yields where it may pause."""
_SLICE = 0.02
"""Seconds after which walks pause for the loop: with what one more of them takes it stays well below 50 ms."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"caller": "from", "more": "with"}):
    """The body of a request."""

    caller: Json
    request: Request
    more: tuple[Json, ...] = ()
    at: int | None = None
    changes: bool = True
    endpoint: str = ""


class Walks:
    """Walks through the mesh as it is, as it was, or as it would be."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        delivery: Delivery,
        proxies: Proxies,
        allocate: Allocate,
        clock: Callable[[], float] = time.perf_counter,
        position: Positions = lambda _: None,
    ) -> None:
        self._store = store
        self._feed = feed
        self._delivery = delivery
        self._proxies = proxies
        self._allocate = allocate
        self._clock = clock
        self._position = position
        self._world = World()
        self._turns = asyncio.Lock()

    async def answer(self, asked: Question) -> Json:
        """The walk, JSON-shaped. Raises ValueError, NobodyError and StoreError with messages for people."""

        def steps(mesh: Mesh, _: Differing) -> Steps[Json]:
            caller = caller_of(mesh, asked.caller)
            return answering(mesh, caller, asked.request, fixes=asked.changes, endpoint=asked.endpoint)

        return await self.sliced(asked.at, asked.more, steps)

    async def sliced(self, at: int | None, more: tuple[Json, ...], work: Callable[[Mesh, Differing], Steps[T]]) -> T:
        """What comes of work on the mesh as it stood at a revision (None: now) and as if documents were applied.

        `work` gets the mesh and what differs in it from now. It is done in slices, between which the loop is free and
        the mesh is as it is; then what is supposed is supposed anew, over what has changed meanwhile. Raises ValueError
        and StoreError with messages for people, and what the work raises.
        """
        async with self._turns:
            enter = partial(self._entered, at, self._as_if(more))
            mesh: Mesh | None = None
            steps: Steps[T] | None = None
            while True:
                with enter(mesh) as (mesh, documents):
                    steps = work(mesh, documents) if steps is None else steps
                    end = self._clock() + _SLICE
                    try:
                        next(steps)
                        while self._clock() < end:
                            next(steps)
                    except StopIteration as ended:
                        return ended.value
                await asyncio.sleep(0)

    @contextmanager
    def _entered(self, at: int | None, more: Differing, mesh: Mesh | None) -> Generator[tuple[Mesh, Differing]]:
        """The mesh with what is supposed in it, and that. Nothing may be awaited inside."""
        documents = {**({} if at is None else self._store.then(at)), **more}
        # Also where nothing is supposed: changes that might help are tried inside, and streams follow the catalogs.
        with self._feed.supposing(documents):
            mesh = mesh or self._mesh(documents)
            try:
                yield mesh, documents
            finally:
                mesh.close()

    def _mesh(self, documents: Mapping[Ref, Json | None]) -> Mesh:
        model = self._feed.model
        # What is held back from proxies is not what they have; but of what would be, nothing is held back.
        served = model.publisher.catalog if documents else self._delivery.served

        def position(origin: Origin) -> Position | None:
            # What is supposed stands elsewhere than what is stored.
            return None if origin.ref in documents else self._position(origin)

        mesh = Mesh(model, LiveWorkloads((), ""), position, served=served, world=self._world)
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
            found = await walks.answer(asked)
        except (msgspec.MsgspecError, ValueError, NobodyError, StoreError) as error:
            return refused(400, str(error))
        return Response(msgspec.json.encode(found), media_type="application/json")

    return [Route("/fairlead/v1/why", administrators(ask), methods=["POST"])]
