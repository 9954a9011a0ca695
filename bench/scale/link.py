"""One simulated proxy's connection: gRPC over HTTP/2 and mutual TLS, cheap enough that thousands fit beside what is
measured.

As an Envoy does, it sends all that it has to say to what has come at once, and as gRPC's clients do, it says nothing
before it has been told the server's settings. The library h2 has the connection's begin and end, plain DATA frames pass
it by as they do in the control plane.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

from fairlead.agent.backoff import retry_hint
from fairlead.xds.frames import CHUNK, DATA, HEAD, data_head, unpack_head, window_update
from fairlead.xds.tls import Secured

WINDOW = 4 << 20
HANDSHAKE_SECONDS = 120
_CONFIGURATION = H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
_BUFFER = memoryview(bytearray(65_536))


class Reader(Protocol):
    """Takes what the server sends."""

    def received(self, body: bytes) -> None:
        """One message."""
        ...


class Link:
    """A connection with one stream on it."""

    def __init__(self, method: str, authority: str, reader: Reader, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._method = method
        self._metadata = metadata
        self._authority = authority
        self._reader = reader
        self._http = H2Connection(_CONFIGURATION)
        self._secured: Secured | None = None
        self._rest = b""
        self._got = bytearray()
        self._eaten = 0
        self._messages: deque[bytes] = deque()
        self._out: list[bytes] = []
        self._status = "the connection was lost"
        self.hint: float | None = None
        """Seconds after which the server wants to be asked again, if it has said so."""
        self._stream = 0
        self._reading = False
        self._ended = False
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when messages may be sent."""
        self.over: asyncio.Future[str] = loop.create_future()

    async def connect(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Begin. Raises OSError."""
        made = socket.socket()
        try:
            made.setblocking(False)
            await _reached(made, host, port)
        except BaseException:
            made.close()
            raise
        self._secured = Secured(made, self, tls, HANDSHAKE_SECONDS, _BUFFER, self._authority.encode())
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await self.ready

    # Towards TLS.

    def connected(self, secured: Secured) -> None:
        """TLS is done."""
        http = self._http
        http.local_settings = Settings(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        )
        http.initiate_connection()
        http.increment_flow_control_window(WINDOW)
        self._stream = http.get_next_available_stream_id()
        http.send_headers(
            self._stream,
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":path", self._method),
                (":authority", self._authority),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                *self._metadata,
            ],
        )
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        self._reading = True
        while end - at >= HEAD:
            high, low, kind, flags, stream = unpack_head(data, at)
            stop = at + HEAD + (high << 16 | low)
            if stop > end:
                break
            if kind == DATA and not flags and stream == self._stream:
                self._read(data[at + HEAD : stop])
            else:
                self._control(data[at:stop])
            at = stop
        self._rest = data[at:]
        self._reading = False
        self._drain()
        self._flush()

    def _control(self, data: bytes) -> None:
        for event in self._http.receive_data(data):
            if isinstance(event, DataReceived):
                self._read(event.data or b"")
            elif isinstance(event, RemoteSettingsChanged):
                if not self.ready.done():
                    self.ready.set_result(None)
            elif isinstance(event, TrailersReceived | ResponseReceived):
                found = dict(event.headers or ())
                if "grpc-status" in found:
                    self._status = f"{found['grpc-status']}: {found.get('grpc-message', '')}"
                    self.hint = retry_hint(found.items())
            elif isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                self._ended = True
                self._messages.clear()
                self.close()

    def _read(self, data: bytes) -> None:
        self._eaten += len(data)
        if self._eaten >= WINDOW // 2:
            self._out += (window_update(0, self._eaten), window_update(self._stream, self._eaten))
            self._eaten = 0
        if not self._got and int.from_bytes(data[1:5], "big") == len(data) - 5:
            # Mostly one frame is one message.
            self._reader.received(data[5:])
            return
        got: bytes | bytearray = data
        if self._got:
            self._got += data
            got = self._got
        start = 0
        while len(got) - start >= 5:
            length = int.from_bytes(got[start + 1 : start + 5], "big")
            if len(got) - start - 5 < length:
                break
            body = bytes(got[start + 5 : start + 5 + length])
            start += 5 + length
            self._reader.received(body)
        if start or got is data:
            self._got = bytearray(got[start:])

    def pause_writing(self) -> None:
        """The server reads slower than is sent: what is sent is little."""

    def resume_writing(self) -> None:
        """It has caught up."""

    def connection_lost(self) -> None:
        """It is over."""
        self._secured = None
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the handshake failed"))
        if not self.over.done():
            self.over.set_result(self._status)

    # For the proxy.

    def send(self, body: bytes) -> None:
        """Send one message."""
        self.send_framed(framed(body))

    def send_framed(self, message: bytes) -> None:
        """Send one message that is framed already."""
        if self.over.done() or self._ended:
            return
        self._messages.append(message)
        if not self._reading:
            self._drain()
            self._flush()

    def send_all(self, bodies: Iterable[bytes]) -> None:
        """Send several messages at once."""
        if self.over.done() or self._ended:
            return
        self._messages.extend(map(framed, bodies))
        self._drain()
        self._flush()

    def _drain(self) -> None:
        http = self._http
        while self._messages:
            stream = http.streams[self._stream]
            room = min(http.outbound_flow_control_window, stream.outbound_flow_control_window, CHUNK)
            if room <= 0:
                return
            part = self._messages.popleft()
            if len(part) > room:
                self._messages.appendleft(part[room:])
                part = part[:room]
            http.outbound_flow_control_window -= len(part)
            stream.outbound_flow_control_window -= len(part)
            self._out += (http.data_to_send(), data_head(self._stream, len(part)), part)

    def _flush(self) -> None:
        self._out.append(self._http.data_to_send())
        data = b"".join(self._out)
        self._out.clear()
        if data and self._secured is not None:
            self._secured.write(data)

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        self._http.end_stream(self._stream)
        self._flush()

    def close(self) -> None:
        """End it."""
        if self._secured is not None:
            self._secured.close()


async def _reached(made: socket.socket, host: str, port: int) -> None:
    """Connect to an address. Loops look each up as if it were a name. Raises OSError."""
    code = made.connect_ex((host, port))
    if code == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()

        def came() -> None:
            # At once: a loop that has much to do looks at sockets many times before the coroutine has its turn.
            loop.remove_writer(made)
            if not writable.done():
                writable.set_result(None)

        loop.add_writer(made, came)
        try:
            await writable
        finally:
            loop.remove_writer(made)
        code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def framed(body: bytes) -> bytes:
    """A message as gRPC frames it."""
    return b"\0" + len(body).to_bytes(4, "big") + body


def context(roots: str, key_and_chain: str = "") -> ssl.SSLContext:
    """TLS as one identity, or as nobody; of the paths of PEM files."""
    made = ssl.create_default_context(cafile=roots)
    if key_and_chain:
        made.load_cert_chain(key_and_chain)
    made.set_alpn_protocols(["h2"])
    return made
