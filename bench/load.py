"""A load generator: connections that each send the next request when the last one is answered. Prints JSON.

Runs as a process of its own: `python -m bench.load HOST PORT --connections N --seconds S`. Uses wrk if it is there and
asked for; by default plain asyncio on uvloop with a parser that knows nothing but Content-Length.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import cast

import uvloop


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, until: float, latencies: list[float], done: asyncio.Future[None]) -> None:
        self._request, self._until, self._latencies, self._done = request, until, latencies, done
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0
        self._data = b""
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        if self._sent >= self._until:
            self._transport.close()
            return
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer; when it is whole, the next request."""
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self._latencies.append(time.perf_counter() - self._sent)
        if not head.startswith(b"HTTP/1.1 200"):
            self.errors += 1
        self._data = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, wanted or not."""
        if time.perf_counter() < self._until:
            self.errors += 1
        if not self._done.done():
            self._done.set_result(None)


async def run(host: str, port: int, name: str, connections: int, seconds: float) -> dict[str, float]:
    """Load for some seconds: counts, requests a second, latencies in milliseconds."""
    loop = asyncio.get_running_loop()
    request = f"GET / HTTP/1.1\r\nhost: {name}\r\n\r\n".encode()
    latencies: list[float] = []
    waits: list[asyncio.Future[None]] = []
    callers: list[Caller] = []
    began = time.perf_counter()
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        caller = Caller(request, began + seconds, latencies, done)
        await loop.create_connection(lambda caller=caller: caller, host, port)
        waits.append(done)
        callers.append(caller)
    await asyncio.gather(*waits)
    took = time.perf_counter() - began
    latencies.sort()

    def at(share: float) -> float:
        return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000, 3) if latencies else 0.0

    return {
        "requests": len(latencies),
        "errors": sum(caller.errors for caller in callers),
        "per_second": round(len(latencies) / took, 1),
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--name", default="echo")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    print(json.dumps(uvloop.run(run(given.host, given.port, given.name, given.connections, given.seconds))))


if __name__ == "__main__":
    main()
