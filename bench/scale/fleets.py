"""The driver's side of the fleet: starts the processes, sends commands, gathers answers."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from bench.scale.mesh import Size, address


class Roles(NamedTuple):
    """The shares of proxies that do not behave: refuse, answer a second late, come and go."""

    nack: float = 0.01
    slow: float = 0.01
    reconnect: float = 0.01

    def of(self, index: int) -> str:
        """The role of a proxy: spread evenly, and the same in each run."""
        place = (index * 0.618033988749895 + 0.31) % 1
        for name, share in self._asdict().items():
            if place < share:
                return name
            place -= share
        return "prompt"


class Acknowledged(NamedTuple):
    """When proxies acknowledged, as seconds after the change was sent; how many did not."""

    seconds: list[float]
    missing: int

    def percentile(self, share: float) -> float:
        """The time by which this share of the proxies had answered; infinite where one has not."""
        if self.missing or not self.seconds:
            return float("inf")
        return self.seconds[min(len(self.seconds) - 1, int(len(self.seconds) * share))]


def proxies(size: Size, count: int, roles: Roles) -> list[dict[str, Any]]:
    """What each simulated proxy says of itself."""
    found: list[dict[str, Any]] = []
    for index in range(count):
        service, endpoint = index % size.services, index // size.services
        found.append(
            {
                "index": index,
                "name": f"s{service}-{endpoint}",
                "namespace": size.namespace(service),
                "account": f"s{service}",
                "address": address(service, endpoint),
                "role": roles.of(index),
            }
        )
    return found


class _Worker:
    def __init__(self, setup: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "bench.scale.fleet"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.send(setup)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put({"ended": True})

    def send(self, command: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def wait(self, key: str, value: object, timeout: float) -> dict[str, Any]:
        """The answer with this key and value."""
        kept: list[dict[str, Any]] = []
        try:
            while True:
                answer = self.answers.get(timeout=timeout)
                if "ended" in answer:
                    raise SystemExit("a process of the fleet has ended; see above")
                if answer.get(key) == value or (value is None and key in answer):
                    return answer
                kept.append(answer)
        except queue.Empty:
            raise SystemExit(f"the fleet did not answer within {timeout:.0f} s") from None
        finally:
            for one in kept:
                self.answers.put(one)


class Fleets:
    """All processes of the fleet."""

    def __init__(
        self,
        target: str,
        root: Path,
        certificates: Path,
        members: list[dict[str, Any]],
        processes: int,
        *,
        digests: bool = False,
    ) -> None:
        self.members = members
        self._number = 0
        self._workers = [
            _Worker(
                {
                    "target": target,
                    "root": str(root),
                    "certificates": str(certificates),
                    "proxies": members[number::processes],
                    "digests": digests,
                }
            )
            for number in range(processes)
        ]
        for one in self._workers:
            one.wait("ready", None, 60)

    def _all(self, command: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
        self._number += 1
        for one in self._workers:
            one.send({**command, "id": self._number})
        return [one.wait("met", self._number, timeout) for one in self._workers]

    def connect(self, rate: float) -> None:
        """Start every proxy."""
        self._all({"op": "connect", "rate": rate}, 600)

    def synced(self, since: float, timeout: float) -> Acknowledged:
        """Wait until everybody has everything."""
        return _gathered(self._all({"op": "synced", "timeout": timeout}, timeout + 30), since)

    def counters(self) -> dict[str, int]:
        """What all proxies have received and said."""
        total: dict[str, int] = {}
        for answer in self._all({"op": "counters"}, 60):
            for name, value in answer.items():
                if name != "met":
                    total[name] = total.get(name, 0) + value
        return total

    def held(self, among: Collection[int]) -> dict[int, dict[str, dict[str, str]]]:
        """What proxies hold, by proxy, type and name: versions, or hashes of bytes if they keep `digests`."""
        found: dict[int, dict[str, dict[str, str]]] = {}
        for answer in self._all({"op": "held", "among": list(among)}, 120):
            found.update({int(index): held for index, held in answer["held"].items()})
        return found

    def expect(
        self, type_url: str, name: str, mark: str, among: Collection[int] | None = None, timeout: float = 60
    ) -> Expected:
        """Begin to wait for a resource; make the change after this returns."""
        self._number += 1
        asked = {
            "op": "expect",
            "id": self._number,
            "type": type_url,
            "name": name,
            "mark": mark,
            "among": None if among is None else list(among),
            "timeout": timeout,
        }
        for one in self._workers:
            one.send(asked)
        count = sum(one.wait("expecting", self._number, 60)["count"] for one in self._workers)
        return Expected(self._workers, self._number, timeout, count)

    def cpu(self) -> float:
        """Seconds of processor time that the processes have used."""
        ticks = 0
        for one in self._workers:
            fields = Path(f"/proc/{one.process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def settle(self, quiet: float = 0.3) -> dict[str, int]:
        """Wait until nothing has been received for `quiet` seconds."""
        last = self.counters()
        while True:
            time.sleep(quiet)
            now = self.counters()
            if now["responses"] == last["responses"]:
                return now
            last = now

    def stop(self) -> None:
        """End the processes."""
        for one in self._workers:
            assert one.process.stdin is not None
            one.process.stdin.close()
        for one in self._workers:
            try:
                one.process.wait(20)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()


class Expected(NamedTuple):
    """An expectation under way, and of how many proxies."""

    workers: list[_Worker]
    number: int
    timeout: float
    count: int

    def wait(self, since: float) -> Acknowledged:
        """When they acknowledged, counted from `since` (time.monotonic)."""
        return _gathered([one.wait("met", self.number, self.timeout + 30) for one in self.workers], since)


def _gathered(answers: list[dict[str, Any]], since: float) -> Acknowledged:
    times = sorted(one - since for answer in answers for one in answer["times"])
    return Acknowledged(times, sum(answer["missing"] for answer in answers))
