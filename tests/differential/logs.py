"""What the Envoys said of the calls: lines of their access logs, found again by the call's number or port."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import msgspec


class Line(msgspec.Struct, frozen=True):
    """A line of an access log; what Envoy has no value for is empty."""

    listener: str
    kind: str
    pair: str | None = ""
    port: int | None = 0
    peer: str | None = ""
    code: int | None = 0
    flags: str | None = ""
    details: str | None = ""
    closed: str | None = ""
    chain: str | None = ""
    route: str | None = ""
    host: str | None = ""
    cluster: str | None = ""
    endpoint: str | None = ""
    local: str | None = ""
    failure: str | None = ""
    refused: str | None = ""


class Logs:
    """All lines since the last `forget`."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(Line)
        self._by_pair: dict[tuple[str, str], list[Line]] = defaultdict(list)
        self._by_peer: dict[tuple[str, str], list[Line]] = defaultdict(list)
        self._by_port: dict[tuple[str, int], list[Line]] = defaultdict(list)
        self.count = 0
        self.came = asyncio.Event()

    def said(self, proxy: str, text: bytes) -> None:
        """A line has come."""
        if not text.startswith(b"{"):
            return
        line = self._decoder.decode(text)
        if line.pair:
            self._by_pair[proxy, line.pair].append(line)
        if line.peer:
            self._by_peer[proxy, f"{line.peer}:{line.port}"].append(line)
        if line.port:
            self._by_port[proxy, line.port].append(line)
        self.count += 1
        self.came.set()

    def forget(self) -> None:
        """Begin anew."""
        self._by_pair.clear()
        self._by_peer.clear()
        self._by_port.clear()

    def of(self, proxy: str, pair: str, port: int) -> list[Line]:
        """What a proxy said of a call that came to it from this port."""
        found = self._by_pair.get((proxy, pair))
        return found or self._by_port.get((proxy, port), [])

    def served(self, proxy: str, pair: str, peer: str) -> list[Line]:
        """What a proxy said of a call that another proxy made of it, from this address and port."""
        return self._by_pair.get((proxy, pair)) or self._by_peer.get((proxy, peer), [])


def known(line: Line) -> dict[str, Any]:
    """The line with nothing but what it says."""
    return {name: value for name, value in msgspec.structs.asdict(line).items() if value}
