"""One simulated proxy's connection: gRPC over HTTP/2 and mutual TLS, cheap enough that thousands fit beside what is
measured."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings

WINDOW = 4 << 20
_CONFIGURATION = H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)


class Ended(Exception):
    """The stream is over: gRPC's status and message."""


class Reader(Protocol):
    """Takes what the server sends."""

    def received(self, body: bytes) -> None:
        """One message."""
        ...


class Link(asyncio.Protocol):
    """A connection with one stream on it."""

    def __init__(self, method: str, authority: str, reader: Reader) -> None:
        self._method = method
        self._authority = authority
        self._reader = reader
        self._http = H2Connection(_CONFIGURATION)
        self._transport: asyncio.Transport | None = None
        self._got = bytearray()
        self._out: deque[bytes] = deque()
        self._status = "the connection was lost"
        self._stream = 0
        self._ended = False
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
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
            ],
        )
        self._flush()

    def send(self, body: bytes) -> None:
        """Send one message."""
        if self.over.done() or self._ended:
            return
        self._out.append(b"\0" + len(body).to_bytes(4, "big") + body)
        self._drain()
        self._flush()

    def _drain(self) -> None:
        http, stream = self._http, self._stream
        while self._out:
            room = min(http.local_flow_control_window(stream), http.max_outbound_frame_size)
            if room <= 0:
                return
            part = self._out.popleft()
            if len(part) > room:
                self._out.appendleft(part[room:])
                part = part[:room]
            http.send_data(stream, part)

    def data_received(self, data: bytes) -> None:
        for event in self._http.receive_data(data):
            if isinstance(event, DataReceived):
                size = event.flow_controlled_length or 0
                if size and event.stream_ended is None:
                    self._http.acknowledge_received_data(size, self._stream)
                self._got += event.data or b""
            elif isinstance(event, TrailersReceived | ResponseReceived):
                found = dict(event.headers or ())
                if "grpc-status" in found:
                    self._status = f"{found['grpc-status']}: {found.get('grpc-message', '')}"
            elif isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                self._ended = True
                self._out.clear()
                self.close()
        self._messages()
        self._drain()
        self._flush()

    def _messages(self) -> None:
        got, start = self._got, 0
        while len(got) - start >= 5:
            length = int.from_bytes(got[start + 1 : start + 5], "big")
            if len(got) - start - 5 < length:
                break
            body = bytes(got[start + 5 : start + 5 + length])
            start += 5 + length
            self._reader.received(body)
        if start:
            del got[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.over.done():
            self.over.set_result(self._status)

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        data = self._http.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)


def context(roots: str, key_and_chain: str) -> ssl.SSLContext:
    """TLS as one identity; of the paths of two PEM files."""
    made = ssl.create_default_context(cafile=roots)
    made.load_cert_chain(key_and_chain)
    made.set_alpn_protocols(["h2"])
    return made
