"""The ADS server: gRPC streams over mutual TLS around session machines.

What a proxy may be given is decided by the injected `Source`; what became of it is told to the injected `Observer`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import grpc
import grpc.aio
import msgspec

from fairlead.model.identity import Identity
from fairlead.xds import wire
from fairlead.xds.ledger import TypeStatus
from fairlead.xds.messages import Catalog, Changed, DeltaRequest, Event, ProtocolError, SotwRequest
from fairlead.xds.session import Residue, Session
from fairlead.xds.wire import Node

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_REQUEST_BYTES = 32 << 20
FIRST_REQUEST_SECONDS = 30
_REMEMBERED = 1024


class Refused(Exception):
    """A source gives this peer nothing; the message goes to the client with PERMISSION_DENIED."""


class Subscription(Protocol):
    """What one proxy is given. Read on the event loop; may be the same object for many proxies."""

    @property
    def catalog(self) -> Catalog:
        """Everything it is given now. Read when a response is made, so the newest is sent."""
        ...

    @property
    def version(self) -> str:
        """The catalog's name (a revision), shown by Envoy; may be empty."""
        ...

    def close(self) -> None:
        """The stream has ended; `wake` is not called any more."""
        ...


Wake = Callable[[Changed | None], None]
"""Called on the event loop after the catalog changed: the changed names by type, or None for "anything"."""


class Source(Protocol):
    """Where catalogs come from."""

    async def open(self, peer: Identity, node: Node, wake: Wake) -> Subscription:
        """A proxy has connected. May wait until there is something complete to give. Raises Refused."""
        ...


class Connection(msgspec.Struct, frozen=True, eq=False):
    """A live stream, as observers and `proxy-status` see it. Each has an identity of its own."""

    id: int
    peer: Identity
    node: Node
    address: str
    session: Session

    def status(self) -> tuple[TypeStatus, ...]:
        """How each type stands."""
        return self.session.status()


