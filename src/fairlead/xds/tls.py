"""TLS on a connection's own socket, with a read buffer that all connections of a port share.

The TLS of event loops keeps its own buffers for each connection for as long as it lasts: 256 KB to read into, and two
memory BIOs, each as large as the most that ever went through at once. With thousands of proxies that say little, that
is most of a control plane's memory. Here OpenSSL reads and writes the socket itself, and gives its buffers back when
they are empty; the event loop only tells when there is something to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

RECORD = 16_384
"""The most that is put into one TLS record, and the most that a record may hold (RFC 8446, section 5.1)."""
MUCH = 4_096
"""A record of so many bytes is seldom alone: the next one is looked for before the event loop tells of it."""
TURN = 16
"""So many records are read in one turn, then others have theirs."""


class Inner(Protocol):
    """What is spoken under TLS. Called on the event loop."""

    def connected(self, secured: Secured) -> None:
        """The handshake is done."""
        ...

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        ...

    def pause_writing(self) -> None:
        """The client reads slower than is sent."""
        ...

    def resume_writing(self) -> None:
        """It has caught up."""
        ...

    def connection_lost(self) -> None:
        """It is over. Nothing is called after this."""
        ...


class Secured:
    """One side of TLS on a connected socket, which becomes this object's.

    `inner` hears of the connection when the handshake is done. If that fails or takes longer than `seconds`, a
    server's side hears nothing and a client's that the connection is lost. `name` is whom a client wants to talk to;
    None makes it the server's side. `defers` tells whether what has come may wait for the loop's next turn; it is asked
    in each turn as long as something is there.
    """

    __slots__ = (
        "_backlog",
        "_buffer",
        "_closing",
        "_defers",
        "_descriptor",
        "_inner",
        "_loop",
        "_serves",
        "_size",
        "_socket",
        "_waiting",
    )

    def __init__(
        self,
        connected: socket.socket,
        inner: Inner,
        context: ssl.SSLContext,
        seconds: float,
        buffer: memoryview,
        name: str | bytes | None = None,
        defers: Callable[[], bool] | None = None,
    ) -> None:
        """Begin the handshake. Raises OSError if the other side has gone already; the socket is closed then."""
        try:
            connected.setblocking(False)
            # Messages are whole when they are written: nothing is gained by waiting for more.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(
                connected, server_side=name is None, do_handshake_on_connect=False, server_hostname=name
            )
        except (OSError, ValueError) as error:
            connected.close()
            raise OSError(f"the other side has gone: {error}") from error
        self._loop = asyncio.get_running_loop()
        self._descriptor = self._socket.fileno()
        self._inner = inner
        self._buffer = buffer
        self._size = len(buffer)
        self._serves = name is None
        self._defers = defers
        self._backlog: deque[memoryview] | None = None
        """Records that the socket had no room for. OpenSSL wants the first of them again, as it was."""
        self._closing = False
        self._waiting: asyncio.TimerHandle | None = self._loop.call_later(seconds, self.abort)
        """What ends a handshake that takes too long; None when it is done."""
        self._loop.add_reader(self._descriptor, self._readable)
        if not self._serves:
            # The client speaks first.
            self._loop.call_soon(self._take)

    # Towards the network.

    def _readable(self) -> None:
        """The socket has something; it says so again in the next turn if nothing is taken."""
        if self._defers is None or self._waiting is not None or not self._defers():
            self._take()

    def _take(self) -> None:
        if self._closing:
            return
        try:
            if self._waiting is not None:
                self._shake()
            else:
                self._read()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            # TLS says why with its alert, which has been sent.
            self._discard()
            self.abort()

    def _discard(self) -> None:
        """Take what has come and nobody will read: to close before would reset, and the client might miss the alert."""
        with contextlib.suppress(OSError):
            for _ in range(TURN):
                if not socket.socket.recv_into(self._socket, self._buffer):
                    return

    def _shake(self) -> None:
        self._socket.do_handshake()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._inner.connected(self)
        # What came with the end of the handshake makes no socket readable, and mostly something did.
        if not self._closing:
            self._read()

    def _read(self) -> None:
        for _ in range(TURN):
            # With the number of bytes, which would be found out anew each time.
            count = self._socket.recv_into(self._buffer, self._size)
            if not count:
                self.close()
                return
            self._inner.data_received(bytes(self._buffer[:count]))
            # OpenSSL takes one record at a time from the socket, and the buffer has room for all of it: of what else
            # there is the loop tells.
            if self._closing or count < MUCH:
                return
        if self._socket.pending():
            # What OpenSSL holds makes no socket readable.
            self._loop.call_soon(self._take)

    def _writable(self) -> None:
        backlog = self._backlog
        try:
            while backlog:
                sent = self._socket.send(backlog[0])
                if sent == len(backlog[0]):
                    backlog.popleft()
                else:
                    backlog[0] = backlog[0][sent:]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self.abort()
            return
        self._loop.remove_writer(self._descriptor)
        self._backlog = None
        if self._closing:
            self._farewell()
        else:
            self._inner.resume_writing()

    # For what is spoken under it.

    def write(self, data: bytes) -> None:
        """Encrypt and send, in order. What the socket has no room for waits here, and the writer is told to pause."""
        if self._closing:
            return
        if self._backlog is not None:
            self._backlog += _records(data)
            return
        records: deque[memoryview] | None = None
        try:
            # Most of what is said is one record.
            sent = self._socket.send(data) if len(data) <= RECORD else 0
            if sent == len(data):
                return
            records = _records(data[sent:])
            while records:
                sent = self._socket.send(records[0])
                if sent < len(records[0]):
                    records[0] = records[0][sent:]
                else:
                    records.popleft()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._backlog = _records(data) if records is None else records
            self._loop.add_writer(self._descriptor, self._writable)
            self._inner.pause_writing()
        except OSError:
            self.abort()

    @property
    def address(self) -> tuple[str, int]:
        """The client's address and port; empty if it has gone."""
        try:
            found = self._socket.getpeername()
        except OSError:
            return "", 0
        return str(found[0]), int(found[1])

    @property
    def certificate(self) -> dict[str, Any]:
        """The client's certificate, as `ssl.SSLSocket.getpeercert` gives it."""
        return dict(self._socket.getpeercert() or {})

    def close(self) -> None:
        """End the connection when everything is sent."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._descriptor)
        if self._backlog is None:
            self._farewell()

    def _farewell(self) -> None:
        # What the client answers to it is not waited for.
        with contextlib.suppress(OSError):
            self._socket.unwrap()
        self._over()

    def abort(self) -> None:
        """End the connection now."""
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._descriptor)
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._descriptor)
            self._over()

    def _over(self) -> None:
        self._socket.close()
        if self._waiting is not None:
            self._waiting.cancel()
            if self._serves:
                return
        # Not at once: whoever closes is in the middle of something.
        self._loop.call_soon(self._inner.connection_lost)


def _records(data: bytes) -> deque[memoryview]:
    """Bytes as they go into TLS records."""
    view = memoryview(data)
    return deque(view[start : start + RECORD] for start in range(0, len(data), RECORD))
