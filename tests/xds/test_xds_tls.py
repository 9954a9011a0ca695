"""TLS on sockets: both sides of it with each other, readers that are slow, and handshakes that never end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop
from xds_envoy import until, workload_files

from fairlead.ca.authority import open_authority
from fairlead.ca.identity import Identity
from fairlead.xds.port import server_context
from fairlead.xds.tls import RECORD, Secured

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def on_a_loop(test: Callable[[Contexts], Coroutine[Any, Any, None]]) -> Callable[[Contexts], None]:
    """Run a test on the event loop that the control plane has."""

    def run(contexts: Contexts) -> None:
        uvloop.run(test(contexts))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class End:
    """One end: keeps what it is told."""

    def __init__(self) -> None:
        self.secured: Secured | None = None
        self.got = bytearray()
        self.reads = 0
        self.paused = 0
        self.resumed = 0
        self.over = False

    def connected(self, secured: Secured) -> None:
        self.secured = secured

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.reads += 1

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.resumed += 1

    def connection_lost(self) -> None:
        self.over = True


class Two:
    """A client and a server on a pair of sockets."""

    def __init__(self, contexts: Contexts, *, seconds: float = 20) -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            near = socket.create_connection(listening.getsockname())
            far, _ = listening.accept()
        self.server, self.client = End(), End()
        buffer = memoryview(bytearray(65_536))
        self.serving = Secured(far, self.server, contexts[0], seconds, buffer)
        self.near: socket.socket | None = near
        self._begin = lambda: Secured(near, self.client, contexts[1], seconds, buffer, "localhost")

    async def shaken(self) -> tuple[Secured, Secured]:
        """Both, when the handshake is done."""
        self.near = None
        self._begin()
        await until(lambda: self.server.secured is not None and self.client.secured is not None, "the handshake", 20)
        assert self.server.secured is not None
        assert self.client.secured is not None
        return self.server.secured, self.client.secured


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """Of a server, and of a client with a certificate of the mesh."""
    directory = tmp_path_factory.mktemp("tls")
    authority = open_authority(directory / "ca", "cluster.local", lambda: datetime.now(UTC))
    own = authority.issue_server(["localhost"])
    files = workload_files(authority, Identity("cluster.local", "shop", "cart"), directory)
    joined = directory / "joined.pem"
    joined.write_bytes(Path(files["key"]).read_bytes() + b"\n" + Path(files["chain"]).read_bytes())
    client = ssl.create_default_context(cafile=files["root"])
    client.load_cert_chain(joined)
    client.set_alpn_protocols(["h2"])
    return server_context((own.key, own.chain, authority.root_pem.encode())), client


@on_a_loop
async def test_bytes_go_both_ways_in_order(contexts: Contexts) -> None:
    two = Two(contexts)
    server, client = await two.shaken()
    names = [value for kind, value in server.certificate["subjectAltName"] if kind == "URI"]
    assert names == ["spiffe://cluster.local/ns/shop/sa/cart"]
    assert server.address[0] == "127.0.0.1"
    sent = b"".join(number.to_bytes(4, "big") for number in range(100_000))
    for start in range(0, len(sent), 70_001):
        server.write(sent[start : start + 70_001])
    client.write(b"hello")
    await until(lambda: bytes(two.client.got) == sent and bytes(two.server.got) == b"hello", "all that was sent", 20)
    client.close()
    await until(lambda: two.server.over and two.client.over, "both to hear of the end", 20)


@on_a_loop
async def test_a_slow_reader_pauses_the_writer_and_loses_nothing(
    contexts: Contexts,
) -> None:
    two = Two(contexts)
    server, client = await two.shaken()
    held = client._descriptor  # pyright: ignore[reportPrivateUsage]
    asyncio.get_running_loop().remove_reader(held)
    part = bytes(range(256)) * 256
    count = 0
    while not two.server.paused:
        server.write(part)
        count += 1
        assert count < 2_000, "the kernel takes everything"
    server.write(b"the last words")
    server.close()
    asyncio.get_running_loop().add_reader(held, client._readable)  # pyright: ignore[reportPrivateUsage]
    await until(lambda: two.client.over and two.server.over, "the end", 30)
    assert bytes(two.client.got) == part * count + b"the last words"
    assert two.server.paused == 1
    assert two.client.reads >= len(two.client.got) / RECORD


@on_a_loop
async def test_a_writer_hears_when_it_may_go_on(contexts: Contexts) -> None:
    two = Two(contexts)
    server, client = await two.shaken()
    while not two.server.paused:
        server.write(b"x" * 500_000)
    await until(lambda: two.server.resumed == 1, "the writer to be told", 20)
    client.abort()
    server.abort()
    await until(lambda: two.client.over and two.server.over, "the end", 20)


@on_a_loop
async def test_a_handshake_that_does_not_end_is_ended(contexts: Contexts) -> None:
    two = Two(contexts, seconds=0.2)
    assert two.near is not None
    two.near.setblocking(False)
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(two.near, 10), 10) == b""
    assert not two.server.over, "what never was connected is not lost"
    two.near.close()


@on_a_loop
async def test_a_client_that_speaks_no_tls_is_told_by_an_alert(contexts: Contexts) -> None:
    two = Two(contexts)
    assert two.near is not None
    two.near.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(two.near, b"\x16\x03\x01\x00\x04oops and more that nobody reads")
    said = await asyncio.wait_for(loop.sock_recv(two.near, 100), 10)
    two.near.close()
    assert said[:1] == b"\x15"
    assert two.server.secured is None


@on_a_loop
async def test_a_client_without_a_certificate_gets_nothing(contexts: Contexts) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    two = Two((contexts[0], bare))
    two.near = None
    two._begin()  # pyright: ignore[reportPrivateUsage]
    await until(lambda: two.client.over, "the client to be refused", 20)
    assert two.server.secured is None
