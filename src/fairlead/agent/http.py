"""As much HTTP/1.1 as an agent needs: one request per connection, sizes and times bounded. httptools parses."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
import msgspec

MAX_REQUEST_BYTES = 64 * 1024
MAX_RESPONSE_BYTES = 512 * 1024 * 1024
MAX_CONNECTIONS = 64
READ_TIMEOUT = 10.0
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}

log = logging.getLogger("http")


class HTTPFailure(Exception):
    """The other side did not answer with HTTP, or not in time."""


class Request(msgspec.Struct, frozen=True):
    """A parsed request; `target` is the path with its query."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class Response(msgspec.Struct, frozen=True):
    """A whole response."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    encoding: str = ""

    @staticmethod
    def text(status: int, text: str) -> Response:
        """A plain text response, with a line end."""
        return Response(status, f"{text}\n".encode())


Handler = Callable[[Request], Awaitable[Response]]
Opener = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class _Collected:
    """What the parser's callbacks gather."""

    def __init__(self, limit: int) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.done = False
        self._limit = limit

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body
        if len(self.body) > self._limit:
            raise HTTPFailure(f"body larger than {self._limit} bytes")

    def on_message_complete(self) -> None:
        self.done = True


class Server:
    """Serves `handler` on connections given to `connected` (for asyncio.start_server and start_unix_server)."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._open += 1
        try:
            async with asyncio.timeout(60):
                response = await self._respond(reader)
                writer.write(_head(response))
                writer.write(response.body)
                await writer.drain()
        except (OSError, TimeoutError):
            log.debug("a client went away")
        finally:
            self._open -= 1
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader) -> Response:
        if self._open > MAX_CONNECTIONS:
            return Response.text(503, "too many connections")
        try:
            request = await _read_request(reader)
        except TimeoutError:
            return Response.text(408, "no request in time")
        except (HTTPFailure, httptools.HttpParserError):
            return Response.text(400, "not an HTTP request, or too large")
        try:
            return await self._handler(request)
        except Exception:
            log.exception("request %s %s failed", request.method, request.path)
            return Response.text(500, "internal error; the agent's log has the details")


async def _read_request(reader: asyncio.StreamReader) -> Request:
    collected = _Collected(MAX_REQUEST_BYTES)
    parser: Any = httptools.HttpRequestParser(collected)
    size = 0
    async with asyncio.timeout(READ_TIMEOUT):
        while not collected.done:
            data = await reader.read(16384)
            size += len(data)
            if not data or size > MAX_REQUEST_BYTES:
                raise HTTPFailure("no complete request")
            parser.feed_data(data)
    return Request(parser.get_method().decode(), collected.target.decode("latin-1"), collected.headers)


def _head(response: Response) -> bytes:
    lines = (
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Status')}",
        f"content-type: {response.content_type}",
        f"content-length: {len(response.body)}",
        *((f"content-encoding: {response.encoding}", "vary: accept-encoding") if response.encoding else ()),
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


async def fetch(
    opener: Opener,
    target: str,
    *,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (("host", "localhost"),),
    seconds: float = 5.0,
    limit: int = MAX_RESPONSE_BYTES,
) -> Response:
    """One request on a new connection. Raises HTTPFailure with the reason."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await opener()
            try:
                return await _exchange(reader, writer, f"{method} {target}", headers, limit)
            finally:
                writer.close()
    except TimeoutError:
        raise HTTPFailure(f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise HTTPFailure(os.strerror(error.errno) if error.errno else str(error)) from None
    except httptools.HttpParserError as error:
        raise HTTPFailure(f"not an HTTP answer: {error}") from None


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    line: str,
    headers: tuple[tuple[str, str], ...],
    limit: int,
) -> Response:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
    length = "content-length: 0\r\n" if line.startswith("POST") else ""
    writer.write(f"{line} HTTP/1.1\r\n{fields}{length}connection: close\r\n\r\n".encode())
    await writer.drain()
    collected = _Collected(limit)
    parser: Any = httptools.HttpResponseParser(collected)
    ended = False
    while not collected.done and not ended:
        data = await reader.read(262144)
        ended = not data
        if data:
            parser.feed_data(data)
    if not collected.done and ("content-length" in collected.headers or not parser.get_status_code()):
        raise HTTPFailure("connection closed before the answer was complete")
    kind = collected.headers.get("content-type", "text/plain")
    return Response(parser.get_status_code(), bytes(collected.body), kind)


def unix(path: str) -> Opener:
    """Opens connections to a Unix socket."""
    return lambda: asyncio.open_unix_connection(path)
