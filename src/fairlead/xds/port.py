"""A TLS port with gRPC on it: who may connect, with which certificate, and whether clients are still there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable

from fairlead.xds.call import Open
from fairlead.xds.tls import Secured
from fairlead.xds.transport import Connection, Connections

_log = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that the kernel keeps while they wait to be accepted."""
ACCEPTED_AT_ONCE = 16
PAUSE_SECONDS = 1
READ_BYTES = 65_536
"""Of the buffer that all connections of a port share."""


class Listener:
    """A TLS port with HTTP/2 on it. `certificate` (key, chain, roots; PEM) is asked before each handshake.

    Clients must show a certificate of the roots. Where there are no roots, none is asked for. `defers` is asked before
    each read.
    """

    HANDSHAKE_SECONDS = 60
    """gRPC's servers wait twice as long. Of thousands that come back at once, each waits for the others."""
    QUIET_SECONDS, ANSWER_SECONDS, IDLE_SECONDS = 30.0, 10.0, 120.0
    """A client that is silent for so long is asked for a sign of life, and has so long to give one; a connection
    without calls is closed after so long."""

    def __init__(
        self,
        opened: Open,
        certificate: Callable[[], tuple[bytes, bytes, bytes]],
        most: int,
        defers: Callable[[], bool] | None = None,
    ) -> None:
        self._open = opened
        self._certificate = certificate
        self._most = most
        self._defers = defers
        self._files: tuple[bytes, bytes, bytes] | None = None
        self._context: ssl.SSLContext | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self.connections = Connections()
        self._listening: socket.socket | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self.port = 0

    async def listen(self, name: str, address: str) -> None:
        """Listen at `HOST:PORT` as the port of this name. Raises OSError with both."""
        host, _, port = address.rpartition(":")
        try:
            await self._start(host.strip("[]"), int(port))
        except OSError as error:
            said = f"the {name} port cannot listen on {address}: {error.strerror or error}"
            raise OSError(f"{said}; free it, or choose another with --{name.lower()}-port") from error

    async def _start(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        listening = await _bound(host, port)
        try:
            self._current()
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
        self._listening = listening
        loop.add_reader(listening.fileno(), self._accept)
        self.port = int(listening.getsockname()[1])
        self._sweeping = loop.call_later(1, self._sweep)

    def _accept(self) -> None:
        """Clients have come; a few are taken in one turn, so that others are heard meanwhile."""
        listening = self._listening
        if listening is None:
            return
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors are left, most likely: clients wait until some are.
                _log.error("port %d cannot accept for %d s: %s", self.port, PAUSE_SECONDS, error.strerror or error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening.fileno())
                loop.call_later(PAUSE_SECONDS, self._resume)
                return
            inner = Connection(self.connections, self._open, self._most)
            # A client that has gone before it began is none.
            with contextlib.suppress(OSError):
                Secured(accepted, inner, self._current(), self.HANDSHAKE_SECONDS, self._buffer, None, self._defers)

    def _resume(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening.fileno(), self._accept)

    def _current(self) -> ssl.SSLContext:
        files = self._certificate()
        if self._context is None or files != self._files:
            self._files, self._context = files, server_context(files)
        return self._context

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for one in list(self.connections):
            quiet = now - one.heard
            if one.pinged and quiet > self.QUIET_SECONDS + self.ANSWER_SECONDS:
                one.cut()
            elif one.idle and quiet > self.IDLE_SECONDS:
                one.leave()
            elif quiet > self.QUIET_SECONDS and not one.pinged:
                one.ping()
        self._sweeping = loop.call_later(1, self._sweep)

    async def stop(self, grace: float) -> None:
        """Send GOAWAY, give calls `grace` seconds to end, then cut them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening.fileno())
            self._listening.close()
            self._listening = None
        for one in list(self.connections):
            one.leave()
        try:
            async with asyncio.timeout(grace):
                await self.connections.emptied()
        except TimeoutError:
            for one in list(self.connections):
                one.cut()
            await self.connections.emptied()


async def _bound(host: str, port: int) -> socket.socket:
    """A socket at the address. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def server_context(files: tuple[bytes, bytes, bytes]) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/2 only; of (key, chain, roots), all PEM. With roots, client certificates are demanded."""
    key, chain, roots = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if roots:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=roots.decode())
    _load(context, chain, key)
    context.set_alpn_protocols(["h2"])
    # No client resumes a session: tickets would only cost.
    context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Take a certificate and its key from memory: OpenSSL reads them from a file only, so the file is one in memory."""
    descriptor = os.memfd_create("certificate")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(chain + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
