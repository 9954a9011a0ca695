"""The DNS server of a workload: mesh names from the name table, everything else from the host.

Listens inside the workload's network namespace (UDP and TCP), where it has one of its own; asks the host's resolvers
from the host's namespace.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import msgspec

from fairlead.agent import netns
from fairlead.agent.nametable import TTL_SECONDS, Names

ADDRESS = "127.0.0.1"
PORT = 15053
FORWARD_SECONDS = 4.0
MAX_WAITING = 256
MAX_TCP = 64
MAX_MESSAGE = 65535

log = logging.getLogger("dns")


class Resolvers(msgspec.Struct, frozen=True):
    """What /etc/resolv.conf says."""

    servers: tuple[str, ...]
    search: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Resolvers:
        """Read a resolv.conf; unusable lines are passed over, as resolvers do."""
        servers: list[str] = []
        search: tuple[str, ...] = ()
        for line in text.splitlines():
            words = line.split("#")[0].split(";")[0].split()
            if len(words) > 1 and words[0] == "nameserver":
                servers.append(words[1])
            elif words[:1] in (["search"], ["domain"]):
                search = tuple(words[1:])
        return Resolvers(tuple(servers[:3]), search)

    @staticmethod
    def of_host(path: Path = Path("/etc/resolv.conf")) -> Resolvers:
        """The host's resolvers; none if the file cannot be read."""
        try:
            return Resolvers.parse(path.read_text(errors="replace"))
        except OSError:
            return Resolvers((), ())


Forward = Callable[[bytes, bool], Awaitable[bytes | None]]


async def answer(query: bytes, names: Names, forward: Forward, *, tcp: bool) -> bytes | None:
    """The reply to a query on the wire, or None if it is not one."""
    try:
        asked = dns.message.from_wire(query, question_only=True)
    except dns.exception.DNSException:
        return None
    if not asked.question or asked.flags & dns.flags.QR:
        return None
    question = asked.question[0]
    host = names.find(question.name.to_text()) if question.rdclass == dns.rdataclass.IN else None
    if host is not None:
        reply = dns.message.make_response(asked, recursion_available=True)
        reply.flags |= dns.flags.AA
        version = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}.get(question.rdtype)
        found = [one for one in host.addresses if version and ipaddress.ip_address(one).version == version]
        if found:
            reply.answer.append(dns.rrset.from_text(question.name, TTL_SECONDS, "IN", question.rdtype, *found))
        return reply.to_wire()
    forwarded = await forward(query, tcp)
    if forwarded is not None:
        return forwarded
    reply = dns.message.make_response(asked, recursion_available=True)
    reply.set_rcode(dns.rcode.SERVFAIL)
    return reply.to_wire()


class _Once(asyncio.DatagramProtocol):
    """One datagram out, the reply with the same id back."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.DatagramTransport", transport).sendto(self._query)

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] == self._query[:2] and not self.reply.done():
            self.reply.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc)


class Forwarder:
    """Asks the host's resolvers in turn."""

    def __init__(self, servers: tuple[str, ...], port: int = 53, seconds: float = FORWARD_SECONDS) -> None:
        self._servers = servers
        self._port = port
        self._seconds = seconds
        self._free = asyncio.Semaphore(MAX_WAITING)

    async def __call__(self, query: bytes, tcp: bool) -> bytes | None:
        """The first reply, or None."""
        async with self._free:
            for server in self._servers:
                try:
                    async with asyncio.timeout(self._seconds / len(self._servers)):
                        return await (self._tcp(server, query) if tcp else self._udp(server, query))
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    continue
        return None

    async def _udp(self, server: str, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _Once(query), remote_addr=(server, self._port)
        )
        try:
            return await protocol.reply
        finally:
            transport.close()

    async def _tcp(self, server: str, query: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(struct.pack("!H", len(query)) + query)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            return await reader.readexactly(length)
        finally:
            writer.close()


class DnsServer(asyncio.DatagramProtocol):
    """Serves both transports; `names` may be replaced at any time."""

    def __init__(self, names: Names, forward: Forward) -> None:
        self.names = names
        self._forward = forward
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._tcp_open = 0

    async def start(self, namespace: str, address: str = ADDRESS, port: int = PORT) -> int:
        """Bind inside a network namespace (ours if empty); the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        stream = await netns.make_socket(namespace, address)
        stream.bind((address, port))
        bound = int(stream.getsockname()[1])
        datagram = await netns.make_socket(namespace, address, socket.SOCK_DGRAM)
        datagram.bind((address, bound))
        await loop.create_datagram_endpoint(lambda: self, sock=datagram)
        self._server = await asyncio.start_server(self._connected, sock=stream)
        return bound

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._transport is not None:
            self._transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The datagram socket is ready."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A query; dropped if too many wait, as its sender will ask again."""
        if len(self._tasks) >= MAX_WAITING:
            return
        task = asyncio.create_task(self._reply(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = await answer(data, self.names, self._forward, tcp=False)
        if reply is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(reply, addr)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tcp_open += 1
        try:
            while self._tcp_open <= MAX_TCP:
                async with asyncio.timeout(10):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    reply = await answer(await reader.readexactly(length), self.names, self._forward, tcp=True)
                    if reply is None:
                        return
                    writer.write(struct.pack("!H", len(reply)) + reply)
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            self._tcp_open -= 1
            writer.close()
