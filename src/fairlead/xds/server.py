"""The ADS server: gRPC streams over mutual TLS around session machines, without a task for any of them.

What a proxy may be given is decided by the injected `Source`; what became of it is told to the injected `Observer`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
import msgspec

from fairlead.model.identity import Identity
from fairlead.xds import wire
from fairlead.xds.call import PREFIX, Call, Handler, framed
from fairlead.xds.claim import Refused, check_claim
from fairlead.xds.ledger import TypeStatus
from fairlead.xds.messages import Catalog, Changed, DeltaRequest, Event, ProtocolError, SotwRequest
from fairlead.xds.patch import METADATA as PATCHES
from fairlead.xds.port import Listener
from fairlead.xds.pushing import Admission, Pushing, comes_again
from fairlead.xds.session import Residue, Session
from fairlead.xds.step import Together
from fairlead.xds.unary import Methods
from fairlead.xds.wire import Encoder, Node

_log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_REQUEST_BYTES = 32 << 20
FIRST_REQUEST_SECONDS = 30
REFUSAL_SECONDS = 0.1
MAX_WAITING = 64
"""Requests of a client that are kept while it waits to be admitted."""
KEPT_BYTES = 1 << 22
"""Responses of at most so many bytes are kept whole for others who are sent the same, as long as somebody awaits it."""
_MEASURED = 32
"""One of so many answers is measured."""
_REMEMBERED = 1024
_PUSHBACK = "grpc-retry-pushback-ms"
"""Tells a client when to come again: agents wait so long, and a random part of it more."""
_NO_ROOM_SECONDS = 10.0


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
"""Called on the event loop right after the catalog changed, before anything else happens: the changed names by type,
each with what was there before, or None for "anything", where what was there before is another mapping."""


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

    def settled(self, connection: Connection) -> None:
        """The proxy has everything that it asked for so far. Told again and again: it must cost nothing."""
        ...

    def disconnected(self, connection: Connection) -> None:
        """The stream has ended."""
        ...


class ServerCertificate(Protocol):
    """Gives the server's current key, its certificate chain, and the roots for client certificates; all PEM.

    It is asked before every handshake: what it returns is used from then on.
    """

    def __call__(self) -> tuple[bytes, bytes, bytes]:
        """(key, chain, roots)."""
        ...


class Server:
    """The `xds` port. `handlers` are further gRPC services of unary methods on it, such as certificate renewal.

    Proxies of the trust domains `aliases` are taken as if they were of this one.

    `filling` proxies at once are told everything for the first time; the others wait their turn, so that a storm of
    reconnects costs memory for few of them and the first ones are served soon.
    """

    def __init__(
        self,
        address: str,
        source: Source,
        observer: Observer,
        certificate: ServerCertificate,
        trust_domain: str,
        *,
        handlers: Sequence[grpc.GenericRpcHandler] = (),
        aliases: Sequence[str] = (),
        max_streams: int = 10_000,
        filling: int = 16,
    ) -> None:
        self._address = address
        self.source = source
        self.observer = observer
        self.trust_domain = trust_domain
        self.aliases = tuple(aliases)
        self._methods = Methods(handlers)
        self.max_streams = max_streams
        self.pushing = Pushing()
        self._listener = Listener(self._open, certificate, MAX_REQUEST_BYTES, self.pushing.defers)
        self.live: dict[int, Connection] = {}
        self._streams: dict[_Stream, None] = {}
        self._count = 0
        self._residues: OrderedDict[tuple[Identity, str], Residue] = OrderedDict()
        self.encoder = Encoder()
        self.together = Together()
        self.admission = Admission(filling)
        self.answers = 0
        """How many requests of clients with a session were taken since the start."""
        self.sent: dict[str, tuple[int, int]] = {}
        """Responses and bytes sent since the start, by type URL."""
        self.port = 0

    @property
    def connections(self) -> Sequence[Connection]:
        """The live streams, the oldest first."""
        return tuple(self.live.values())

    async def start(self) -> None:
        """Listen. Raises OSError with the address if it cannot be bound."""
        await self._listener.listen("xDS", self._address)
        self.port = self._listener.port

    async def stop(self, grace: float = 1) -> None:
        """Send GOAWAY, give calls `grace` seconds to end, then cut them."""
        streams = list(self._streams)
        for place, stream in enumerate(streams):
            stream.end(grpc.StatusCode.UNAVAILABLE, "the control plane ends", comes_again(place, len(streams)))
        await self._methods.done(grace)
        await self._listener.stop(grace)
        await self._methods.cancel()

    def _open(self, call: Call) -> Handler | None:
        service, _, method = call.method.removeprefix("/").partition("/")
        if service == SERVICE and method in _METHODS:
            stream = _Stream(self, call, delta=_METHODS[method])
            self._streams[stream] = None
            return stream
        return self._methods.open(call)

    # For streams.

    def admitted(self, stream: _Stream, session: Session, peer: Identity, node: Node, address: str) -> Connection:
        """A client has a session now."""
        self._count += 1
        connection = Connection(self._count, peer, node, address, session)
        self.live[connection.id] = connection
        self.observer.connected(connection)
        return connection

    def residue_of(self, peer: Identity, node_id: str) -> Residue | None:
        """What the last stream of the same proxy left, which is then forgotten."""
        return self._residues.pop((peer, node_id), None)

    def ended(self, stream: _Stream, connection: Connection | None) -> None:
        """A stream is over."""
        self._streams.pop(stream, None)
        self.pushing.forget(stream)
        self.admission.leave(stream)
        if connection is None:
            return
        del self.live[connection.id]
        if residue := connection.session.residue():
            self._residues[connection.peer, connection.node.id] = residue
            while len(self._residues) > _REMEMBERED:
                self._residues.popitem(last=False)
        self.observer.disconnected(connection)

    def count(self, type_url: str, size: int) -> None:
        """A response was sent."""
        responses, total = self.sent.get(type_url, (0, 0))
        self.sent[type_url] = (responses + 1, total + size)


_METHODS = {"StreamAggregatedResources": False, "DeltaAggregatedResources": True}


class _Ended(Exception):
    """The stream must end with this status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Stream:
    """One ADS stream: admits its client, then lets its session answer, one response at a time."""

    __slots__ = (
        "_call",
        "_connection",
        "_filling",
        "_peer",
        "_refused",
        "_server",
        "_subscription",
        "_task",
        "_timer",
        "_waiting",
        "delta",
    )

    def __init__(self, server: Server, call: Call, *, delta: bool) -> None:
        self._server = server
        self._call: Call | None = call
        self.delta = delta
        self._peer: Identity | None = None
        self._subscription: Subscription | None = None
        self._connection: Connection | None = None
        self._waiting: list[tuple[DeltaRequest | SotwRequest, Node | None]] | None = []
        self._task: asyncio.Task[None] | None = None
        self._filling = True
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        # Who it is says its certificate, so that nothing is asked of these for as long as the stream lasts.
        call.metadata = ()
        # Nothing is read of a client that waits: a thousand that come back at once say much.
        call.hold()
        server.admission.ask(self, self._admitted)

    # What the call tells.

    def message(self, body: bytes) -> None:
        """A request has come."""
        if self._refused:
            return
        try:
            received = wire.decode_delta(body) if self.delta else wire.decode_sotw(body)
            if self._waiting is None:
                self._answered(received[0])
                return
            if len(self._waiting) >= MAX_WAITING:
                raise ProtocolError(f"more than {MAX_WAITING} requests before the first answer")
            self._waiting.append(received)
            if len(self._waiting) == 1:
                self._first(received[1])
        except ProtocolError as error:
            self.end(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Refused as error:
            self.end(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except _Ended as error:
            self.end(error.code, str(error))
        except Exception:
            self._failed("request")

    def _answered(self, request: DeltaRequest | SotwRequest) -> None:
        """Take a request of a client that has a session, and see what that costs. To look at the clock costs too."""
        server = self._server
        server.answers += 1
        if server.answers % _MEASURED:
            self._receive(request)
            return
        begun = time.thread_time()
        self._receive(request)
        server.pushing.spent += (time.thread_time() - begun) * _MEASURED

    def _failed(self, at: str) -> None:
        """A defect of ours costs one proxy its stream, and is found in the log; it will come again."""
        _log.exception("a stream failed")
        self.end(grpc.StatusCode.INTERNAL, f"the control plane failed at this {at}; its log says more")

    def finished(self) -> None:
        """The client will ask for nothing more."""
        self.end(grpc.StatusCode.OK, "")

    def writable(self) -> None:
        """The client has read what there was."""
        self.push()

    def lost(self) -> None:
        """The stream is over."""
        self._call = None
        for waiting in (self._task, self._timer):
            if waiting is not None:
                waiting.cancel()
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        connection, self._connection = self._connection, None
        self._server.ended(self, connection)

    # Admission.

    def _first(self, node: Node | None) -> None:
        call, server = self._call, self._server
        if call is None:
            return
        if len(server.live) >= server.max_streams:
            raise _Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many proxies on this control plane")
        try:
            self._peer = Identity.of_peer(call.peer.auth_context())
        except ValueError as error:
            raise _Ended(grpc.StatusCode.UNAUTHENTICATED, str(error)) from error
        if node is None:
            raise ProtocolError("the first request on a stream must describe the node")
        check_claim(self._peer, node, server.trust_domain, server.aliases)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._begin())

    def _admitted(self) -> None:
        """It is this client's turn."""
        if self._call is not None:
            self._timer = asyncio.get_running_loop().call_later(
                FIRST_REQUEST_SECONDS, self.end, grpc.StatusCode.DEADLINE_EXCEEDED, "no request came on the stream"
            )
            if self._call.handler is None:
                # It has only just been opened: that it may send goes out with what it is told first.
                self._call.release()
            else:
                # Not at once: another stream is in the middle of something.
                asyncio.get_running_loop().call_soon(self._call.release)

    async def _begin(self) -> None:
        server, waiting = self._server, self._waiting
        node = waiting[0][1] if waiting else None
        if self._peer is None or node is None or waiting is None:
            return
        try:
            self._subscription = await server.source.open(self._peer, node, self.wake)
        except Refused as error:
            self.end(grpc.StatusCode.PERMISSION_DENIED, str(error))
            return
        if self._call is None:
            self._subscription.close()
            self._subscription = None
            return
        session = Session(
            self._subscription.catalog,
            delta=self.delta,
            version=self._subscription.version,
            previous=server.residue_of(self._peer, node.id),
            patches=bool(node.metadata.get(PATCHES)),
            together=server.together,
        )
        self._connection = server.admitted(self, session, self._peer, node, self._call.peer.address)
        self._waiting = None
        self._task = None
        try:
            for request, _ in waiting:
                if events := session.receive(request):
                    server.observer.events(self._connection, events)
        except ProtocolError as error:
            self.end(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return
        # Once for all that has come so far: what is known of all types is answered in order, and goes out together.
        self.push()

    # The session.

    def wake(self, changed: Changed | None) -> None:
        """The catalog has changed."""
        connection, subscription = self._connection, self._subscription
        if connection is not None and subscription is not None:
            session = connection.session
            session.update(subscription.catalog, changed, subscription.version)
            if session.may_send:
                self._server.pushing.add(self)

    def _receive(self, request: DeltaRequest | SotwRequest) -> None:
        connection = self._connection
        if connection is None:
            return
        events = connection.session.receive(request)
        server = self._server
        if events:
            server.observer.events(connection, events)
        if self._filling:
            self.push()
        elif connection.session.settled:
            server.observer.settled(connection)
        elif connection.session.may_send:
            server.pushing.answered(self)

    def push(self) -> None:
        """Send what is due, as far as the client reads."""
        try:
            self._push()
        except Exception:
            # The streams that wait behind it must not wait for ever.
            self._failed("response")

    def _push(self) -> None:
        call, connection = self._call, self._connection
        if call is None or connection is None:
            return
        session, server = connection.session, self._server
        sent = False
        while call.ready and (response := session.next()) is not None:
            sent = True
            shared = response.shared
            message = None if shared is None else shared.message
            if message is not None:
                server.count(response.type_url, len(message) - PREFIX)
                call.send_framed(message)
                continue
            parts = server.encoder.delta(response) if self.delta else server.encoder.sotw(response)
            size = sum(map(len, parts))
            server.count(response.type_url, size)
            if shared is not None and size <= KEPT_BYTES:
                shared.message = framed(parts)
            call.send(*parts)
        call.flush()
        if sent or not session.settled:
            return
        server.observer.settled(connection)
        if self._filling:
            self._filling = False
            server.admission.leave(self)

    def end(self, code: grpc.StatusCode, details: str, later: float | None = None) -> None:
        """End the stream; the client should come again after `later` seconds.

        A client that is refused may still write its first requests, and would lose the reason.
        """
        call = self._call
        if call is None:
            return
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            later = _NO_ROOM_SECONDS
        hint = () if later is None else ((_PUSHBACK, str(round(later * 1000))),)
        if self._connection is not None or code is grpc.StatusCode.OK:
            call.finish(code, details, hint)
            return
        self._refused = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(REFUSAL_SECONDS, call.finish, code, details, hint)
