"""When an agent comes again: never in step with others, and not before the server wants it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from fairlead.agent.backoff import DETAILS, LONGEST_HINT, PUSHBACK, Backoff, retry_hint


def test_waits_grow_and_are_spread() -> None:
    firsts = {Backoff(0.25, 15).next() for _ in range(50)}
    assert len(firsts) == 50 and min(firsts) >= 0.125 and max(firsts) <= 0.25
    one = Backoff(0.25, 15)
    waits = [one.next() for _ in range(12)]
    assert all(7.5 <= wait <= 15 for wait in waits[7:])
    one.reset()
    assert one.next() <= 0.25


def test_a_hint_is_waited_out_once_and_spread() -> None:
    waits: set[float] = set()
    for _ in range(50):
        one = Backoff(0.25, 15)
        one.hint(4.0)
        waits.add(one.next())
        assert one.next() <= 0.5
    assert len(waits) == 50 and min(waits) >= 4 and max(waits) <= 6
    one = Backoff(0.25, 15)
    one.hint(-0.001)
    assert 15 <= one.next() <= 22.5, "do not retry: as late as ever"
    one.hint(1e9)
    assert one.next() <= LONGEST_HINT * 1.5
    one.hint(None)
    assert one.next() <= 15


def test_what_cannot_be_read_is_not_said() -> None:
    assert retry_hint(((PUSHBACK, "soon"),)) is None
    # gRPC's own C core passes on what it cannot read as the smallest number: do not retry.
    assert (retry_hint(((PUSHBACK, str(-(2**63))),)) or 0) < 0


def details(seconds: float) -> bytes:
    wrapped = any_pb2.Any()
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    wrapped.Pack(info)
    return status_pb2.Status(code=8, details=[wrapped]).SerializeToString()


@pytest.mark.parametrize(
    ("trailers", "wanted"),
    [
        (((PUSHBACK, "1500"),), 1.5),
        (((PUSHBACK, "-1"),), -0.001),
        (((DETAILS, details(2.5)),), 2.5),
        (((DETAILS, status_pb2.Status(code=8).SerializeToString()),), None),
        (((DETAILS, b"\xff\xff"),), None),
        ((("other", "1"),), None),
    ],
)
def test_hints_are_read_from_what_a_real_server_sends(trailers: tuple[tuple[str, str]], wanted: float | None) -> None:
    async def run() -> None:
        async def refuse(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            context.set_trailing_metadata(trailers)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
            return b""

        server = grpc.aio.server()
        methods = {"Ask": grpc.unary_unary_rpc_method_handler(refuse)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_unary("/test/Ask")(b"")
                assert retry_hint(refused.value.trailing_metadata() or ()) == wanted
        finally:
            await server.stop(None)

    asyncio.run(run())
