"""A process of simulated proxies: one JSON command a line on standard input, one JSON answer a line."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import uvloop

from bench.scale.proxy import Expectation, Fleet, Proxy


class Process:
    """The proxies of this process and what is asked of them."""

    def __init__(self, setup: dict[str, Any]) -> None:
        host, _, port = setup["target"].rpartition(":")
        self.fleet = Fleet(host, int(port), setup["root"])
        self.fleet.digests = bool(setup.get("digests"))
        certificates: dict[str, list[str]] = json.loads(Path(setup["certificates"]).read_text())
        with tempfile.TemporaryDirectory(prefix="fairlead-fleet-") as kept:
            paths = {
                identity: _written(Path(kept) / f"{number}.pem", "".join(pair))
                for number, (identity, pair) in enumerate(certificates.items())
            }
            self.proxies = [
                Proxy(self.fleet, one, paths[f"{one['namespace']}/{one['account']}"]) for one in setup["proxies"]
            ]
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, rate: float) -> None:
        """Start all proxies, `rate` a second (0: at once)."""
        for number, proxy in enumerate(self.proxies):
            task = asyncio.create_task(proxy.run())
            task.add_done_callback(_died)
            self._tasks.append(task)
            if rate and number % 10 == 9:
                await asyncio.sleep(10 / rate)

    async def expect(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Wait until each proxy in question has acknowledged a resource."""
        among = asked["among"]
        mine = [one.index for one in self.proxies if one.role == "prompt" and (among is None or one.index in among)]
        wanted = Expectation(asked["type"], asked["name"], asked["mark"].encode(), mine)
        self.fleet.expected.append(wanted)
        self.say({"expecting": asked["id"], "count": len(mine)})
        try:
            async with asyncio.timeout(asked["timeout"]):
                await wanted.done.wait()
        except TimeoutError:
            pass
        self.fleet.expected.remove(wanted)
        return {"met": asked["id"], "times": wanted.times, "missing": len(wanted.waiting)}

    async def synced(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Wait until every proxy that behaves has everything."""
        mine = [one for one in self.proxies if one.role == "prompt"]
        try:
            async with asyncio.timeout(asked["timeout"]):
                for one in mine:
                    await one.in_sync.wait()
        except TimeoutError:
            pass
        times = [one.synced_at for one in mine if one.in_sync.is_set()]
        return {"met": asked["id"], "times": times, "missing": len(mine) - len(times), "errors": self.fleet.errors}

    def counters(self) -> dict[str, int]:
        """What was received and said so far."""
        found = self.fleet
        return {
            "responses": found.responses,
            "bytes": found.bytes,
            "acks": found.acks,
            "nacks": found.nacks,
            "connections": found.connections,
        }

    def held(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What each proxy holds, by index: versions, or hashes of bytes to be compared with a compile from nothing."""
        wanted = set(asked["among"])
        return {
            "met": asked["id"],
            "held": {
                str(one.index): one.bodies if self.fleet.digests else one.held
                for one in self.proxies
                if one.index in wanted
            },
        }

    def say(self, answer: dict[str, Any]) -> None:
        """Answer the driver."""
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    async def serve(self) -> None:
        """Take commands until the input ends."""
        reader = asyncio.StreamReader(limit=1 << 26)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        running: set[asyncio.Task[None]] = set()
        while line := await reader.readline():
            task = asyncio.create_task(self._do(json.loads(line)))
            running.add(task)
            task.add_done_callback(running.discard)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _do(self, asked: dict[str, Any]) -> None:
        match asked["op"]:
            case "connect":
                await self.connect(asked["rate"])
                self.say({"met": asked["id"]})
            case "synced":
                self.say(await self.synced(asked))
            case "expect":
                self.say(await self.expect(asked))
            case "held":
                self.say(self.held(asked))
            case _:
                self.say({"met": asked["id"], **self.counters()})


def _died(task: asyncio.Task[None]) -> None:
    """A proxy that ends by itself is a defect of the benchmark, and everybody would wait for it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)


def _written(path: Path, text: str) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return str(path)


def main() -> None:
    """Read the setup, then commands."""
    setup = json.loads(sys.stdin.readline())
    gc.freeze()
    gc.set_threshold(500_000, 50, 50)

    async def run() -> None:
        process = Process(setup)
        process.say({"ready": os.getpid()})
        await process.serve()

    uvloop.run(run())


if __name__ == "__main__":
    main()
