"""Routes beside the Kubernetes API: what proxies run. Administrators only.

`/fairlead/v1/proxies` lists them, with parameters a part of them (`proxylist.Asked`). `/fairlead/v1/diagnostics` has
the findings, and the pushes that are held; POST `/fairlead/v1/release` sends those, with `?proxy=NAME.NAMESPACE` only
those of one proxy and the ones like it. `/metrics` is the control plane's own Prometheus page, `/fairlead/v1/memory`
tells what is held. POST `/fairlead/v1/profile` begins a sampling profile (`?seconds=` and `?rate=`), GET has it when
it is done (202 until then), and once.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.apiserver.app import user_of
from fairlead.controlplane.aside import Answer, Aside, Found, Inquiry, Unanswered
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.footprint import Footprint
from fairlead.controlplane.metrics import CONTENT_TYPE, held, page
from fairlead.controlplane.profiling import Busy, Profiler
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.proxylist import asked
from fairlead.envoy.extension import without_secret
from fairlead.envoy.resource import EXTENSION
from fairlead.store.transaction import timestamp
from fairlead.xds.server import Server


def operations(
    proxies: Proxies,
    feed: Feed,
    delivery: Delivery,
    xds: Callable[[], Server | None],
    profiler: Profiler,
    findings: Callable[[], list[str]],
    aside: Aside,
) -> list[BaseRoute]:
    """The routes. `xds` gives the server of the streams, once there is one, `findings` those beside the model's."""

    footprint = Footprint(feed.model.engine)

    async def listing(request: Request) -> Response:
        try:
            wanted = asked(request.query_params)
        except ValueError as error:
            return refused(400, str(error))
        if wanted.few:
            page = msgspec.json.encode({"revision": feed.revision, **proxies.page(wanted)})
            return Response(page, media_type="application/json")

        def work(_: Inquiry) -> Answer:
            return Answer(200, {"revision": feed.revision, **proxies.page(wanted)})

        return await answered(request, aside.ask(work))

    async def diagnostics(request: Request) -> Response:
        invalid = {ref: "; ".join(one.message for one in problems) for ref, problems in feed.invalid.items()}
        return JSONResponse(
            {
                "diagnostics": [
                    *(f"{ref} is stored but not valid any more: {said}" for ref, said in sorted(invalid.items())),
                    *(str(found) for found in feed.model.diagnostics()),
                    *findings(),
                ],
                "held": [
                    {"reason": one.reason, "since": timestamp(one.since), "proxies": delivery.members(view)}
                    for view, one in delivery.held.items()
                ],
            }
        )

    async def release(request: Request) -> Response:
        return JSONResponse({"released": delivery.release(request.query_params.get("proxy", ""))})

    async def metrics(_: Request) -> Response:
        await footprint.refresh()
        return Response(page(feed, proxies, xds(), footprint), headers={"content-type": CONTENT_TYPE})

    async def memory(_: Request) -> Response:
        await footprint.refresh()
        return JSONResponse(held(feed, proxies, xds(), footprint))

    return [
        *_profiles(profiler),
        Route("/fairlead/v1/memory", administrators(memory)),
        Route("/metrics", administrators(metrics)),
        Route("/fairlead/v1/proxies", administrators(listing)),
        Route("/fairlead/v1/diagnostics", administrators(diagnostics)),
        Route("/fairlead/v1/release", administrators(release), methods=["POST"]),
    ]


def _profiles(profiler: Profiler) -> list[BaseRoute]:
    async def begin(request: Request) -> Response:
        try:
            seconds, rate = (
                float(request.query_params.get("seconds", "10")),
                int(request.query_params.get("rate", "100")),
            )
            profiler.start(seconds, rate)
        except ValueError as error:
            return refused(400, str(error))
        except Busy as error:
            return refused(409, str(error))
        return JSONResponse({"seconds": seconds, "rate": rate}, 202)

    async def fetch(_: Request) -> Response:
        if profiler.running:
            return JSONResponse({"running": True}, 202)
        made = profiler.take()
        if made is None:
            return refused(404, "there is no profile; POST to begin one")
        return Response(msgspec.json.encode(made), media_type="application/json")

    return [
        Route("/fairlead/v1/profile", administrators(begin), methods=["POST"]),
        Route("/fairlead/v1/profile", administrators(fetch)),
    ]


_CLIENT_GONE = 499
"""Nobody sees it; the number is nginx's."""
Endpoint = Callable[[Request], Awaitable[Response]]


def administrators(serve: Endpoint) -> Endpoint:
    """The same, for administrators only."""

    async def endpoint(request: Request) -> Response:
        if not user_of(request).is_admin:
            return refused(403, f"{request.url.path} is for administrators only")
        return await serve(request)

    return endpoint


def refused(code: int, message: str) -> Response:
    """A Kubernetes Status that says no."""
    return JSONResponse(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}, code
    )


async def answered(request: Request, asking: Coroutine[Any, Any, Found]) -> Response:
    """What a client gets of a question that is worked on beside the loop. If it goes away, so does the work.

    Raises what asking does, but Unanswered. The body of the request has been read, if it has one.
    """
    work, gone = asyncio.ensure_future(asking), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return Response(status_code=_CLIENT_GONE)
        found = work.result()
    except Unanswered as error:
        return refused(503, str(error))
    finally:
        for one in (work, gone):
            one.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if found.refusal:
        return refused(found.status, found.refusal)
    return Response(found.body, found.status, media_type="application/json")


async def _gone(request: Request) -> None:
    """Until the client is there no more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def shown_catalog(catalog: Mapping[str, Mapping[str, bytes]]) -> dict[str, list[dict[str, str]]]:
    """What a proxy has, JSON-shaped. Keys of gateways stay between the control plane and the gateway."""
    return {
        type_url: [{"name": at, "body": _shown(type_url, body)} for at, body in rows.items()]
        for type_url, rows in catalog.items()
        if not type_url.endswith(".Secret")
    }


def _shown(type_url: str, body: bytes) -> str:
    """Credentials of registries stay between the control plane and the agents that fetch with them."""
    return base64.b64encode(without_secret(body) if type_url == EXTENSION else body).decode()
