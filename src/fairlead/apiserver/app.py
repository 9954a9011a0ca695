"""The REST application: requests in, documents out. An ASGI application without sockets."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fairlead import __version__
from fairlead.apiserver import discovery
from fairlead.apiserver.admission import Admission
from fairlead.apiserver.answers import JSON, refused
from fairlead.apiserver.auth import Action, Authenticator, Authorize, User, nobody_else, permitted
from fairlead.apiserver.durable import Durable
from fairlead.apiserver.openapi import OpenAPI
from fairlead.apiserver.refusal import Refusal
from fairlead.apiserver.request import Target, accepted, target
from fairlead.apiserver.resources import Call, Resources
from fairlead.apiserver.reviews import TokenIssuer, review
from fairlead.apiserver.watch import Hub
from fairlead.compiler.registry import Registry
from fairlead.store import StoreUnusable

Json = dict[str, Any]
_log = logging.getLogger(__name__)

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_ANONYMOUS = ("/version", "/healthz", "/readyz", "/livez")
_PROTO_ONLY = "application/com.github.proto-openapi"
MOST_WARNINGS = 50
"""Of one answer: some clients take no answer with more than 100 headers."""
LONGEST_WARNING = 1000


class Guard:
    """Lets nobody in whom the authenticator does not know; puts the user into the scope."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] not in _ANONYMOUS:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            user = self._authenticator.authenticate(token.strip()) if scheme.lower() == "bearer" and token else None
            if user is None:
                said = (
                    "Unauthorized: the token has expired or is of another control plane; "
                    "use the kubeconfig in this one's state directory, which it keeps current"
                    if token
                    else "Unauthorized: send a bearer token, such as the one in the state directory's kubeconfig"
                )
                await refused(Refusal(401, said))(scope, receive, send)
                return
            scope["user"] = user
        await self._app(scope, receive, send)


def user_of(request: Request) -> User:
    """Who sent a request that passed the guard."""
    return request.scope["user"]


