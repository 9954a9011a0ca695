"""Unary gRPC methods, as `grpc.aio` servers define them, on the transport of the xds port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

import grpc

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


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
