"""A small client of the Kubernetes-style API: what a node needs of it, nothing more."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple, cast

import aiohttp
import msgspec

from fairlead.model.manifest import Json
from fairlead.model.ref import NamespacedName
from fairlead.node.kubeconfig import Access, KubeconfigError

MANAGER = "fairlead-node"
"""The field manager of everything that a node applies."""
MAX_BODY = 256 << 20
MAX_EVENT = 16 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_WATCH_SECONDS = 300
_MAX_PAUSE = 15.0


class ApiError(Exception):
    """The API refused or could not be reached. `status` is the HTTP status, 0 if there was no answer."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Resource(NamedTuple):
    """A kind as the API's paths name it."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """The path of an object, or of the list if `name` is empty (of all namespaces if `namespace` is)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, f"namespaces/{namespace}" if namespace else "", self.plural, name, sub]
        return "/".join(part for part in parts if part)


PROCESSES = Resource("fairlead.dev", "v1alpha1", "processes")
WORKLOAD_ENTRIES = Resource("networking.istio.io", "v1", "workloadentries")
WORKLOAD_GROUPS = Resource("networking.istio.io", "v1", "workloadgroups")
SERVICES = Resource("", "v1", "services")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")
NAMESPACES = Resource("", "v1", "namespaces")


class Event(NamedTuple):
    """A watch event."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: Json


class Client:
    """The client. Use as an async context manager, or `close` it; one event loop.

    `again` reads the kubeconfig anew: it is asked when the server's certificate is not accepted any more,
    because the mesh's root was rotated. `said` are headers that go into the history (`model.caller`).
    """

    def __init__(
        self, access: Access, again: Callable[[], Access] | None = None, said: Mapping[str, str] | None = None
    ) -> None:
        self.access = access
        self._said = dict(said or {})
        self._again = again
        self._session: aiohttp.ClientSession | None = None
        self._outdated: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        """GET. Raises ApiError."""
        return await self._call("GET", path, params=params)

    async def apply(self, path: str, document: Json) -> Json:
        """Server-side apply, forced: the node owns what it registers. Raises ApiError."""
        params = {"fieldManager": MANAGER, "force": "true"}
        return await self._call("PATCH", path, document, "application/apply-patch+yaml", params)

    async def merge(self, path: str, patch: Json) -> Json:
        """JSON merge patch. Raises ApiError (409 if `metadata.resourceVersion` is given and not current)."""
        return await self._call("PATCH", path, patch, "application/merge-patch+json", {"fieldManager": MANAGER})

    async def delete(self, path: str) -> bool:
        """DELETE; False if there was nothing. Raises ApiError."""
        try:
            await self._call("DELETE", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def token(self, namespace: str, account: str, seconds: int = 3600) -> str:
        """A join token of a service account (TokenRequest, audience istio-ca). Raises ApiError."""
        body: Json = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": ["istio-ca"], "expirationSeconds": seconds},
        }
        answer = await self._call("POST", SERVICE_ACCOUNTS.path(namespace, account, "token"), body)
        token = part(answer, "status").get("token")
        if not isinstance(token, str) or not token:
            raise ApiError(0, f"no token in the answer for service account {namespace}/{account}")
        return token

    async def watch(
        self, path: str, version: str, params: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Events after a resource version, until the server ends the stream. Raises ApiError (410: list again)."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
            **(params or {}),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_WATCH_SECONDS + 30)
        try:
            async with self._opened().get(self.access.server + path, params=query, timeout=timeout) as answer:
                if answer.status >= 400:
                    raise _refusal(answer.status, await answer.read(), f"watch {path}")
                async for line in _lines(answer.content):
                    yield _event(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._renew(error)
            raise ApiError(0, f"{self.access.server}: {_reason(error)}") from None

    def _renew(self, error: BaseException) -> None:
        """Read the kubeconfig anew where the server's certificate is not trusted: the next call goes out with it."""
        if self._again is None or not isinstance(error, aiohttp.ClientConnectorCertificateError):
            return
        try:
            fresh = self._again()
        except KubeconfigError:
            return
        if fresh == self.access:
            return
        self.access = fresh
        session, self._session = self._session, None
        if session is not None:
            closing = asyncio.get_running_loop().create_task(session.close())
            self._outdated.add(closing)
            closing.add_done_callback(self._outdated.discard)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self.access.tls(), limit=64)
            headers = {"user-agent": MANAGER, "accept": "application/json", **self._said}
            if self.access.token:
                headers["authorization"] = f"Bearer {self.access.token}"
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT)
        return self._session

    async def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Json:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"content-type": content_type} if data is not None else None
        url = self.access.server + path
        try:
            async with self._opened().request(method, url, data=data, headers=headers, params=params) as answer:
                text = await _bounded(answer.content, MAX_BODY)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._renew(error)
            raise ApiError(0, f"{self.access.server}: {_reason(error)}") from None
        if answer.status >= 400:
            raise _refusal(answer.status, text, f"{method} {path}")
        return _document(text)


