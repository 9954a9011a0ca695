"""Fetches key sets over HTTP, from where users say: so with care where it goes and how much it takes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

from fairlead.ir.anchors import Bundle, read_bundle
from fairlead.ir.authn import DISCOVERY
from fairlead.ir.jwks import published_keys

if TYPE_CHECKING:
    # Imported when keys are fetched: most control planes never do, and it would be a seventh of what a start imports.
    import aiohttp

MAX_BYTES = 1 << 20
MAX_REDIRECTS = 3
NEVER = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
"""Link-local networks, and where clouds tell machines their secrets."""

Network = IPv4Network | IPv6Network
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]


class FetchError(Exception):
    """Keys could not be fetched; the message says why, and is the same for the same reason."""


class _Blocked(OSError):
    """An address that must not be asked."""


class KeyFetcher:
    """Fetches keys. `blocked` are networks that are never asked, beside `NEVER`; `ca` is a file of further authorities.

    Addresses are judged when a connection is made, after names were resolved and redirects followed, so neither leads
    around the list. Proxies that the environment names are not used.
    """

    def __init__(self, blocked: tuple[str, ...] = (), ca: Path | None = None) -> None:
        self._blocked: tuple[Network, ...] = tuple(ip_network(one, strict=False) for one in (*NEVER, *blocked))
        self._tls = ssl.create_default_context()
        if ca is not None:
            try:
                self._tls.load_verify_locations(ca)
            except OSError:
                raise OSError(f"{ca}: no certificates in PEM can be read from it") from None
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, uri: str, patience: float) -> str:
        """The key set at a URI, or at the place that an issuer's description at it names. Raises FetchError.

        `patience` is in seconds, for all of it.
        """
        try:
            async with asyncio.timeout(patience):
                text = await self._text(uri)
                if uri.endswith(DISCOVERY):
                    text = await self._text(_described(text))
        except TimeoutError:
            raise FetchError(f"no answer within {patience:g} s") from None
        keys, wrong = published_keys(text)
        if wrong:
            raise FetchError(wrong)
        return keys

    async def bundle(self, url: str, patience: float) -> Bundle:
        """The SPIFFE bundle at a URL. Raises FetchError. `patience` is in seconds, for all of it."""
        try:
            async with asyncio.timeout(patience):
                text = await self._text(url)
        except TimeoutError:
            raise FetchError(f"no answer within {patience:g} s") from None
        try:
            return read_bundle(text)
        except ValueError as error:
            raise FetchError(str(error)) from None

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _text(self, uri: str) -> str:
        for _ in range(MAX_REDIRECTS + 1):
            if not _is_http(uri):
                raise FetchError(f"{uri[:200]!r} is not an http or https URL")
            answer = await self._ask(uri)
            if isinstance(answer, str):
                return answer
            try:
                uri = urljoin(uri, answer.to)
            except ValueError:
                raise FetchError(f"it redirects to {answer.to[:200]!r}, which is no URL") from None
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")

    async def _ask(self, uri: str) -> str | _Redirect:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True, socket_factory=self._socket)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with self._session.get(uri, allow_redirects=False, headers={"Accept": "application/json"}) as answer:
                if answer.status in (301, 302, 303, 307, 308):
                    return _Redirect(answer.headers.get("Location", ""))
                if answer.status != 200:
                    raise FetchError(f"HTTP status {answer.status}")
                return await _body(answer)
        except aiohttp.ClientError as error:
            raise FetchError(_reason(error)) from None
        except ValueError:
            raise FetchError(f"{uri[:200]!r} is not a URL that can be asked") from None

    def _socket(self, info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        host = ip_address(str(address[0]).partition("%")[0])
        if isinstance(host, IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        if any(host in one for one in self._blocked):
            raise _Blocked(f"{host} may not be asked for keys")
        return socket.socket(family, kind, protocol)


def _is_http(uri: str) -> bool:
    """Whether it can be asked; what redirects and descriptions name may be anything."""
    try:
        return urlsplit(uri).scheme in ("http", "https")
    except ValueError:
        return False


class _Redirect:
    def __init__(self, to: str) -> None:
        self.to = to


async def _body(answer: aiohttp.ClientResponse) -> str:
    found = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        found += chunk
        if len(found) > MAX_BYTES:
            raise FetchError(f"the answer is longer than {MAX_BYTES} bytes")
    return found.decode("utf-8", "replace")


def _described(text: str) -> str:
    """Where an issuer's description says that its keys are."""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise FetchError("the issuer's description is not JSON") from None
    uri: Any = cast("dict[str, Any]", document).get("jwks_uri") if isinstance(document, dict) else None
    if not isinstance(uri, str):
        raise FetchError("the issuer's description names no jwks_uri")
    return uri


def _reason(error: BaseException) -> str:
    import aiohttp

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _Blocked):
            return str(seen)
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return f"its certificate is not trusted: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    return f"{type(error).__name__}: {error}"
