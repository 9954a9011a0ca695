"""gRPC over HTTP/2 for very many long streams: one object a connection, and no task for any of them.

The HTTP/2 state machine is the library h2's, but for plain DATA frames of streams that are open (`xds.frames`): they
pass it by, and their flow control is counted here. What passes by is never seen by the library, in neither direction,
so its own counts stay true: a client may send as much as the two together have allowed it, and what is sent is
subtracted from the windows that the library keeps. An idle connection costs what TLS costs and little more, and a
message costs one encryption and one system call.

Must not: know what messages mean. Nothing here is kept for a client that does not read beyond what its handler has
given: a handler asks `Call.ready` before it makes the next message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from sys import intern
from typing import cast
from urllib.parse import quote

import grpc
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

from fairlead.xds.call import Call, Open, Peer
from fairlead.xds.frames import CHUNK, DATA, FIRST_WINDOW, HEAD, PREFACE, STREAM, data_head, unpack_head, window_update
from fairlead.xds.http2 import ServerSide
from fairlead.xds.tls import Secured

WINDOW = 1 << 20
"""Bytes that a client may send on a connection, and on a stream once it is released, before they are read."""
_HALF = WINDOW // 2
DEFAULT_WINDOW = 65_535
"""What a client may send before it has heard of the first window (RFC 9113, section 6.9.2)."""
MAX_CALLS = 16
MAX_HEADER_BYTES = 16_384
_SETTINGS = Settings(
    client=False,
    initial_values={
        SettingCodes.MAX_CONCURRENT_STREAMS: MAX_CALLS,
        SettingCodes.INITIAL_WINDOW_SIZE: FIRST_WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
    },
)
"""Of all connections: they never change, so one description (7 KB) serves all."""
_SETTINGS_FRAME, _ACK = 4, 1
_RESPONSE = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_INT = {code: cast("tuple[int, str]", code.value)[0] for code in grpc.StatusCode}


@lru_cache(64)
def _settings(values: tuple[tuple[int, int], ...]) -> Settings:
    """Settings of clients, which must not be changed."""
    return _own(values)


def _own(values: Iterable[tuple[int, int]]) -> Settings:
    """Settings that may change. A client may have some of which the library knows nothing."""
    return Settings(client=True, initial_values=cast("dict[SettingCodes, int]", dict(values)))


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


class Connection:
    """One client's connection."""

    __slots__ = (
        "_calls",
        "_eaten",
        "_going",
        "_greeted",
        "_heeded",
        "_http",
        "_loop",
        "_most",
        "_open",
        "_out",
        "_reading",
        "_rest",
        "_secured",
        "_seen",
        "_settled",
        "_speaks",
        "heard",
        "peer",
        "pinged",
        "writable",
    )

    def __init__(self, seen: Connections, opened: Open, most: int) -> None:
        self._seen = seen
        self._open = opened
        self._most = most
        self._http = ServerSide()
        self._http.max_inbound_frame_size = CHUNK
        self._calls: dict[int, Call] = {}
        self._secured: Secured | None = None
        self._loop = asyncio.get_running_loop()
        self._going = False
        self._greeted = False
        self._settled = False
        self._reading = False
        self._rest = b""
        """The begin of a frame whose end has not come."""
        self._eaten = 0
        """Bytes that passed the library by, and that the client has not been allowed to send again."""
        self._out: list[bytes] = []
        self._speaks = False
        """Whether the library may have something to send."""
        self._heeded = False
        """Whether the library was given something of what is read now, so that there may be room to send."""
        self.writable = True
        self.heard = self._loop.time()
        """When the client was last heard of, on the loop's clock."""
        self.pinged = False
        self.peer = Peer("", {})

    # Towards TLS.

    def connected(self, secured: Secured) -> None:
        """TLS is done."""
        self._secured = secured
        host, port = secured.address
        self.peer = Peer(f"ipv{6 if ':' in host else 4}:{host}:{port}" if host else "", secured.certificate)
        self._seen[self] = None
        # Set anew and not updated: what is updated counts only from the client's acknowledgement on.
        self._http.local_settings = _SETTINGS
        self._speaks = True
        self._http.initiate_connection()
        self._http.increment_flow_control_window(WINDOW)
        # Not at once: the client's own beginning is mostly there already, and the answer to it goes out with this.
        self._loop.call_soon(self.flush)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.heard = self._loop.time()
        self.pinged = False
        if self._rest:
            data = self._rest + data
        self._reading = True
        self._heeded = False
        try:
            self._rest = self._frames(data)
        except Http2Error:
            self._reading = False
            self.flush()
            self.cut()
            return
        if self._heeded:
            for call in tuple(self._calls.values()):
                if call.pending():
                    self.drain(call)
        self._reading = False
        if self._out or self._speaks:
            self._write()

    def connection_lost(self) -> None:
        """It is over."""
        self._secured = None
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

    # Receiving.

    def _frames(self, data: bytes) -> bytes:
        """Take the frames that are there; what is left is the begin of one. Raises Http2Error."""
        at, end = 0, len(data)
        if not self._greeted:
            if end < PREFACE:
                return data
            self._greeted = True
            self._control(data[:PREFACE])
            at = PREFACE
        while end - at >= HEAD:
            high, low, kind, flags, stream = unpack_head(data, at)
            length = high << 16 | low
            stop = at + HEAD + length
            if length > CHUNK:
                # The library would wait for all of it before it refused it.
                self._speaks = True
                self._http.close_connection(ErrorCodes.FRAME_SIZE_ERROR)
                raise Http2Error(f"a frame of {length} bytes")
            if stop > end:
                break
            call = self._calls.get(stream & STREAM) if kind == DATA and not flags else None
            if call is not None:
                self._pass(call, data[at + HEAD : stop])
            elif kind == _SETTINGS_FRAME and not flags & _ACK:
                self._settle(data[at:stop])
            else:
                self._control(data[at:stop])
            at = stop
        return data[at:]

    def _control(self, data: bytes) -> None:
        """What is the library's business."""
        self._speaks = self._heeded = True
        for event in self._http.receive_data(data):
            # What is done about an event may have sent what the library had to say so far.
            self._speaks = True
            self._take(event)
        self._speaks = True

    def _pass(self, call: Call, data: bytes) -> None:
        """A plain DATA frame of an open stream: no business of the library."""
        size = len(data)
        self._eaten += size
        call.eaten += size
        if self._eaten >= _HALF:
            self._out.append(window_update(0, self._eaten))
            self._eaten = 0
        # Who waits may send its first window and no more: what it is allowed before its turn would only be kept.
        if call.eaten >= call.window // 2 and not call.held:
            self._out.append(window_update(call.stream, call.eaten))
            call.eaten = 0
        if call.held:
            self._read(call, data)
        elif not call.received(data, self._most):
            self._refuse(call)

    def _settle(self, frame: bytes) -> None:
        """Take the client's settings. Clients that are alike have the same, mostly for ever, in one description."""
        http = self._http
        if self._settled:
            http.remote_settings = _own(http.remote_settings.items())
        # Until then they are the connection's own, as the library made them.
        self._settled = True
        self._control(frame)
        http.remote_settings = _settings(tuple(sorted(http.remote_settings.items())))

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
        # One text for all calls of a method, which may last for months.
        method = intern(found.get(":path", ""))
        call = Call(self, stream, method, [one for one in headers if not one[0].startswith(":")])
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
        self._read(self._calls.get(stream), bytes(event.data or b""))
        if size:
            self._speaks = True
            self._http.acknowledge_received_data(size, stream)

    def _read(self, call: Call | None, data: bytes) -> None:
        if call is None:
            return
        if call.held:
            if not call.kept(data, DEFAULT_WINDOW):
                call.finish(grpc.StatusCode.RESOURCE_EXHAUSTED, "more was sent than is read of a client that waits")
        elif not call.received(data, self._most):
            self._refuse(call)

    def _refuse(self, call: Call) -> None:
        call.finish(grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message is compressed, or has over {self._most} bytes")

    def admit(self, call: Call) -> None:
        """A call is held no longer."""
        call.window = WINDOW
        self._speaks = True
        # A connection that is being closed lets nobody send more.
        with contextlib.suppress(Http2Error):
            self._http.increment_flow_control_window(WINDOW, call.stream)
        self._read(call, b"")
        self.flush()

    # Sending.

    def small(self, call: Call, size: int, parts: Sequence[bytes]) -> bool:
        """Hand on a message of so many bytes in one frame; False if it does not fit into one, or there is no room."""
        http = self._http
        stream = http.streams.get(call.stream)
        if (
            not self.writable
            or stream is None
            or size > CHUNK
            or size > http.outbound_flow_control_window
            or size > stream.outbound_flow_control_window
        ):
            return False
        http.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        if self._speaks:
            self._out.append(self._said())
        self._out += (data_head(call.stream, size), *parts)
        return True

    def _room(self, call: Call) -> int:
        """How many bytes the client's windows allow."""
        stream = self._http.streams.get(call.stream)
        if stream is None:
            return 0
        return min(self._http.outbound_flow_control_window, stream.outbound_flow_control_window)

    def _put(self, call: Call, size: int, parts: Sequence[bytes]) -> None:
        """A DATA frame, behind what the library has to send, and out of its windows."""
        http = self._http
        http.outbound_flow_control_window -= size
        http.streams[call.stream].outbound_flow_control_window -= size
        self._out += (self._said(), data_head(call.stream, size), *parts)

    def drain(self, call: Call) -> None:
        """Hand on what the client's windows and the socket allow, little at a time."""
        if not call.pending():
            return
        moved = 0
        while self.writable and call.pending():
            room = min(self._room(call), CHUNK)
            if room <= 0:
                break
            part = call.take(room)
            self._put(call, len(part), (part,))
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
        self._speaks = True
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
        if self._going and not self._calls and self._secured is not None:
            self._secured.close()

    def flush(self) -> None:
        """Hand everything to the network; while what has come is read, that waits until all of it is read."""
        if not self._reading:
            self._write()

    def _said(self) -> bytes:
        """What the library has to send."""
        if not self._speaks:
            return b""
        self._speaks = False
        return self._http.data_to_send()

    def _write(self) -> None:
        out = self._out
        if self._speaks:
            out.append(self._said())
        data = b"".join(out)
        out.clear()
        if data and self._secured is not None:
            self._secured.write(data)

    # For the server.

    @property
    def idle(self) -> bool:
        """Whether there is no call on it."""
        return not self._calls

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.pinged = self._speaks = True
        self._http.ping(b"fairlead")
        self.flush()

    def leave(self) -> None:
        """Tell the client to go elsewhere (GOAWAY); calls may end."""
        if not self._going:
            self._going = self._speaks = True
            try:
                self._http.close_connection()
            except Http2Error:
                self.cut()
                return
            self.flush()
        if self.idle and self._secured is not None:
            self._secured.close()

    def cut(self) -> None:
        """End it now."""
        if self._secured is not None:
            self._secured.abort()


def _writable(call: Call) -> None:
    if call.handler is not None and call.ready:
        call.handler.writable()