def part(document: Mapping[str, Any], name: str) -> Json:
    """An object inside a document, empty if it is absent."""
    found = document.get(name)
    return cast("Json", found) if isinstance(found, dict) else {}


async def reflect(
    client: Client,
    path: str,
    changed: Callable[[dict[NamespacedName, Json]], None],
    failed: Callable[[ApiError], None],
    params: Mapping[str, str] | None = None,
) -> None:
    """Keep `changed` told of all objects of a list, for ever: list, watch, and list again where the watch cannot go on.

    `changed` is called with the same, updated dictionary after the list and after each event; `failed` before a pause.
    """
    pause = 0.2
    while True:
        try:
            listed = await client.get(path, params)
            items = {_key(item): item for item in cast("list[Json]", listed.get("items") or [])}
            changed(items)
            pause = 0.2
            version = str(part(listed, "metadata").get("resourceVersion") or "")
            while True:
                version = await _follow(client, path, version, items, changed, params)
        except ApiError as error:
            if error.status == 410:
                continue
            failed(error)
        # Jitter, so that the nodes of a mesh do not come back to a restarted control plane all at once.
        await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311
        pause = min(_MAX_PAUSE, pause * 2)


async def _follow(
    client: Client,
    path: str,
    version: str,
    items: dict[NamespacedName, Json],
    changed: Callable[[dict[NamespacedName, Json]], None],
    params: Mapping[str, str] | None,
) -> str:
    began = asyncio.get_running_loop().time()
    async with contextlib.aclosing(client.watch(path, version, params)) as events:
        async for event in events:
            if event.type == "ERROR":
                status = event.object
                raise ApiError(int(status.get("code") or 500), str(status.get("message") or "watch failed"))
            version = str(part(event.object, "metadata").get("resourceVersion") or version)
            if event.type == "DELETED":
                items.pop(_key(event.object), None)
            elif event.type != "BOOKMARK":
                items[_key(event.object)] = event.object
            if event.type != "BOOKMARK":
                changed(items)
    if asyncio.get_running_loop().time() - began < 1:
        # A server that ends every watch at once would otherwise be asked in a tight loop.
        await asyncio.sleep(1)
    return version


def _key(item: Json) -> NamespacedName:
    meta = part(item, "metadata")
    return NamespacedName(str(meta.get("namespace") or ""), str(meta.get("name") or ""))


def _event(line: bytes) -> Event:
    data = _document(line)
    return Event(cast("Any", str(data.get("type"))), part(data, "object"))


def _document(text: bytes) -> Json:
    try:
        data: object = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError as error:
        raise ApiError(0, f"the API's answer is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ApiError(0, "the API's answer is not an object")
    return cast("Json", data)


def _refusal(status: int, text: bytes, what: str) -> ApiError:
    try:
        data = _document(text[:MAX_EVENT])
    except ApiError:
        data = Json()
    message = str(data.get("message") or f"HTTP {status}")
    return ApiError(status, f"{what}: {message}", str(data.get("reason") or ""))


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def _bounded(stream: aiohttp.StreamReader, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in stream.iter_any():
        size += len(part)
        if size > limit:
            raise ApiError(0, f"the API's answer is larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # StreamReader.readline() refuses lines over 64 KB, and an object may be larger.
    rest = b""
    async for part in stream.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > MAX_EVENT:
            raise ApiError(0, f"a watch event larger than {MAX_EVENT} bytes")
        for line in lines:
            if line.strip():
                yield line
