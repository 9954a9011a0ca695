"""Makes the calls: bytes on sockets, since no library would send what is to be tried."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

_PATIENCE = 5.0
_BYTES = b"\x01\x02 not any protocol that is known\n"


class Plan(msgspec.Struct, frozen=True):
    """How a call goes on the wire. `told` is what is said first, for the PROXY protocol; `source` binds the client."""

    number: str
    address: str
    port: int
    told: bytes = b""
    source: str = ""
    protocol: str = "http"
    method: str = "GET"
    path: str = "/"
    authority: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    sni: str | None = None
    """The server name of TLS; None: no TLS."""


class Answer(msgspec.Struct, frozen=True):
    """What came back. `port` is from where the client called; `instance` who answered."""

    port: int
    status: int = 0
    headers: Mapping[str, str] = {}
    instance: str = ""
    error: str = ""


async def call(plan: Plan, tls: ssl.SSLContext) -> Answer:
    """Make one call, and wait for its end."""
    loop = asyncio.get_running_loop()
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if plan.source:
            made.bind((plan.source, 0))
        await asyncio.wait_for(loop.sock_connect(made, (plan.address, plan.port)), _PATIENCE)
    except OSError as error:
        made.close()
        return Answer(0, error=f"connect: {error.strerror or error}")
    port = int(made.getsockname()[1])
    try:
        return await asyncio.wait_for(_talk(made, plan, tls, port), _PATIENCE)
    except TimeoutError:
        return Answer(port, error="timeout")
    except (OSError, ssl.SSLError) as error:
        return Answer(port, error=f"{type(error).__name__}: {error}")
    finally:
        made.close()


async def _talk(made: socket.socket, plan: Plan, tls: ssl.SSLContext, port: int) -> Answer:
    if plan.told:
        await asyncio.get_running_loop().sock_sendall(made, plan.told)
    name = plan.sni if plan.sni is not None else None
    reader, writer = await asyncio.open_connection(
        sock=made, ssl=tls if name is not None else None, server_hostname=name, limit=1 << 18
    )
    try:
        if plan.protocol == "http":
            writer.write(_http1(plan))
            return _read_http1(await _head(reader), port)
        if plan.protocol == "tcp":
            writer.write(_BYTES)
            with suppress(ConnectionError):
                text = await reader.read(65536)
                return Answer(port, instance="echo" if text == _BYTES else "")
            return Answer(port)
        return await _http2(reader, writer, plan, port)
    finally:
        # Nothing more is to be said; TLS would wait for the other side to agree.
        writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The head of a response. Envoy would close only a second after it has answered by itself."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        return await reader.readuntil(b"\r\n\r\n")
    return b""


def _http1(plan: Plan) -> bytes:
    lines = [f"{plan.method} {plan.path} HTTP/1.1", f"host: {plan.authority}", f"x-pair: {plan.number}"]
    lines += [f"{name}: {value}" for name, value in plan.headers]
    return ("\r\n".join([*lines, "connection: close"]) + "\r\n\r\n").encode("latin-1")


def _read_http1(text: bytes, port: int) -> Answer:
    head, _, _ = text.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) < 2 or not parts[1].isdigit():
        return Answer(port, error="no answer")
    found = dict(one.split(": ", 1) for one in rest if ": " in one)
    return Answer(port, int(parts[1]), found, found.get("x-instance", ""))


async def _http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: Plan, port: int) -> Answer:
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    scheme = "http" if plan.sni is None else "https"
    head = [(":method", plan.method), (":path", plan.path), (":authority", plan.authority), (":scheme", scheme)]
    connection.send_headers(1, [*head, ("x-pair", plan.number), *plan.headers], end_stream=True)
    writer.write(connection.data_to_send())
    found: dict[str, str] = {}
    while more := await reader.read(65536):
        try:
            events = connection.receive_data(more)
        except ProtocolError:
            return Answer(port, error="protocol")
        for one in events:
            if isinstance(one, ResponseReceived):
                found.update({str(name): str(value) for name, value in one.headers})
            elif isinstance(one, DataReceived):
                connection.acknowledge_received_data(one.flow_controlled_length, 1)
            elif isinstance(one, (StreamEnded, StreamReset)):
                return Answer(port, int(found.get(":status", "0")), found, found.get("x-instance", ""))
        writer.write(connection.data_to_send())
    return Answer(port, error="no answer")
