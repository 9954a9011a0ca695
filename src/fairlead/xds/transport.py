"""gRPC over HTTP/2 for very many long streams: one asyncio protocol a connection, and no task for any of them.

The HTTP/2 state machine is the library h2's; gRPC's framing around it is this (github.com/grpc/grpc,
doc/PROTOCOL-HTTP2.md): a message is a byte of flags, four of length, and the bytes. An idle connection costs what TLS
costs and little more, and a message costs one encryption and one system call.

Must not: know what messages mean. Nothing here is kept for a client that does not read beyond what its handler has
given: a handler asks `Call.ready` before it makes the next message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast
from urllib.parse import quote

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError as Http2Error
from h2.settings import SettingCodes, Settings

FIRST_WINDOW, WINDOW = 1 << 14, 1 << 20
"""Bytes that a client may send on a stream before they are read: until the call is released, and then."""
MAX_CALLS = 16
MAX_HEADER_BYTES = 16_384
CHUNK = 16_384
_CONFIGURATION = H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=True)
_SETTINGS = Settings(
    client=False,
    initial_values={
        SettingCodes.MAX_CONCURRENT_STREAMS: MAX_CALLS,
        SettingCodes.INITIAL_WINDOW_SIZE: FIRST_WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
    },
)
"""Of all connections: they never change, so one description (7 KB) serves all."""
_RESPONSE = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_INT = {code: cast("tuple[int, str]", code.value)[0] for code in grpc.StatusCode}


class Handler(Protocol):
    """What answers one call. Called on the event loop; must not block."""

    def message(self, body: bytes) -> None:
        """The client has sent this."""
        ...

    def finished(self) -> None:
        """The client will send no more."""
        ...

    def writable(self) -> None:
        """What was sent has left, after `Call.ready` was False."""
        ...

    def lost(self) -> None:
        """The call is over, whoever ended it. Nothing is called after this."""
        ...


Open = Callable[["Call"], Handler | None]
"""Makes the handler of a new call; None if there is no such method."""


class Peer:
    """Who is at the other end of a connection, as its certificate says: what gRPC calls the auth context."""

    __slots__ = ("address", "names")

    def __init__(self, address: str, certificate: Mapping[str, Any]) -> None:
        self.address = address
        self.names = tuple(str(value).encode() for _kind, value in certificate.get("subjectAltName") or ())

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """As `grpc.ServicerContext.auth_context`, as far as identities are concerned."""
        return {"transport_security_type": (b"ssl",), "x509_subject_alternative_name": self.names}


class Call:
    """One call of a client. Messages go out in order; `finish` ends it."""

    __slots__ = (
        "_begun",
        "_connection",
        "_got",
        "_held",
        "_out",
        "_status",
        "blocked",
        "handler",
        "metadata",
        "method",
        "stream",
    )

    def __init__(self, connection: Connection, stream: int, method: str, metadata: Sequence[tuple[str, str]]) -> None:
        self._connection: Connection | None = connection
        self.stream = stream
        self.method = method
        self.metadata = metadata
        self.handler: Handler | None = None
        self.blocked = False
        """Whether its handler waits to be told that it may send."""
        self._got = b""
        self._held = -1
        """Bytes that came while the call was held; negative if it is not."""
        self._out: deque[bytes] | None = None
        self._begun = 0
        self._status: tuple[grpc.StatusCode, str, Sequence[tuple[str, str]]] | None = None

    @property
    def peer(self) -> Peer:
        """The client. Raises ConnectionError when the call is over."""
        if self._connection is None:
            raise ConnectionError("the call is over")
        return self._connection.peer

    @property
    def ready(self) -> bool:
        """Whether everything that was sent has been handed on, so that more may be."""
        return self._connection is not None and not self._out and self._connection.writable

    def send(self, *parts: bytes) -> None:
        """Send one message, given in parts; `flush` lets it go. Does nothing when the call is over."""
        if self._connection is None:
            return
        length = sum(map(len, parts))
        head = b"\0" + length.to_bytes(4, "big")
        if length < CHUNK - len(head) and not self._out and self._connection.small(self, b"".join((head, *parts))):
            return
        if not self._out:
            self._out = deque()
        if length < CHUNK:
            self._out.append(b"".join((head, *parts)))
        else:
            self._out.extend((head, *(part for part in parts if part)))
        self._connection.drain(self)

    def hold(self) -> None:
        """Read no messages until `release`: the client may send as much as its first window, which is small."""
        self._held = max(self._held, 0)

    def release(self) -> None:
        """Read again, and let the client send much at once."""
        if self._connection is not None and self._held >= 0:
            held, self._held = self._held, -1
            self._connection.admit(self, held)

    def flush(self) -> None:
        """Hand what was sent to the network: several messages go in one record."""
        if self._connection is not None:
            self._connection.flush()

    def finish(self, code: grpc.StatusCode, details: str = "", metadata: Sequence[tuple[str, str]] = ()) -> None:
        """End the call with a status. What is still to be sent goes out before OK, and is dropped otherwise."""
        if code is grpc.StatusCode.OK and self._out:
            self._status = (code, details, metadata)
            return
        connection, self._connection, self._out = self._connection, None, None
        if connection is not None:
            connection.end(self.stream, code, details, metadata)

    # For the connection.

    def kept(self, data: bytes, size: int) -> bool:
        """Take bytes of the stream for later, if the call is held."""
        if self._held < 0:
            return False
        self._got += data
        self._held += size
        return True

    def received(self, data: bytes, most: int) -> bool:
        """Take bytes of the stream; False if a message is larger than `most`."""
        buffer = self._got + data if self._got else data
        start, end = 0, len(buffer)
        while end - start >= 5:
            length = int.from_bytes(buffer[start + 1 : start + 5], "big")
            if buffer[start] or length > most:
                return False
            if end - start - 5 < length:
                break
            body = buffer[start + 5 : start + 5 + length]
            start += 5 + length
            if self.handler is not None and self._connection is not None:
                self.handler.message(body)
        self._got = buffer[start:]
        return True

    def take(self, most: int) -> bytes:
        """The next bytes to go out, at most so many."""
        out = self._out
        if not out:
            return b""
        part, begin = out[0], self._begun
        if len(part) - begin > most:
            self._begun += most
            return part[begin : begin + most]
        self._begun = 0
        out.popleft()
        return part[begin:] if begin else part

    def sent(self) -> None:
        """Everything has gone out."""
        if self._status is not None and self._connection is not None:
            self._out = None
            self.finish(*self._status)

    def pending(self) -> bool:
        """Whether bytes wait to go out."""
        return bool(self._out)

    def over(self) -> None:
        """The stream or its connection is gone."""
        self._connection, self._out, self._got = None, None, b""
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.lost()


class Connections(dict["Connection", None]):
    """The live connections of a port."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[asyncio.Future[None]] = []

    def left(self, connection: Connection) -> None:
        """One has gone."""
        self.pop(connection, None)
        if not self:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)

    async def emptied(self) -> None:
        """Wait until there is none."""
        if self:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_calls",
        "_going",
        "_http",
        "_loop",
        "_most",
        "_open",
        "_reading",
        "_seen",
        "_transport",
        "heard",
        "peer",
        "pinged",
        "writable",
    )

    def __init__(self, seen: Connections, opened: Open, most: int) -> None:
        self._seen = seen
        self._open = opened
        self._most = most
        self._http = H2Connection(_CONFIGURATION)
        self._http.max_inbound_frame_size = CHUNK
        self._calls: dict[int, Call] = {}
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._going = False
        self._reading = False
        self.writable = True
        self.heard = self._loop.time()
        """When the client was last heard of, on the loop's clock."""
        self.pinged = False
        self.peer = Peer("", {})

    # The protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is done."""
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        address = f"ipv{6 if ':' in str(name[0]) else 4}:{name[0]}:{name[1]}" if name else ""
        self.peer = Peer(address, transport.get_extra_info("peercert") or {})
        self._seen[self] = None
        # Set anew and not updated: what is updated counts only from the client's acknowledgement on.
        self._http.local_settings = _SETTINGS
        self._http.initiate_connection()
        self._http.increment_flow_control_window(WINDOW)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.heard = self._loop.time()
        self.pinged = False
        try:
            events = self._http.receive_data(data)
        except Http2Error:
            self.flush()
            self.cut()
            return
        self._reading = True
        for event in events:
            self._take(event)
        for call in [call for call in self._calls.values() if call.pending()]:
            self.drain(call)
        self._reading = False
        self._write()

    def eof_received(self) -> None:
        """The client has closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._transport = None
        self._seen.left(self)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.over()

    def pause_writing(self) -> None:
        """The client reads slower than is sent."""
        self.writable = False

    def resume_writing(self) -> None:
        """It has caught up."""
        self.writable = True
        for call in list(self._calls.values()):
            self.drain(call)
        self.flush()
        for call in list(self._calls.values()):
            if call.blocked and call.ready:
                call.blocked = False
                _writable(call)

    def _take(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, RequestReceived):
            self._request(event)
        elif isinstance(event, StreamEnded):
            call = self._calls.get(event.stream_id or 0)
            if call is not None and call.handler is not None:
                call.handler.finished()
        elif isinstance(event, StreamReset):
            self._forget(event.stream_id or 0)
        elif isinstance(event, ConnectionTerminated):
            self._going = True

    def _request(self, event: RequestReceived) -> None:
        stream = event.stream_id or 0
        headers = [(bytes(key).decode("latin-1"), bytes(value).decode("latin-1")) for key, value in event.headers or ()]
        found = dict(headers)
        call = Call(self, stream, found.get(":path", ""), [one for one in headers if not one[0].startswith(":")])
        self._http.send_headers(stream, _RESPONSE)
        self._calls[stream] = call
        if found.get(":method") != "POST" or not found.get("content-type", "").startswith("application/grpc"):
            call.finish(grpc.StatusCode.INTERNAL, "this port speaks gRPC only")
            return
        call.handler = self._open(call)
        if call.handler is None:
            call.finish(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {call.method}")

    def _data(self, event: DataReceived) -> None:
        stream, size = event.stream_id or 0, event.flow_controlled_length or 0
        call = self._calls.get(stream)
        if call is not None and call.kept(bytes(event.data or b""), size):
            return
        self._read(call, bytes(event.data or b""))
        if size:
            self._http.acknowledge_received_data(size, stream)

    def _read(self, call: Call | None, data: bytes) -> None:
        if call is not None and not call.received(data, self._most):
            call.finish(grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message is compressed, or has over {self._most} bytes")

    def admit(self, call: Call, held: int) -> None:
        """A call is held no longer."""
        if held:
            self._http.acknowledge_received_data(held, call.stream)
        self._http.increment_flow_control_window(WINDOW, call.stream)
        self._read(call, b"")
        self.flush()

    # Sending.

    def small(self, call: Call, message: bytes) -> bool:
        """Hand on a message that fits into one frame; False if there is no room for it now."""
        if not self.writable or self._http.local_flow_control_window(call.stream) < len(message):
            return False
        self._http.send_data(call.stream, message)
        return True

    def drain(self, call: Call) -> None:
        """Hand on what the client's windows and the transport's buffer allow, little at a time."""
        if not call.pending():
            return
        moved = 0
        while self.writable and call.pending():
            room = min(self._http.local_flow_control_window(call.stream), self._http.max_outbound_frame_size, CHUNK)
            if room <= 0:
                break
            part = call.take(room)
            self._http.send_data(call.stream, part)
            moved += len(part)
            if moved >= 2 * CHUNK:
                self._write()
                moved = 0
        if not call.pending():
            call.sent()
        if call.blocked and call.ready:
            call.blocked = False
            self._loop.call_soon(_writable, call)
        elif not call.ready:
            call.blocked = True

    def end(self, stream: int, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str]]) -> None:
        """End a stream with a status."""
        trailers = [("grpc-status", str(_INT[code])), *metadata]
        if details:
            trailers.append(("grpc-message", quote(details[:2048], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")))
        try:
            self._http.send_headers(stream, trailers, end_stream=True)
            # The client may still be sending: it is told that nobody reads.
            self._http.reset_stream(stream, ErrorCodes.NO_ERROR)
        except Http2Error:
            # Over already.
            pass
        self.flush()
        self._forget(stream)

    def _forget(self, stream: int) -> None:
        call = self._calls.pop(stream, None)
        if call is not None:
            call.over()
        if self._going and not self._calls and self._transport is not None:
            self._transport.close()

    def flush(self) -> None:
        """Hand everything to the network; while what has come is read, that waits until all of it is read."""
        if not self._reading:
            self._write()

    def _write(self) -> None:
        data = self._http.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # For the server.

    @property
    def idle(self) -> bool:
        """Whether there is no call on it."""
        return not self._calls

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.pinged = True
        self._http.ping(b"fairlead")
        self.flush()

    def leave(self) -> None:
        """Tell the client to go elsewhere (GOAWAY); calls may end."""
        if not self._going:
            self._going = True
            try:
                self._http.close_connection()
            except Http2Error:
                self.cut()
                return
            self.flush()
        if self.idle and self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()


def _writable(call: Call) -> None:
    if call.handler is not None and call.ready:
        call.handler.writable()