class Api:
    """The application and what it needs; `asgi` is served by `fairlead.apiserver.server`.

    `routes` are further routes of the composition root (they are guarded, and read the user with `user_of`).
    `ready` says whether /readyz is answered with 200.
    """

    def __init__(
        self,
        admission: Admission,
        authenticator: Authenticator,
        *,
        authorize: Authorize = nobody_else,
        token_issuer: TokenIssuer | None = None,
        routes: Sequence[BaseRoute] = (),
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hub = Hub(admission.store)
        self._registry: Registry = admission.registry
        self._authorize = authorize
        self._ready = ready
        self._openapi = OpenAPI(self._registry)
        self._resources = Resources(admission, self.hub, token_issuer, clock)
        app = Starlette(
            routes=[
                # Routes are tried in turn, and nearly all requests are for these.
                Route("/api{path:path}", self._answer(self._api), methods=_METHODS),
                Route("/version", self._answer(self._version)),
                *(Route(path, self._health) for path in ("/healthz", "/livez", "/readyz")),
                Route("/openapi/v2", self._answer(self._openapi_v2)),
                Route("/openapi/v3", self._answer(self._openapi_index)),
                Route("/openapi/v3/{path:path}", self._answer(self._openapi_v3)),
                *routes,
                Route("/{path:path}", self._answer(self._api), methods=_METHODS),
            ]
        )
        self.asgi: ASGIApp = Guard(Durable(app, admission.store), authenticator)

    def _answer(self, serve: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Every failure becomes a `Status`; a programming error is logged and shown without its insides."""

        async def endpoint(request: Request) -> Response:
            try:
                return await serve(request)
            except Refusal as refusal:
                return refused(refusal)
            except StoreUnusable as error:
                _log.error("%s %s failed: %s", request.method, request.url.path, error)
                return refused(Refusal(500, f"the store cannot be used: {error}"))
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception:
                _log.exception("%s %s failed", request.method, request.url.path)
                return refused(Refusal(500, "an internal error occurred: see the control plane's log"))

        return endpoint

    async def _health(self, request: Request) -> Response:
        if request.url.path == "/readyz" and not self._ready():
            return PlainTextResponse("not ready", 503)
        return PlainTextResponse("ok")

    async def _version(self, request: Request) -> Response:
        # kubectl compares the minor version with its own; this is the Kubernetes API that is spoken.
        return JSON(
            {
                "major": "1",
                "minor": "32",
                "gitVersion": f"v1.32.0+fairlead.{__version__}",
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "",
                "compiler": "cpython",
                "platform": "linux/amd64",
            }
        )

    async def _openapi_v2(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        if _PROTO_ONLY in accept and "json" not in accept and "*/*" not in accept:
            raise Refusal(406, "the OpenAPI document is served as application/json only")
        raw, tag = self._openapi.v2()
        return self._tagged(request, raw, tag)

    async def _openapi_index(self, request: Request) -> Response:
        return JSON(self._openapi.index())

    async def _openapi_v3(self, request: Request) -> Response:
        found = self._openapi.v3(request.path_params["path"])
        if found is None:
            raise Refusal(404, "there is no such OpenAPI document; /openapi/v3 lists them")
        return self._tagged(request, *found)

    @staticmethod
    def _tagged(request: Request, raw: bytes, tag: str) -> Response:
        headers = {"ETag": f'"{tag}"', "Cache-Control": "public"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return JSON(raw, headers=headers)

    # /api and /apis

    async def _api(self, request: Request) -> Response:
        path = request.url.path.rstrip("/")
        if path in ("/api", "/apis"):
            return self._discovery(request, named=path == "/apis")
        found = target(path)
        if found is None:
            listed = discovery.groups(self._registry)
            group = path.removeprefix("/apis/")
            if path.startswith("/apis/") and group in listed:
                return JSON(discovery.group_document(group, listed[group]))
            raise Refusal(404, "the server could not find the requested resource: see /api and /apis")
        if not discovery.exists(self._registry, found.group, found.version):
            raise Refusal(404, f"no API {found.group or 'core'}/{found.version}: see /apis")
        if not found.resource:
            return JSON(discovery.resource_list(self._registry, found.group, found.version))
        return await self._resource(request, found)

    def _discovery(self, request: Request, *, named: bool) -> Response:
        accept = request.headers.get("accept", "")
        # The first of the wanted forms that is known, as content negotiation has it.
        for media, parameters in accepted(accept):
            form = parameters.get("v", "")
            if parameters.get("as") == "APIGroupDiscoveryList" and form in discovery.AGGREGATED:
                media = f"application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList"
                made = discovery.aggregated(self._registry, named=named, form=form)
                return JSON(made, headers={"Content-Type": media, "Vary": "Accept"})
            if media in ("application/json", "*/*") and not parameters:
                break
        return JSON(discovery.group_list(self._registry) if named else discovery.core())

    async def _resource(self, request: Request, found: Target) -> Response:
        user = user_of(request)
        if found.group in discovery.REVIEWS:
            if request.method != "POST":
                raise Refusal(405, f"{found.resource} takes POST only")
            data = await self._resources.data(request)
            answer = review(found.resource, data, user, self._authorize)
            if answer is None:
                raise Refusal(404, f"no resource {found.resource} in {found.group}")
            return JSON(answer, 201)
        call = self._resources.call(request, found, user)
        action = Action(call.verb, found.group, call.resource, found.namespace or "", found.name)
        if not permitted(user, action, self._authorize):
            said = f'{call.resource} is forbidden: User "{user.name}" {action}'
            raise Refusal(403, said, details={"group": found.group, "kind": found.resource})
        return await self._respond(call)

    async def _respond(self, call: Call) -> Response:
        response = await self._resources.serve(call)
        for header in _warning_headers(call.warnings):
            response.headers.append("Warning", header)
        return response


def _warning_headers(warnings: Sequence[str]) -> Iterator[str]:
    """The values of `Warning` headers (RFC 7234, 5.5): as many and as long as every client takes."""
    told = warnings if len(warnings) <= MOST_WARNINGS else warnings[: MOST_WARNINGS - 1]
    more = len(warnings) - len(told)
    for warning in (*told, *((f"and {more} more warnings: `fairlead validate` tells all",) if more else ())):
        cut = warning if len(warning) <= LONGEST_WARNING else f"{warning[:LONGEST_WARNING]}..."
        text = cut.replace("\\", "\\\\").replace('"', '\\"')
        yield f'299 - "{"".join(one if " " <= one <= "~" else " " for one in text)}"'
