"""Routes beside the Kubernetes API: what proxies run. Administrators only.

`/fairlead/v1/proxies` lists them; `/fairlead/v1/proxies/NAME.NAMESPACE` gives what the control plane has for one.
`/fairlead/v1/diagnostics` has the findings, and the pushes that are held; POST `/fairlead/v1/release` sends those, with
`?proxy=NAME.NAMESPACE` only those of one proxy and the ones like it. `/metrics` is the control
plane's own Prometheus page.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.apiserver.app import user_of
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.metrics import CONTENT_TYPE, page
from fairlead.controlplane.proxies import Proxies
from fairlead.store.store import timestamp


def operations(proxies: Proxies, feed: Feed, delivery: Delivery) -> list[BaseRoute]:
    """The routes."""

    async def listing(request: Request) -> Response:
        return JSONResponse({"revision": feed.revision, "proxies": proxies.listing()})

    async def one(request: Request) -> Response:
        name = request.path_params["name"]
        connection = proxies.connection(name)
        if connection is None:
            return refused(404, f"no proxy {name!r} is connected; `fairlead proxy-status` lists those that are")
        catalog = proxies.catalog(connection)
        return JSONResponse(
            {
                type_url: [{"name": at, "body": base64.b64encode(body).decode()} for at, body in rows.items()]
                for type_url, rows in catalog.items()
                # Keys of gateways stay between the control plane and the gateway.
                if not type_url.endswith(".Secret")
            }
        )

    async def diagnostics(request: Request) -> Response:
        invalid = {ref: "; ".join(one.message for one in problems) for ref, problems in feed.invalid.items()}
        return JSONResponse(
            {
                "diagnostics": [
                    *(f"{ref} is stored but not valid any more: {said}" for ref, said in sorted(invalid.items())),
                    *(str(found) for found in feed.model.diagnostics()),
                ],
                "held": [
                    {"reason": held.reason, "since": timestamp(held.since), "proxies": delivery.members(view)}
                    for view, held in delivery.held.items()
                ],
            }
        )

    async def release(request: Request) -> Response:
        return JSONResponse({"released": delivery.release(request.query_params.get("proxy", ""))})

    async def metrics(_: Request) -> Response:
        return Response(page(feed, proxies), headers={"content-type": CONTENT_TYPE})

    return [
        Route("/metrics", administrators(metrics)),
        Route("/fairlead/v1/proxies", administrators(listing)),
        Route("/fairlead/v1/proxies/{name}", administrators(one)),
        Route("/fairlead/v1/diagnostics", administrators(diagnostics)),
        Route("/fairlead/v1/release", administrators(release), methods=["POST"]),
    ]


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
