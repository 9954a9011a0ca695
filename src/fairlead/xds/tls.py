"""TLS under a connection's protocol, with buffers that all connections of a port share.

The TLS of event loops keeps a read buffer of 256 KB for each connection for as long as it lasts. With thousands of
proxies that say little, that is most of a control plane's memory, so it is done here, on the standard library's
`ssl.SSLObject`: bytes go through one buffer, and what a connection keeps is what OpenSSL keeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, cast

RECORD = 8_192
"""The most that is put into one TLS record: OpenSSL keeps a buffer of that size for each connection that needed it."""
READ = 16_384
"""The most that a record brings (RFC 8446, section 5.1)."""


class Secured(asyncio.BufferedProtocol):
    """The server's side of TLS on one connection: a protocol to the network, and the transport of another protocol.

    The other protocol hears of the connection when the handshake is done, and not at all if it fails or takes longer
    than `seconds`.
    """

    __slots__ = ("_buffer", "_closing", "_incoming", "_outgoing", "_protocol", "_tls", "_transport", "_waiting")

    def __init__(self, protocol: asyncio.Protocol, context: ssl.SSLContext, seconds: float, buffer: memoryview) -> None:
        self._protocol = protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._waiting: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(seconds, self.abort)
        """What ends a handshake that takes too long; None when it is done."""

    # Towards the network.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has connected."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put what comes: it is taken from there before anything else is read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self._incoming.write(self._buffer[:nbytes])
        if self._waiting is None or self._shaken():
            self._read()

    def eof_received(self) -> None:
        """The client has closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._transport = None
        if self._waiting is not None:
            self._waiting.cancel()
            return
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads slower than is sent."""
        if self._waiting is None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._waiting is None:
            self._protocol.resume_writing()

    def _shaken(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        except (ssl.SSLError, ValueError):
            # The alert says why.
            self._send()
            if self._transport is not None:
                self._transport.close()
            return False
        self._send()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._protocol.connection_made(self)  # type: ignore[arg-type]
        return True

    def _read(self) -> None:
        try:
            while self._transport is not None:
                data = self._tls.read(READ)
                if not data:
                    self.close()
                    return
                self._protocol.data_received(data)
                if not self._incoming.pending and not self._tls.pending():
                    return
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            self.abort()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and self._transport is not None:
            self._transport.write(data)

    # For the other protocol.

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self._transport is None or self._closing:
            return
        try:
            if len(data) <= RECORD:
                self._tls.write(data)
                self._send()
                return
            view = memoryview(data)
            for start in range(0, len(data), RECORD):
                self._tls.write(view[start : start + RECORD])
                self._send()
        except ssl.SSLError:
            self.abort()

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closing or self._transport is None or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peercert` as `ssl.SSLObject.getpeercert` gives it; everything else is the socket's."""
        if name == "peercert":
            return self._tls.getpeercert()
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    def close(self) -> None:
        """End the connection when everything is sent."""
        if self._transport is None or self._closing:
            return
        self._closing = True
        # What the client answers to the farewell is not waited for.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
