"""The verbs on resources: list, get, watch, create, update, patch, delete, and the sub-resources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fairlead.apiserver import request as asked
from fairlead.apiserver import reviews
from fairlead.apiserver.admission import Admission
from fairlead.apiserver.auth import User
from fairlead.apiserver.openapi import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from fairlead.apiserver.patch import PatchError, json_patch, merge_patch, strategic_merge
from fairlead.apiserver.refusal import Refusal, bad_request, expired, missing
from fairlead.apiserver.request import Page, Target
from fairlead.apiserver.schema import structural
from fairlead.apiserver.table import table
from fairlead.apiserver.watch import Hub, Watch, begin
from fairlead.apiserver.writes import Admitted, Precondition, Write
from fairlead.ir.kind import Kind
from fairlead.model.caller import COMMAND_HEADER, MESSAGE_HEADER, decoded
from fairlead.model.ref import Ref
from fairlead.store import ALL, Gone, Part

Json = dict[str, Any]

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_COLLECTION = {"get": "list", "delete": "deletecollection"}
_EVENTS = "events"


class Call(msgspec.Struct):
    """One request, understood: who wants what of which resource. Warnings are added on the way."""

    request: Request
    target: Target
    user: User
    verb: str
    kind: Kind[Any] | None
    warnings: list[str] = []

    @property
    def resource(self) -> str:
        """`serviceaccounts/token`, as permissions name it."""
        below = f"/{self.target.subresource}" if self.target.subresource else ""
        return self.target.resource + below

    @property
    def form(self) -> str:
        """`Table`, `PartialObjectMetadataList` ... where the client wants a printed or reduced form, else ""."""
        for media, parameters in asked.accepted(self.request.headers.get("accept", "")):
            if parameters.get("g") == "meta.k8s.io" and parameters.get("v") in ("v1", "v1beta1"):
                return parameters.get("as", "")
            if media in ("application/json", "*/*"):
                break
        return ""


def _json(content: object, code: int = 200) -> Response:
    return Response(msgspec.json.encode(content), code, media_type="application/json")


class Resources:
    """Serves calls. Writes go through admission; reads ask the store."""

    def __init__(
        self,
        admission: Admission,
        hub: Hub,
        token_issuer: reviews.TokenIssuer | None,
        clock: Callable[[], float],
    ) -> None:
        self._admission = admission
        self._store = admission.store
        self._hub = hub
        self._issue = token_issuer
        self._clock = clock
        self._kinds = {(one.group, one.plural): one for one in admission.registry.kinds}

    def call(self, request: Request, target: Target, user: User) -> Call:
        """Understand a request. Raises 404 for what is not served and 405 for a method that means nothing there."""
        kind = self._kinds.get((target.group, target.resource))
        if kind is not None and target.version not in kind.versions:
            kind = None
        if kind is None and (target.group, target.resource) != ("", _EVENTS):
            raise Refusal(404, f"the server could not find the requested resource {target.resource!r}: see /apis")
        verb = _VERBS.get(request.method, "")
        if not target.name:
            verb = _COLLECTION.get(verb, verb)
            if verb == "list" and asked.flag(request, "watch"):
                verb = "watch"
        if (target.name and verb == "create" and not target.subresource) or (
            not target.name and verb in ("update", "patch", "")
        ):
            raise Refusal(405, f"{request.method} is not supported on {request.url.path}")
        if kind is not None:
            self._located(kind, target, verb)
        return Call(request, target, user, verb, kind)

    def _located(self, kind: Kind[Any], target: Target, verb: str) -> None:
        if target.namespace is not None and not kind.namespaced:
            raise Refusal(404, f"{kind.plural} are not namespaced: leave /namespaces/{target.namespace} out")
        if kind.namespaced and target.namespace is None and (target.name or verb == "create"):
            raise Refusal(405, f"{kind.plural} are namespaced: use /namespaces/NAMESPACE/{kind.plural}")
        known = {"": True, "status": kind.has_status, "token": (kind.group, kind.kind) == ("", "ServiceAccount")}
        if not known.get(target.subresource, False):
            raise Refusal(404, f"{kind.plural} have no sub-resource {target.subresource!r}")
        wrong = {"status": ("create", "delete"), "token": ("get", "update", "patch", "delete")}
        if verb in wrong.get(target.subresource, ()):
            raise Refusal(405, f"{verb} is not supported on {kind.plural}/{target.subresource}")

    async def data(self, request: Request) -> Json:
        """The body as an object."""
        found = asked.decoded(await asked.body(request), asked.media_type(request))
        if not isinstance(found, dict):
            raise bad_request("the body is not an object")
        return cast("Json", found)

    async def serve(self, call: Call) -> Response:
        """Do it."""
        kind = call.kind
        if kind is None:
            return self._events(call)
        if call.target.subresource == "token":
            return await self._token(call, kind)
        served = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }.get(call.verb)
        if served is None:
            raise Refusal(405, f"{call.request.method} is not supported here")
        return await served(call, kind)

    def _events(self, call: Call) -> Response:
        # `kubectl describe` asks for events; Fairlead keeps none: what happened stands in status and in the history.
        if call.verb not in ("list", "watch"):
            raise Refusal(405, "events can only be listed, and there are none")
        revision = str(self._store.revision)
        return _json({"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": revision}, "items": []})

    # Reading

    def _ref(self, call: Call, kind: Kind[Any]) -> Ref:
        return kind.ref(call.target.namespace or "", call.target.name)

    async def _get(self, call: Call, kind: Kind[Any]) -> Response:
        found = self._store.get(self._ref(call, kind))
        if found is None:
            raise missing(kind, call.target.name)
        return self._one(call, kind, self._admission.converted(kind, found, call.target.version))

    def _one(self, call: Call, kind: Kind[Any], document: Json, code: int = 200) -> Response:
        return _json(self._printed(call, kind)(document), code)

    def _printed(self, call: Call, kind: Kind[Any]) -> Callable[[Json], Json]:
        """How this client wants to see one document."""
        form, version = call.form, call.target.version
        if form == "Table":
            include = call.request.query_params.get("includeObject", "Metadata")

            def as_table(document: Json) -> Json:
                converted = self._admission.converted(kind, document, version)
                meta = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
                return table(kind, [converted], meta, self._clock(), include)

            return as_table
        if form.startswith("PartialObjectMetadata"):
            return lambda document: {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": document["metadata"],
            }
        return lambda document: self._admission.converted(kind, document, version)

    async def _list(self, call: Call, kind: Kind[Any]) -> Response:
        # In a thread: there may be ten thousand of them, and proxies wait for the loop.
        return await asyncio.to_thread(self._all, call, kind)

    def _all(self, call: Call, kind: Kind[Any]) -> Response:
        query = call.request.query_params
        limit = asked.number(call.request, "limit", 0)
        start = asked.page(query["continue"]) if query.get("continue") else None
        at = start.revision if start else self._exact(call)
        selects = asked.selection(call.request)
        after = (start.namespace, start.name) if start else ALL.after
        home = call.target.namespace
        try:
            # One more than asked for shows whether there are more.
            part = Part(after, limit + 1 if limit and selects is None else ALL.most)
            found, revision = self._store.listing(kind.group, kind.kind, home, at, part)
        except Gone as error:
            raise expired(error) from None
        matching = found if selects is None else filter(selects, found)
        items = list(islice(matching, limit + 1) if limit else matching)
        meta: Json = {"resourceVersion": str(revision)}
        if limit and len(items) > limit:
            items.pop()
            last = items[-1]["metadata"]
            end = (last.get("namespace", ""), last["name"])
            meta["continue"] = Page(revision, *end).token()
            if selects is None:
                # As in Kubernetes there is none where a selector is given.
                meta["remainingItemCount"] = self._store.behind(kind.group, kind.kind, home, revision, end)
        items = [self._admission.converted(kind, one, call.target.version) for one in items]
        return _json(self._listed(call, kind, items, meta))

    def _exact(self, call: Call) -> int | None:
        query = call.request.query_params
        if query.get("resourceVersionMatch") == "Exact":
            return asked.number(call.request, "resourceVersion", 0)
        wanted = asked.number(call.request, "resourceVersion", 0)
        if wanted > self._store.revision:
            raise expired(Gone(wanted, self._store.oldest, self._store.revision))
        return None

    def _listed(self, call: Call, kind: Kind[Any], items: list[Json], meta: Json) -> Json:
        form = call.form
        if form == "Table":
            return table(kind, items, meta, self._clock(), call.request.query_params.get("includeObject", "Metadata"))
        if form.startswith("PartialObjectMetadata"):
            partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
            listed = [{**partial, "metadata": one["metadata"]} for one in items]
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "items": listed,
            }
        version = call.target.version
        group_version = f"{kind.group}/{version}" if kind.group else version
        return {"kind": f"{kind.kind}List", "apiVersion": group_version, "metadata": meta, "items": items}

    async def _watch(self, call: Call, kind: Kind[Any]) -> Response:
        query = call.request.query_params
        since = asked.number(call.request, "resourceVersion", 0)
        show = self._printed(call, kind)
        watch = Watch(
            kind,
            call.target.namespace,
            asked.selection(call.request),
            show,
            show if call.form != "Table" else lambda document: table(kind, [], document["metadata"], self._clock()),
            since or None,
            query.get("sendInitialEvents", "").lower() == "true",
            asked.flag(call.request, "allowWatchBookmarks"),
            asked.number(call.request, "timeoutSeconds", 1800) or 1800,
        )
        return StreamingResponse(begin(self._hub, watch), media_type="application/json")

    # Writing

    def _write(self, call: Call, options: Json | None = None) -> Write:
        asked.check_field_validation(call.request)
        return Write(
            author=call.user.name,
            manager=asked.manager(call.request),
            version=call.target.version,
            subresource=call.target.subresource,
            dry_run=asked.dry_run(call.request, options or {}),
            force=asked.flag(call.request, "force"),
            message=decoded(call.request.headers.get(MESSAGE_HEADER, "")),
            command=decoded(call.request.headers.get(COMMAND_HEADER, "")),
        )

    def _done(self, call: Call, kind: Kind[Any], admitted: Admitted) -> Response:
        call.warnings = [*admitted.warnings]
        return self._one(call, kind, admitted.document, 201 if admitted.created else 200)

    async def _create(self, call: Call, kind: Kind[Any]) -> Response:
        write = self._write(call)
        data = await self.data(call.request)
        return self._done(call, kind, self._admission.create(kind, data, call.target.namespace or "", write))

    async def _update(self, call: Call, kind: Kind[Any]) -> Response:
        write = self._write(call)
        data = await self.data(call.request)
        return self._done(call, kind, self._admission.replace(kind, self._ref(call, kind), data, write))

    async def _patch(self, call: Call, kind: Kind[Any]) -> Response:
        write = self._write(call)
        media = asked.media_type(call.request)
        raw = await asked.body(call.request)
        ref = self._ref(call, kind)
        if media == APPLY_PATCH:
            if not call.request.query_params.get("fieldManager"):
                raise bad_request("apply needs the parameter fieldManager")
            data = asked.decoded(raw, media)
            return self._done(call, kind, self._admission.apply(kind, ref, data, write))
        patches: dict[str, Callable[[Json, Any], Any]] = {
            JSON_PATCH: json_patch,
            MERGE_PATCH: merge_patch,
            STRATEGIC_PATCH: lambda old, patch: strategic_merge(old, patch, structural(kind, kind.versions[0])),
        }
        if media not in patches:
            said = f"unknown patch format {media!r}; accepted are {', '.join([*patches, APPLY_PATCH])}"
            raise Refusal(415, said)
        patch = asked.decoded(raw, media)

        def edit(old: Json) -> Json:
            try:
                return patches[media](old, patch)
            except PatchError as error:
                raise Refusal(422, f"the patch does not fit {kind.kind} {ref.name!r}: {error}") from None

        return self._done(call, kind, self._admission.edit(kind, ref, edit, write))

    async def _options(self, call: Call) -> Json:
        raw = await asked.body(call.request)
        if not raw:
            return {}
        found = asked.decoded(raw, asked.media_type(call.request))
        if not isinstance(found, dict):
            raise bad_request("the body of a DELETE is DeleteOptions")
        return cast("Json", found)

    async def _delete(self, call: Call, kind: Kind[Any]) -> Response:
        options = await self._options(call)
        write = self._write(call, options)
        asks: object = options.get("preconditions") or {}
        given = cast("Json", asks) if isinstance(asks, dict) else {}
        precondition = Precondition(str(given.get("uid") or ""), str(given.get("resourceVersion") or ""))
        document, gone = self._admission.delete(kind, self._ref(call, kind), write, precondition)
        if not gone:
            return self._one(call, kind, self._admission.converted(kind, document, call.target.version))
        details: Json = {"name": call.target.name, "kind": kind.plural, "uid": document["metadata"]["uid"]}
        if kind.group:
            details["group"] = kind.group
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    async def _delete_collection(self, call: Call, kind: Kind[Any]) -> Response:
        options = await self._options(call)
        write = self._write(call, options)
        selects = asked.selection(call.request)
        found = self._store.list(kind.group, kind.kind, call.target.namespace)
        found = [one for one in found if selects is None or selects(one)]
        refs = [kind.ref(one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in found]
        self._admission.delete_collection(kind, refs, write)
        return _json(self._listed(call, kind, found, {"resourceVersion": str(self._store.revision)}))

    async def _token(self, call: Call, kind: Kind[Any]) -> Response:
        if self._store.get(self._ref(call, kind)) is None:
            raise missing(kind, call.target.name)
        data = await self.data(call.request)
        answer = reviews.token(data, call.target.namespace or "", call.target.name, self._issue)
        return _json(answer, 201)
