"""Unary gRPC methods, as `grpc.aio` servers define them, on the transport of a port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

import grpc

from fairlead.xds.port import Listener
from fairlead.xds.transport import Call

_log = logging.getLogger(__name__)


class _Aborted(Exception):
    """The method has ended its call."""


class _Context:
    """What of `grpc.aio.ServicerContext` a unary method may use."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._peer = call.peer

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return self._peer.auth_context()

    def peer(self) -> str:
        return self._peer.address

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self._call.metadata

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str]] = ()
    ) -> NoReturn:
        self._call.finish(code, details, trailing_metadata)
        raise _Aborted


class Unary:
    """Answers one call of a unary method. Its task is kept in `tasks` while it runs."""

    __slots__ = ("_body", "_call", "_method", "_task", "_tasks")

    def __init__(self, call: Call, method: grpc.RpcMethodHandler[Any, Any], tasks: set[asyncio.Task[None]]) -> None:
        self._call = call
        self._method = method
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._body: bytes | None = None

    def message(self, body: bytes) -> None:
        """The request."""
        self._body = body

    def finished(self) -> None:
        """The request is whole."""
        if self._body is None:
            self._call.finish(grpc.StatusCode.INTERNAL, "a unary call without a request")
            return
        self._task = asyncio.get_running_loop().create_task(self._answer(self._body))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    def writable(self) -> None:
        """There is no more than one answer."""

    def lost(self) -> None:
        """The call is over."""
        if self._task is not None and self._task is not _current():
            self._task.cancel()

    async def _answer(self, body: bytes) -> None:
        method = self._method
        try:
            decode = cast("Callable[[bytes], Any]", method.request_deserializer)
            encode = cast("Callable[[Any], bytes]", method.response_serializer)
            serve = cast("Any", method.unary_unary)
            self._call.send(encode(await serve(decode(body), _Context(self._call))))
            self._call.finish(grpc.StatusCode.OK)
        except _Aborted:
            pass
        except Exception:
            _log.exception("%s failed", self._call.method)
            self._call.finish(grpc.StatusCode.INTERNAL, "the control plane failed at this call; its log says more")


class Methods:
    """The unary methods of gRPC services, and the calls of them that are being answered."""

    def __init__(self, services: Sequence[grpc.GenericRpcHandler]) -> None:
        self._services = tuple(services)
        self._running: set[asyncio.Task[None]] = set()

    def open(self, call: Call) -> Unary | None:
        """What answers a call; None if there is no such method."""
        for one in self._services:
            found = one.service(_Details(call))
            if found is not None:
                return Unary(call, found, self._running)
        return None

    async def done(self, grace: float) -> None:
        """Wait until every call is answered, for at most `grace` seconds."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)

    async def cancel(self) -> None:
        """End what is still being answered."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


class _Details(grpc.HandlerCallDetails):
    def __init__(self, call: Call) -> None:
        self.method = call.method
        self.invocation_metadata = tuple(call.metadata)


class UnaryServer:
    """A port with server TLS only: unary methods whose callers say in their requests who they are.

    `certificate` gives the current key and chain (PEM) of the server; it is asked before each handshake, so a renewed
    certificate is used without a restart. `name` is what the port is called in errors, `most` the bytes of a request.
    """

    def __init__(
        self,
        name: str,
        address: str,
        certificate: Callable[[], tuple[bytes, bytes]],
        services: Sequence[grpc.GenericRpcHandler],
        most: int,
    ) -> None:
        self._name = name
        self._address = address
        self._methods = Methods(services)
        self._listener = Listener(self._methods.open, lambda: (*certificate(), b""), most)

    @property
    def port(self) -> int:
        """Where it listens, 0 before it does."""
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises OSError with the address if it cannot be bound."""
        await self._listener.listen(self._name, self._address)

    async def stop(self, grace: float = 1) -> None:
        """Send GOAWAY, give calls `grace` seconds to end, then cut them."""
        await self._methods.done(grace)
        await self._listener.stop(grace)
        await self._methods.cancel()


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
