"""One gRPC call on a connection, and who is at its other end.

gRPC's framing (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md): a message is a byte of flags, four of length, and the
bytes. Must not: know what messages mean, or how a connection carries them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc

from fairlead.xds.frames import CHUNK, FIRST_WINDOW


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


class Carrier(Protocol):
    """The connection that a call is on."""

    @property
    def peer(self) -> Peer:
        """The client."""
        ...

    @property
    def writable(self) -> bool:
        """Whether the client reads what is sent."""
        ...

    def small(self, call: Call, size: int, parts: Sequence[bytes]) -> bool:
        """Hand on a message of so many bytes in one frame; False if it does not fit into one, or there is no room."""
        ...

    def drain(self, call: Call) -> None:
        """Hand on what the client's windows allow."""
        ...

    def admit(self, call: Call) -> None:
        """The call is held no longer."""
        ...

    def flush(self) -> None:
        """Hand everything to the network."""
        ...

    def end(self, stream: int, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str]]) -> None:
        """End a stream with a status."""
        ...


PREFIX = 5
"""Bytes before each message."""


def framed(parts: Sequence[bytes]) -> bytes:
    """A message, given in parts, as it goes into frames: for `Call.send_framed`, to many clients."""
    return b"".join((b"\0", sum(map(len, parts)).to_bytes(4, "big"), *parts))


class Call:
    """One call of a client. Messages go out in order; `finish` ends it."""

    __slots__ = (
        "_begun",
        "_connection",
        "_got",
        "_out",
        "_status",
        "blocked",
        "eaten",
        "handler",
        "held",
        "metadata",
        "method",
        "stream",
        "window",
    )

    def __init__(self, connection: Carrier, stream: int, method: str, metadata: Sequence[tuple[str, str]]) -> None:
        self._connection: Carrier | None = connection
        self.stream = stream
        self.method = method
        self.metadata = metadata
        self.handler: Handler | None = None
        self.blocked = False
        """Whether its handler waits to be told that it may send."""
        self.eaten = 0
        """Bytes that were read, and that the client has not been allowed to send again; the connection counts them."""
        self.window = FIRST_WINDOW
        """How many bytes the client may send before they are read."""
        self._got: bytearray | None = None
        """The begin of a message whose end has not come."""
        self.held = False
        """Whether what comes is kept for later."""
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
        message = (b"\0" + length.to_bytes(4, "big"), *parts)
        if not self._out and self._connection.small(self, length + 5, message):
            return
        if not self._out:
            self._out = deque()
        if length < CHUNK:
            self._out.append(b"".join(message))
        else:
            self._out.extend(part for part in message if part)
        self._connection.drain(self)

    def send_framed(self, message: bytes) -> None:
        """The same with a message that is `framed` already."""
        connection = self._connection
        if connection is None or (not self._out and connection.small(self, len(message), (message,))):
            return
        if not self._out:
            self._out = deque()
        self._out.append(message)
        connection.drain(self)

    def hold(self) -> None:
        """Read no messages until `release`: the client may send as much as its first window, which is small."""
        self.held = True

    def release(self) -> None:
        """Read again, and let the client send much at once."""
        if self._connection is not None and self.held:
            self.held = False
            self._connection.admit(self)

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

    def kept(self, data: bytes, most: int) -> bool:
        """Keep bytes of the stream for later, while the call is held; False if they are more than `most` in all."""
        self._got = bytearray(data) if self._got is None else self._got + data
        return len(self._got) <= most

    def received(self, data: bytes, most: int) -> bool:
        """Take bytes of the stream; False if a message is larger than `most`."""
        handler = self.handler
        if self._got is None and handler is not None and data[:1] == b"\0":
            # Mostly one frame is one message.
            length = len(data) - 5
            if 0 <= length <= most and int.from_bytes(data[1:5], "big") == length:
                handler.message(data[5:])
                return True
        buffer: bytes | bytearray = data
        if self._got is not None:
            self._got += data
            buffer = self._got
        start, end = 0, len(buffer)
        while end - start >= 5:
            length = int.from_bytes(buffer[start + 1 : start + 5], "big")
            if buffer[start] or length > most:
                return False
            if end - start - 5 < length:
                break
            body = bytes(buffer[start + 5 : start + 5 + length])
            start += 5 + length
            if self.handler is not None and self._connection is not None:
                self.handler.message(body)
        if start == end:
            self._got = None
        elif start or buffer is data:
            self._got = bytearray(buffer[start:])
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
        # A queue that was needed once is as large as all else that a call keeps.
        self._out = None
        if self._status is not None and self._connection is not None:
            self.finish(*self._status)

    def pending(self) -> bool:
        """Whether bytes wait to go out."""
        return bool(self._out)

    def over(self) -> None:
        """The stream or its connection is gone."""
        self._connection, self._out, self._got = None, None, None
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.lost()