class Observer(Protocol):
    """Told what happens on streams; on the event loop, must not block."""

    def connected(self, connection: Connection) -> None:
        """A proxy was admitted."""
        ...

    def events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Acknowledgements, refusals, health."""
        ...

    def disconnected(self, connection: Connection) -> None:
        """The stream has ended."""
        ...


def claimed(node: Node) -> tuple[str, str]:
    """The namespace and service account that a node claims (Istio's node metadata). Empty where it claims none.

    Without NAMESPACE in the metadata, the namespace is that of the node id `TYPE~IP~NAME.NAMESPACE~DOMAIN`.
    """
    namespace = str(node.metadata.get("NAMESPACE") or "")
    parts = node.id.split("~")
    if not namespace and len(parts) == 4:
        namespace = parts[2].rpartition(".")[2]
    return namespace, str(node.metadata.get("SERVICE_ACCOUNT") or "")


def check_claim(peer: Identity, node: Node, trust_domain: str) -> None:
    """A node is who its certificate says, or gets nothing. Raises Refused."""
    namespace, account = claimed(node)
    if peer.trust_domain != trust_domain:
        raise Refused(f"{peer} is not of this mesh's trust domain {trust_domain}")
    if not namespace or not account:
        raise Refused("the node has no metadata NAMESPACE and SERVICE_ACCOUNT: start the proxy with an agent")
    if (namespace, account) != (peer.namespace, peer.service_account):
        raise Refused(f"node {node.id} says it is {namespace}/{account}, but its certificate is of {peer}")


class ServerCertificate(Protocol):
    """Gives the server's current key, its certificate chain, and the roots for client certificates; all PEM.

    It is asked before every handshake, on a gRPC thread: what it returns is used from then on.
    """

    def __call__(self) -> tuple[bytes, bytes, bytes]:
        """(key, chain, roots)."""
        ...


class Server:
    """The `xds` port. `handlers` are further gRPC services on it, such as certificate renewal."""

    def __init__(
        self,
        address: str,
        source: Source,
        observer: Observer,
        certificate: ServerCertificate,
        trust_domain: str,
        *,
        handlers: Sequence[grpc.GenericRpcHandler] = (),
        max_streams: int = 10_000,
    ) -> None:
        self._address = address
        self._source = source
        self._observer = observer
        self._certificate = certificate
        self._trust_domain = trust_domain
        self._handlers = tuple(handlers)
        self._max_streams = max_streams
        self._server: grpc.aio.Server | None = None
        self._connections: dict[int, Connection] = {}
        self._count = 0
        self._residues: OrderedDict[tuple[Identity, str], Residue] = OrderedDict()
        self.port = 0

    @property
    def connections(self) -> Sequence[Connection]:
        """The live streams, the oldest first."""
        return tuple(self._connections.values())

    async def start(self) -> None:
        """Listen. Raises OSError with the address if it cannot be bound."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                # A dead peer is noticed within 40 s; a peer may itself ask every 10 s.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
            ]
        )
        streams: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._sotw),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, streams), *self._handlers))
        try:
            self.port = server.add_secure_port(self._address, self._credentials())
        except RuntimeError as error:
            await server.stop(None)
            raise OSError(f"the xDS port cannot listen on {self._address}: is it in use?") from error
        await server.start()
        self._server = server

    def _credentials(self) -> grpc.ServerCredentials:
        current = self._certificate()

        def configuration(files: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
            key, chain, roots = files
            return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal current
            fresh = self._certificate()
            if fresh == current:
                return None
            current = fresh
            return configuration(fresh)

        return grpc.dynamic_ssl_server_credentials(
            configuration(current),
            fetch,  # pyright: ignore[reportArgumentType]  # None means unchanged, which the stubs do not know
            require_client_authentication=True,
        )

    async def stop(self, grace: float = 1) -> None:
        """Send GOAWAY, give streams `grace` seconds to end, then cut them."""
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    async def _delta(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await self._stream(_Stream(context, delta=True))

    async def _sotw(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await self._stream(_Stream(context, delta=False))

    async def _stream(self, stream: _Stream) -> None:
        """Admit a client, then run its session until either side ends it."""
        subscription: Subscription | None = None
        try:
            if len(self._connections) >= self._max_streams:
                raise _Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many proxies on this control plane")
            peer = stream.peer()
            async with asyncio.timeout(FIRST_REQUEST_SECONDS):
                first = await stream.read()
            if first is None:
                return
            request, node = first
            if node is None:
                raise ProtocolError("the first request on a stream must describe the node")
            check_claim(peer, node, self._trust_domain)
            subscription = await self._source.open(peer, node, stream.wake)
            await self._run(stream, peer, node, request, subscription)
        except Refused as error:
            await stream.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except ProtocolError as error:
            await stream.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except _Ended as error:
            await stream.abort(error.code, str(error))
        except TimeoutError:
            await stream.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no request came on the stream")
        finally:
            if subscription is not None:
                subscription.close()

    async def _run(
        self,
        stream: _Stream,
        peer: Identity,
        node: Node,
        first: DeltaRequest | SotwRequest,
        subscription: Subscription,
    ) -> None:
        previous = self._residues.pop((peer, node.id), None)
        session = Session(subscription.catalog, delta=stream.delta, version=subscription.version, previous=previous)
        self._count += 1
        connection = Connection(self._count, peer, node, stream.address(), session)
        self._connections[connection.id] = connection
        self._observer.connected(connection)
        writer = asyncio.create_task(stream.write_all(session, subscription))
        reader = asyncio.create_task(self._read(stream, connection, first))
        try:
            done, _ = await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            del self._connections[connection.id]
            if residue := session.residue():
                self._residues[peer, node.id] = residue
                while len(self._residues) > _REMEMBERED:
                    self._residues.popitem(last=False)
            self._observer.disconnected(connection)

    async def _read(self, stream: _Stream, connection: Connection, first: DeltaRequest | SotwRequest) -> None:
        received: tuple[DeltaRequest | SotwRequest, Node | None] | None = (first, None)
        while received is not None:
            events = connection.session.receive(received[0])
            stream.poke()
            if events:
                self._observer.events(connection, events)
            received = await stream.read()


class _Ended(Exception):
    """The stream must end with this status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Stream:
    """One gRPC stream: reads requests, and writes one response at a time, made when the client can take it."""

    def __init__(self, context: grpc.aio.ServicerContext[bytes, bytes], *, delta: bool) -> None:
        self._context = context
        self.delta = delta
        self._due = asyncio.Event()
        self._anything = False
        self._changed: dict[str, set[str]] = {}

    def peer(self) -> Identity:
        try:
            return Identity.of_peer(cast("Mapping[str, Sequence[bytes]]", self._context.auth_context()))
        except ValueError as error:
            raise _Ended(grpc.StatusCode.UNAUTHENTICATED, str(error)) from error

    def address(self) -> str:
        return self._context.peer()

    async def abort(self, code: grpc.StatusCode, message: str) -> None:
        await self._context.abort(code, message)

    def poke(self) -> None:
        self._due.set()

    def wake(self, changed: Changed | None) -> None:
        if changed is None:
            self._anything = True
        else:
            for type_url, names in changed.items():
                self._changed.setdefault(type_url, set()).update(names)
        self._due.set()

    async def read(self) -> tuple[DeltaRequest | SotwRequest, Node | None] | None:
        data: Any = await self._context.read()
        if data is grpc.aio.EOF:
            return None
        return wire.decode_delta(data) if self.delta else wire.decode_sotw(data)

    async def write_all(self, session: Session, subscription: Subscription) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            self._apply(session, subscription)
            while (response := session.next()) is not None:
                await self._context.write(wire.encode_delta(response) if self.delta else wire.encode_sotw(response))
                self._apply(session, subscription)

    def _apply(self, session: Session, subscription: Subscription) -> None:
        if self._anything or self._changed:
            changed = None if self._anything else self._changed
            self._anything, self._changed = False, {}
            session.update(subscription.catalog, changed, subscription.version)
