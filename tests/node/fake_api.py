"""An API server in memory: the few Kubernetes REST calls that a node makes, over real HTTP."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

from aiohttp import web

Json = dict[str, Any]


class FakeAPI:
    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.revision = 0
        self.log: list[tuple[int, str, Json]] = []
        self.compacted = 0
        self.changed = asyncio.Condition()
        self.accounts = {("shop", "default"), ("shop", "reviews")}
        self.tokens: list[str] = []
        self.broken = False
        self.runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def put(self, path: str, document: Json, kind: str = "MODIFIED") -> Json:
        self.revision += 1
        meta = document.setdefault("metadata", {})
        meta["resourceVersion"] = str(self.revision)
        if kind == "DELETED":
            self.objects.pop(path, None)
        else:
            kind = "MODIFIED" if path in self.objects else "ADDED"
            self.objects[path] = document
        async with self.changed:
            self.log.append((self.revision, kind, {"path": path, "object": copy.deepcopy(document)}))
            self.changed.notify_all()
        return document

    async def remove(self, path: str) -> None:
        await self.put(path, self.objects[path], "DELETED")

    def of(self, plural: str) -> dict[str, Json]:
        return {path.rpartition("/")[2]: item for path, item in self.objects.items() if path.split("/")[-2] == plural}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.broken:
            return self.refuse(503, "down")
        path = request.path
        if request.method == "POST" and path.endswith("/token"):
            namespace, account = path.split("/")[-4], path.split("/")[-2]
            if (namespace, account) not in self.accounts:
                return self.refuse(404, f"serviceaccounts {account} not found")
            body = await request.json()
            assert body["spec"]["audiences"] == ["istio-ca"]
            self.tokens.append(f"token-{len(self.tokens)}")
            return web.json_response({"status": {"token": self.tokens[-1]}}, status=201)
        if request.method == "GET" and "watch" in request.query:
            return await self.watch(request)
        if request.method == "GET":
            return web.json_response(
                {"metadata": {"resourceVersion": str(self.revision)}, "items": self.select(path, request.query)}
            )
        if request.method == "DELETE":
            if path not in self.objects:
                return self.refuse(404, "not found")
            await self.remove(path)
            return web.json_response({})
        return await self.patch(request, path.removesuffix("/status"))

    async def patch(self, request: web.Request, path: str) -> web.StreamResponse:
        body = json.loads(await request.read())
        if request.content_type == "application/apply-patch+yaml":
            assert request.query["fieldManager"] == "fairlead-node"
            return web.json_response(await self.put(path, body))
        assert request.content_type == "application/merge-patch+json"
        if path not in self.objects:
            return self.refuse(404, "not found")
        old = copy.deepcopy(self.objects[path])
        version = body.get("metadata", {}).get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            return self.refuse(409, "conflict")
        status = {**old.get("status", {}), **body["status"]}
        old["status"] = {key: value for key, value in status.items() if value is not None}
        return web.json_response(await self.put(path, old))

    def select(self, prefix: str, query: Any) -> list[Json]:
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        return [
            item
            for path, item in self.objects.items()
            if self.listed(prefix, path) and wanted.items() <= item["metadata"].get("labels", {}).items()
        ]

    @staticmethod
    def listed(prefix: str, path: str) -> bool:
        plural = prefix.rpartition("/")[2]
        where = prefix.rpartition("/")[0]
        return path.split("/")[-2] == plural and path.startswith(where)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        at = int(request.query["resourceVersion"])
        if at < self.compacted:
            status = {"code": 410, "message": "too old"}
            await answer.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return answer
        while self.runner is not None and not self.broken:
            for revision, kind, change in [one for one in self.log if one[0] > at]:
                at = revision
                if self.listed(request.path, change["path"]):
                    await answer.write(json.dumps({"type": kind, "object": change["object"]}).encode() + b"\n")
            async with self.changed:
                if not [one for one in self.log if one[0] > at]:
                    await self.changed.wait()
        return answer

    @staticmethod
    def refuse(status: int, message: str) -> web.Response:
        return web.json_response({"kind": "Status", "code": status, "message": message}, status=status)
