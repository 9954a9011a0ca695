"""Routes beside the Kubernetes API: what proxies run. Administrators only.

`/fairlead/v1/proxies` lists them; `/fairlead/v1/proxies/NAME.NAMESPACE` gives what the control plane has for one.
"""

from __future__ import annotations

import base64

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.apiserver.app import user_of
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.proxies import Proxies


def operations(proxies: Proxies, feed: Feed) -> list[BaseRoute]:
    """The routes."""

    async def listing(request: Request) -> Response:
        if not user_of(request).is_admin:
            return _refused(403, "only administrators may see proxies")
        return JSONResponse({"revision": feed.revision, "proxies": proxies.listing()})

    async def one(request: Request) -> Response:
        if not user_of(request).is_admin:
            return _refused(403, "only administrators may see proxies")
        name = request.path_params["name"]
        connection = proxies.connection(name)
        if connection is None:
            return _refused(404, f"no proxy {name!r} is connected; `fairlead proxy-status` lists those that are")
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
        if not user_of(request).is_admin:
            return _refused(403, "only administrators may see findings")
        return JSONResponse({"diagnostics": [str(found) for found in feed.model.diagnostics()]})

    return [
        Route("/fairlead/v1/proxies", listing),
        Route("/fairlead/v1/proxies/{name}", one),
        Route("/fairlead/v1/diagnostics", diagnostics),
    ]


def _refused(code: int, message: str) -> Response:
    return JSONResponse(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}, code
    )
