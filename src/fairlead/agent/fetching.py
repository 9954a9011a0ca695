"""Getting Wasm modules from files, over HTTP and from OCI registries (distribution-spec v2, Docker's token challenge).

Whatever a server sends is bounded: redirects, documents, the module itself, and the time of the whole. Credentials go
to the registry that they are for, over TLS unless that registry is named as insecure, and to the token server that it
names; never behind a redirect.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp

from fairlead.agent.modules import Module
from fairlead.agent.ociimage import (
    ACCEPTED,
    MAX_MODULE_BYTES,
    Layer,
    ModuleError,
    Reference,
    credentials_for,
    layer_of,
    module_in,
    platform_manifest,
)

MAX_REDIRECTS = 10
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
FETCH_SECONDS = 300.0
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
_CHUNK = 64 * 1024
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_REDIRECTS = (301, 302, 303, 307, 308)


class _Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Fetcher:
    """Fetches modules. `insecure` names registries (`host` or `host:port`) without TLS, or with untrusted TLS."""

    def __init__(self, insecure: frozenset[str] = frozenset()) -> None:
        self._insecure = insecure

    async def fetch(self, module: Module) -> bytes:
        """The module, its checksum verified. Raises ModuleError, with a text fit for the object's status."""
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        try:
            if module.url.startswith("file://"):
                return await asyncio.to_thread(_from_file, module)
            async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
                if not module.url.startswith("oci://"):
                    return await self._plain(session, module)
                return await self._image(session, module)
        except TimeoutError:
            raise ModuleError("the server takes too long") from None
        except aiohttp.ClientConnectorCertificateError:
            raise ModuleError("the server's certificate is not trusted") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ModuleError(f"{str(error) or type(error).__name__}"[:300]) from None

    async def _plain(self, session: aiohttp.ClientSession, module: Module) -> bytes:
        answer = await _get(session, module.url, {}, MAX_MODULE_BYTES)
        if answer.status != 200:
            raise ModuleError(f"the server answered {answer.status}")
        _check(module, answer.body, "what the server sent")
        return await asyncio.to_thread(module_in, answer.body)

    async def _image(self, session: aiohttp.ClientSession, module: Module) -> bytes:
        reference = Reference.parse(module.url)
        failure: ModuleError | aiohttp.ClientError | None = None
        for base, check in self._ways(reference.host):
            try:
                return await _Registry(session, base, reference, module, check).module()
            except aiohttp.ClientConnectorError as error:
                failure = error
        raise failure or ModuleError("no way to the registry")

    def _ways(self, host: str) -> tuple[tuple[str, bool], ...]:
        if host in self._insecure:
            return ((f"https://{host}", False), (f"http://{host}", False))
        return ((f"https://{host}", True),)


