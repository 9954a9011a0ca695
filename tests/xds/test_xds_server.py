"""The gRPC shell: who gets in, what observers see, slow readers, renewal on the same port."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.service.discovery.v3 import discovery_pb2
from xds_envoy import until, workload_files

from fairlead.agent.backoff import retry_hint
from fairlead.ca import istio_ca_pb2 as ca_pb
from fairlead.ca.authority import Authority, open_authority
from fairlead.ca.identity import Identity
from fairlead.ca.service import METHOD as CREATE
from fairlead.ca.service import CertificateService, by_certificate
from fairlead.envoy.resource import CLUSTER, Resource
from fairlead.xds import pushing
from fairlead.xds.call import Call
from fairlead.xds.channel import Channel
from fairlead.xds.claim import Refused
from fairlead.xds.http2 import ServerSide
from fairlead.xds.messages import HEALTH, Acked, Catalog, Event, Health, Response
from fairlead.xds.server import SERVICE, Connection, Server, Wake
from fairlead.xds.session import Session
from fairlead.xds.tls import Secured
from fairlead.xds.transport import Connection as Transport
from fairlead.xds.wire import Node

WHO = Identity("cluster.local", "shop", "cart")


class Fixed:
    """Source, subscription and observer at once."""

    version = "r1"

    def __init__(self) -> None:
        self.catalog: Catalog = {CLUSTER: {"c1": Resource.of(CLUSTER, "c1", b"\n\x02c1")}}
        self.seen: list[Event] = []
        self.live: list[Connection] = []
        self.closed = 0
        self.wakes: list[Wake] = []

    async def open(self, peer: Identity, node: Node, wake: Wake) -> Fixed:
        if node.id == "unwanted":
            raise Refused("no such proxy here")
        self.wakes.append(wake)
        return self

    def close(self) -> None:
        self.closed += 1

    def connected(self, connection: Connection) -> None:
        self.live.append(connection)

    def events(self, connection: Connection, events: Sequence[Event]) -> None:
        self.seen += events

    def settled(self, connection: Connection) -> None:
        pass

    def disconnected(self, connection: Connection) -> None:
        self.live.remove(connection)


class Bench:
    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.authority = open_authority(tmp_path / "ca", "cluster.local", lambda: datetime.now(UTC))
        self.source = Fixed()
        self.own = self.authority.issue_server(["localhost"])
        service = CertificateService(lambda: self.authority)
        self.server = Server(
            "127.0.0.1:0",
            self.source,
            self.source,
            lambda: (self.own.key, self.own.chain, self.authority.root_pem.encode()),
            "cluster.local",
            handlers=[service.handler("certificate", by_certificate("cluster.local"))],
        )

    def channel(self, who: Identity | None = WHO, issuer: Authority | None = None, name: str = "localhost"):
        pair: tuple[bytes | None, bytes | None] = (None, None)
        if who is not None:
            files = workload_files(issuer or self.authority, who, self.tmp_path)
            pair = (Path(files["key"]).read_bytes(), Path(files["chain"]).read_bytes())
        credentials = grpc.ssl_channel_credentials(self.authority.root_pem.encode(), *pair)
        options = (
            ("grpc.ssl_target_name_override", name),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
        )
        return grpc.aio.secure_channel(f"localhost:{self.server.port}", credentials, options=options)


@asynccontextmanager
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.server.start()
    try:
        yield made
    finally:
        await made.server.stop(0)


def first(node_id: str = "sidecar~1.2.3.4~cart-1.shop~x", account: str = "cart", type_url: str = CLUSTER):
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
    request.node.id = node_id
    request.node.metadata.update({"NAMESPACE": "shop", "SERVICE_ACCOUNT": account})
    return request


def stream(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall:
    return channel.stream_stream(
        f"/{SERVICE}/DeltaAggregatedResources",
        request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
    )()


async def refusal(channel: grpc.aio.Channel, request: discovery_pb2.DeltaDiscoveryRequest) -> tuple[object, str]:
    async with channel:
        call = stream(channel)
        try:
            await call.write(request)
            await call.read()
        except grpc.aio.AioRpcError:
            pass
        return await call.code(), await call.details()


def test_who_is_let_in(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as made:
            stranger = open_authority(tmp_path / "other", "cluster.local", lambda: datetime.now(UTC))
            nameless = first()
            nameless.ClearField("node")
            codes = grpc.StatusCode
            cases = [
                (made.channel(None), first(), codes.UNAVAILABLE, ""),
                (made.channel(issuer=stranger), first(), codes.UNAVAILABLE, ""),
                (made.channel(), first(account="admin"), codes.PERMISSION_DENIED, "but its certificate is of"),
                (made.channel(), nameless, codes.INVALID_ARGUMENT, "must describe the node"),
                (made.channel(), first("unwanted"), codes.PERMISSION_DENIED, "no such proxy"),
                (
                    made.channel(Identity("evil.example", "shop", "cart")),
                    first(),
                    codes.PERMISSION_DENIED,
                    "trust domain",
                ),
            ]
            for channel, request, code, text in cases:
                got, details = await refusal(channel, request)
                assert (got, text in details) == (code, True), (got, details)
            assert made.source.closed == 0
            assert not made.source.live

    asyncio.run(run())


def test_a_stream_from_end_to_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as made:
            async with made.channel() as channel:
                call = stream(channel)
                await call.write(first())
                answer = await call.read()
                assert ([item.name for item in answer.resources], answer.system_version_info) == (["c1"], "r1")
                ack = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=answer.nonce)
                await call.write(ack)
                sick = discovery_pb2.DeltaDiscoveryRequest(type_url=HEALTH)
                sick.error_detail.message = "probe failed"
                await call.write(sick)
                await until(lambda: len(made.source.seen) == 2, "the events")
                assert isinstance(made.source.seen[0], Acked)
                assert made.source.seen[1] == Health(False, "probe failed")
                assert [connection.peer for connection in made.server.connections] == [WHO]
                made.source.catalog = {CLUSTER: {}}
                made.source.wakes[0]({CLUSTER: ["c1"]})
                assert list((await call.read()).removed_resources) == ["c1"]
            await until(lambda: made.source.closed == 1 and not made.source.live, "the end")

    asyncio.run(run())


def test_a_client_that_does_not_read_costs_the_others_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as made:
            big = Resource.of(CLUSTER, "big", b"\n\x03big" + b"\xd2\x3e\x84\x80\x80\x04" + bytes(8_388_612))
            made.source.catalog = {CLUSTER: {"big": big}}
            async with made.channel() as slow, made.channel() as quick:
                lazy = stream(slow)
                await lazy.write(first())
                await until(lambda: made.source.live, "the slow client")
                call = stream(quick)
                await call.write(first("sidecar~1.2.3.4~cart-2.shop~x"))
                async with asyncio.timeout(10):
                    answer = await call.read()
                    await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=answer.nonce))
                    for number in range(20):
                        body = b"\n\x02c1" + bytes((40, number))
                        made.source.catalog = {CLUSTER: {"big": big, "c1": Resource.of(CLUSTER, "c1", body)}}
                        for wake in made.source.wakes:
                            wake({CLUSTER: ["c1"]})
                        answer = await call.read()
                        assert [item.name for item in answer.resources] == ["c1"]
                        await call.write(
                            discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=answer.nonce)
                        )
                assert len(made.source.live) == 2
                assert made.source.live[0].status()[0].sent == 1, "changes wait, merged, behind what is unread"

    asyncio.run(run())


def test_a_stream_that_fails_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[Session] = []
    whole = Session.next

    def fail(session: Session) -> Response | None:
        if session in broken:
            raise ZeroDivisionError("a defect")
        return whole(session)

    monkeypatch.setattr(Session, "next", fail)

    async def run() -> None:
        async with bench(tmp_path) as made, made.channel() as one, made.channel() as other:
            calls = [stream(one), stream(other)]
            for number, call in enumerate(calls):
                await call.write(first(f"sidecar~1.2.3.4~cart-{number}.shop~x"))
                answer = await call.read()
                await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=answer.nonce))
            await until(lambda: all(at.session.settled for at in made.source.live), "both have everything")
            broken.append(made.source.live[0].session)
            made.source.catalog = {CLUSTER: {"c1": Resource.of(CLUSTER, "c1", b"\n\x02c1\x28\x07")}}
            for wake in made.source.wakes:
                wake({CLUSTER: ["c1"]})
            async with asyncio.timeout(10):
                answer = await calls[1].read()
                assert [item.name for item in answer.resources] == ["c1"]
                assert await calls[0].code() is grpc.StatusCode.INTERNAL
            assert "its log says more" in await calls[0].details() and "a defect" in caplog.text

    asyncio.run(run())


def test_renewal_and_a_new_server_certificate_on_the_same_port(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as made:
            made.own = made.authority.issue_server(["renamed.example"])
            async with made.channel(name="renamed.example") as channel:
                key = ec.generate_private_key(ec.SECP256R1())
                csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
                answer = await channel.unary_unary(
                    CREATE,
                    request_serializer=ca_pb.IstioCertificateRequest.SerializeToString,
                    response_deserializer=ca_pb.IstioCertificateResponse.FromString,
                )(ca_pb.IstioCertificateRequest(csr=csr.public_bytes(serialization.Encoding.PEM).decode()), timeout=10)
                leaf = x509.load_pem_x509_certificate(answer.cert_chain[0].encode())
                names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(WHO)]

    asyncio.run(run())


def test_stop_ends_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "MANY", 1)

    async def run() -> None:
        async with bench(tmp_path) as made, made.channel() as channel:
            call = stream(channel)
            await call.write(first())
            await call.read()
            await made.server.stop(0.1)
            assert await call.code() == grpc.StatusCode.UNAVAILABLE
            hint = retry_hint([(key, value) for key, value in await call.trailing_metadata() or ()])
            assert hint == pushing.STARTING, "the first of many is told when the control plane is back"
            await until(lambda: made.source.closed == 1 and not made.source.live, "the end")

    asyncio.run(run())


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as made:
            other = Server(
                f"127.0.0.1:{made.server.port}",
                made.source,
                made.source,
                lambda: (made.own.key, made.own.chain, made.authority.root_pem.encode()),
                "cluster.local",
            )
            with pytest.raises(OSError, match=f"127.0.0.1:{made.server.port}"):
                await other.start()

    asyncio.run(run())


_KEPT_FOR_A_CLIENT = (ServerSide, Transport, Secured, Call, Session, Channel, Connection)


def _kept() -> Counter[type]:
    """How many objects that are kept for clients there are."""
    return Counter(type(one) for one in gc.get_objects() if type(one) in _KEPT_FOR_A_CLIENT)


def test_what_is_kept_for_a_client_dies_without_the_collector_of_cycles(tmp_path: Path) -> None:
    """The control plane puts what it has made for clients out of the collector's sight."""

    async def come_and_go(made: Bench, number: int) -> None:
        async with made.channel() as channel:
            call = stream(channel)
            await call.write(first(f"sidecar~1.2.3.4~cart-{number}.shop~x"))
            answer = await call.read()
            await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=answer.nonce))
            await until(lambda: all(at.session.settled for at in made.source.live), "it has everything")
            assert _kept()[ServerSide] > before[ServerSide]
            if number % 2:
                await call.done_writing()
                await call.code()
        await until(lambda: not made.source.live, "it has gone")
        made.source.wakes.clear()

    async def run() -> None:
        async with bench(tmp_path) as made:
            for number in range(4):
                await come_and_go(made, number)
            await until(lambda: _kept() == before, "nothing is left of them")

    gc.collect()
    before = _kept()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_client_may_say_far_more_than_its_first_window(tmp_path: Path) -> None:
    async def run() -> None:
        async with bench(tmp_path) as made, made.channel() as channel:
            call = stream(channel)
            await call.write(first())
            answer = await call.read()
            for number in range(30):
                request = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=answer.nonce)
                request.resource_names_subscribe.extend(f"{number}-{name}-{'x' * 200}" for name in range(500))
                async with asyncio.timeout(10):
                    await call.write(request)
                    answer = await call.read()
            (connection,) = made.server.connections
            assert connection.status()[0].sent == 31

    asyncio.run(run())
