"""Names that a workload resolves, over real sockets."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import uuid
from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest

from fairlead.agent.dns import DnsServer, Forwarder, Resolvers
from fairlead.agent.messages import Host, encode_name_table, name_table
from fairlead.agent.nametable import Names

TABLE = {
    "reviews.shop.svc.cluster.local": Host(("10.0.0.1",), "Kubernetes", "reviews", "shop"),
    "ratings.other.svc.cluster.local": Host(("10.0.0.2", "fd00::2"), "Kubernetes", "ratings", "other"),
    "api.example.com": Host(("240.240.0.1",)),
    "*.wild.example.com": Host(("240.240.0.2",)),
}


def names() -> Names:
    return Names(name_table(encode_name_table(TABLE)), "shop", "cluster.local", ("corp.example",))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("reviews", "10.0.0.1"),
        ("Reviews.Shop.", "10.0.0.1"),
        ("reviews.shop.svc", "10.0.0.1"),
        ("reviews.shop.svc.cluster.local", "10.0.0.1"),
        ("reviews.corp.example", "10.0.0.1"),
        ("ratings.other", "10.0.0.2"),
        ("ratings", None),
        ("api.example.com", "240.240.0.1"),
        ("a.b.wild.example.com", "240.240.0.2"),
        ("wild.example.com", None),
        ("example.com", None),
    ],
)
def test_names(name: str, address: str | None) -> None:
    host = names().find(name)
    assert (host.addresses[0] if host else None) == address


def test_a_workload_is_told_addresses_with_which_it_can_work() -> None:
    table = {"both.example": Host(("10.0.0.2", "fd00::2")), "other.example": Host(("fd00::3",))}
    told = {families: Names(table, "", "cluster.local", (), families) for families in ("IPv4", "IPv6", "dual")}
    found = {families: one.find("both.example") for families, one in told.items()}
    assert {families: one and one.addresses for families, one in found.items()} == {
        "IPv4": ("10.0.0.2",),
        "IPv6": ("fd00::2",),
        "dual": ("10.0.0.2", "fd00::2"),
    }
    only = told["IPv4"].find("other.example")
    assert only is not None
    assert only.addresses == ("fd00::3",)


def test_alternative_names_travel() -> None:
    body = encode_name_table({"a.example": Host(("1.2.3.4",))}, {"a.example": ["b.example"]})
    assert set(name_table(body)) == {"a.example", "b.example"}


def test_resolv_conf() -> None:
    text = (
        "# comment\nnameserver 1.1.1.1\nnameserver ::1 ; x\nsearch a.example b.example\noptions ndots:5\nnameserver\n"
    )
    assert Resolvers.parse(text) == Resolvers(("1.1.1.1", "::1"), ("a.example", "b.example"))


class Ask(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.reply.set_result(data)


async def udp(port: int, name: str, kind: str = "A") -> dns.message.Message:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Ask, remote_addr=("127.0.0.1", port))
    transport.sendto(dns.message.make_query(name, kind).to_wire())
    async with asyncio.timeout(5):
        reply = await protocol.reply
    transport.close()
    return dns.message.from_wire(reply)


async def tcp(port: int, name: str) -> dns.message.Message:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    query = dns.message.make_query(name, "A").to_wire()
    writer.write(struct.pack("!H", len(query)) + query)
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    reply = dns.message.from_wire(await reader.readexactly(length))
    writer.close()
    return reply


def answers(message: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in message.answer for item in rrset]


def test_serves_and_forwards() -> None:
    async def run() -> None:
        async def never(query: bytes, tcp: bool) -> bytes | None:
            return None

        upstream_names = Names({"outside.example": Host(("9.9.9.9",))}, "", "cluster.local")
        upstream = DnsServer(upstream_names, never)
        port = await upstream.start("", port=0)
        server = DnsServer(names(), Forwarder(("127.0.0.1",), port, 2))
        mine = await server.start("", port=0)
        assert answers(await udp(mine, "reviews.")) == ["10.0.0.1"]
        assert answers(await udp(mine, "ratings.other.", "AAAA")) == ["fd00::2"]
        nothing = await udp(mine, "reviews.", "AAAA")
        assert nothing.rcode() == dns.rcode.NOERROR and not nothing.answer
        assert answers(await udp(mine, "outside.example.")) == ["9.9.9.9"]
        assert answers(await tcp(mine, "outside.example.")) == ["9.9.9.9"]
        assert answers(await tcp(mine, "api.example.com.")) == ["240.240.0.1"]
        assert (await udp(mine, "nowhere.example.")).rcode() == dns.rcode.SERVFAIL
        await server.close()
        await upstream.close()
        await asyncio.sleep(0)

    asyncio.run(run())


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"fl{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.decode().strip()}")
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.root
def test_listens_inside_a_namespace_and_forwards_outside(namespace: str) -> None:
    script = (
        "import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(4);"
        "s.sendto(bytes.fromhex(sys.argv[1]),('127.0.0.1',15053)); print(s.recv(4096).hex())"
    )

    async def ask(name: str) -> dns.message.Message:
        query = dns.message.make_query(name, "A").to_wire().hex()
        command = ("ip", "netns", "exec", namespace, "python3", "-c", script, query)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return dns.message.from_wire(bytes.fromhex(out.decode().strip()))

    async def run() -> None:
        async def never(query: bytes, tcp: bool) -> bytes | None:
            return None

        upstream = DnsServer(Names({"outside.example": Host(("9.9.9.9",))}, "", "cluster.local"), never)
        port = await upstream.start("", port=0)
        server = DnsServer(names(), Forwarder(("127.0.0.1",), port, 2))
        await server.start(f"/var/run/netns/{namespace}")
        assert answers(await ask("reviews.")) == ["10.0.0.1"]
        assert answers(await ask("outside.example.")) == ["9.9.9.9"]
        await server.close()
        await upstream.close()
        await asyncio.sleep(0)

    asyncio.run(run())