class _Registry:
    """One image of one registry."""

    def __init__(
        self, session: aiohttp.ClientSession, base: str, reference: Reference, module: Module, check: bool
    ) -> None:
        self._session = session
        self._base = f"{base}/v2/{reference.repository}"
        self._reference = reference
        self._module = module
        self._tls = check
        self._login = credentials_for(module.secret, reference)
        self._authorization = ""

    async def module(self) -> bytes:
        manifest = await self._manifest(self._reference.digest or self._reference.tag, self._wanted())
        layer = layer_of(manifest)
        blob = await self._ask(f"/blobs/{layer.digest}", {}, layer.limit)
        _verify(blob.body, layer.digest)
        return await asyncio.to_thread(_unpack, layer, blob.body)

    def _wanted(self) -> str:
        """The digest that the manifest must have, "" for any: the URL's, and else the object's checksum."""
        given = f"sha256:{self._module.sha256}" if self._module.sha256 else ""
        named = self._reference.digest
        if given and named and given != named:
            raise ModuleError(f"the URL's digest is {named}, the sha256 field says {given}")
        return named or given

    async def _manifest(self, at: str, digest: str) -> dict[str, Any]:
        answer = await self._ask(f"/manifests/{at}", {"Accept": ", ".join(ACCEPTED)}, MAX_DOCUMENT_BYTES)
        if digest:
            _verify(answer.body, digest)
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ModuleError("the registry's manifest is not a JSON object")
        manifest = cast("dict[str, Any]", found)
        inner = platform_manifest(manifest)
        return await self._manifest(inner, inner) if inner else manifest

    async def _ask(self, path: str, headers: Mapping[str, str], limit: int) -> _Answer:
        for last in (False, True):
            auth = {"Authorization": self._authorization} if self._authorization else {}
            answer = await _get(self._session, self._base + path, {**headers, **auth}, limit, self._tls)
            if answer.status != 401 or last:
                break
            self._authorization = await self._authorize(answer.headers.get("WWW-Authenticate", ""))
        if answer.status in (401, 403):
            missing = "" if self._login else ", and imagePullSecret has no credentials for it"
            raise ModuleError(f"the registry does not let us in ({answer.status}){missing}")
        if answer.status != 200:
            raise ModuleError(f"the registry answered {answer.status} for {path}")
        return answer

    async def _authorize(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        basic = _basic(*self._login) if self._login else ""
        if scheme.lower() == "basic":
            return basic
        if scheme.lower() != "bearer":
            raise ModuleError(f"the registry asks for {scheme or 'nothing'} that we know, not Basic or Bearer")
        said: dict[str, str] = dict(_CHALLENGE.findall(rest))
        realm = said.pop("realm", "")
        where = urlsplit(realm)
        secure = where.scheme == "https" or (where.scheme == "http" and self._base.startswith("http:"))
        if not where.hostname or not secure:
            raise ModuleError("the registry names no token server that can be asked safely")
        asked = {name: said[name] for name in ("service", "scope") if name in said}
        asked.setdefault("scope", f"repository:{self._reference.repository}:pull")
        url = f"{realm}{'&' if where.query else '?'}{urlencode(asked)}"
        answer = await _get(
            self._session, url, {"Authorization": basic} if basic else {}, MAX_DOCUMENT_BYTES, self._tls
        )
        if answer.status != 200:
            raise ModuleError(f"the registry's token server answered {answer.status}")
        return f"Bearer {_token(answer.body)}"


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _token(body: bytes) -> str:
    document: object = json.loads(body)
    if isinstance(document, dict):
        for name in ("token", "access_token"):
            found = cast("dict[str, object]", document).get(name)
            if isinstance(found, str) and found:
                return found
    raise ModuleError("the registry's token server gave no token")


async def _get(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    limit: int,
    tls: ssl.SSLContext | bool = True,
) -> _Answer:
    """GET with bounded redirects. Headers with credentials are not sent to another origin."""
    sent = dict(headers)
    for _ in range(MAX_REDIRECTS + 1):
        async with session.get(url, headers=sent, allow_redirects=False, ssl=tls) as response:
            if response.status not in _REDIRECTS:
                return _Answer(response.status, response.headers, await _body(response, limit))
            target = urljoin(url, response.headers.get("Location", ""))
        before, after = urlsplit(url), urlsplit(target)
        if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme != "https"):
            raise ModuleError(f"the server redirects from {before.scheme} to {after.scheme}")
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            sent.pop("Authorization", None)
        url = target
    raise ModuleError(f"more than {MAX_REDIRECTS} redirects")


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    if response.status != 200:
        return b""
    too_large = ModuleError(f"the server sends more than {limit} bytes")
    if (response.content_length or 0) > limit:
        raise too_large
    out = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        out += chunk
        if len(out) > limit:
            raise too_large
    return bytes(out)


def _from_file(module: Module) -> bytes:
    """A module that lies on this host. Raises ModuleError, OSError."""
    path = Path(urlsplit(module.url).path)
    if not path.is_file():
        raise ModuleError(f"there is no file {path} on the proxy's host")
    with path.open("rb") as file:
        body = file.read(MAX_MODULE_BYTES + 1)
    if len(body) > MAX_MODULE_BYTES:
        raise ModuleError(f"the file has more than {MAX_MODULE_BYTES} bytes")
    _check(module, body, "the file")
    return module_in(body)


def _check(module: Module, body: bytes, what: str) -> None:
    found = hashlib.sha256(body).hexdigest()
    if module.sha256 and found != module.sha256:
        raise ModuleError(f"the sha256 of {what} is {found}, not {module.sha256}")


def _verify(body: bytes, digest: str) -> None:
    kind, _, wanted = digest.partition(":")
    if kind not in ("sha256", "sha512"):
        raise ModuleError(f"a digest of kind {kind!r} is not known")
    found = hashlib.new(kind, body).hexdigest()
    if found != wanted:
        raise ModuleError(f"the {kind} of what the registry sent is {found}, not {wanted}")


def _unpack(layer: Layer, body: bytes) -> bytes:
    return layer.unpack(body)
