"""The rows of the table: each makes changes, and tells what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import Any

import msgspec

from bench.scale import mesh
from bench.scale.fleets import Acknowledged, Fleets
from bench.scale.mesh import Size
from bench.scale.plane import Plane
from bench.scale.proxy import CLUSTER, ENDPOINT, LISTENER, ROUTE

_WRITERS = 8
"""Clients that make changes at once."""


class Row(msgspec.Struct):
    """One figure. Times are seconds; `values` holds one for each run; None in `target` means that none is set."""

    name: str
    unit: str
    values: list[float]
    target: float | None = None
    detail: dict[str, Any] = {}

    @property
    def figure(self) -> float:
        """The median."""
        return median(self.values)


class Bench:
    """A running mesh and fleet."""

    def __init__(self, size: Size, plane: Plane, fleets: Fleets, runs: int) -> None:
        self.size = size
        self.plane = plane
        self.fleets = fleets
        self.runs = runs
        self._marks = 0

    def mark(self) -> str:
        """A text that no object has held before."""
        self._marks += 1
        return f"mark-{self._marks}-{time.monotonic_ns() % 10**9}"

    def _timed(
        self, expectation: tuple[str, str, str], change: Callable[[], Any], among: Collection[int] | None
    ) -> Any:
        waiting = self.fleets.expect(*expectation, among=among)
        before = self.fleets.counters()
        begun = time.monotonic()
        change()
        committed = time.monotonic() - begun
        found = waiting.wait(begun)
        after = self.fleets.settle(0.1)
        return found, committed, after["bytes"] - before["bytes"], waiting.count

    def change(
        self,
        name: str,
        target: float | None,
        make: Callable[[int, str], tuple[tuple[str, str, str], Callable[[], Any]]],
        among: Collection[int] | None = None,
    ) -> Row:
        """A change that proxies acknowledge: the time by which 99 % of them did, in each of the runs."""
        p99: list[float] = []
        detail: dict[str, Any] = {"last": [], "p50": [], "api": [], "bytes_per_proxy": [], "cpu": []}
        for run in range(self.runs):
            expectation, act = make(run, self.mark())
            cpu = self.plane.cpu()
            found, committed, received, count = self._timed(expectation, act, among)
            detail["cpu"].append(self.plane.cpu() - cpu)
            p99.append(found.percentile(0.99))
            detail["last"].append(found.percentile(1))
            detail["p50"].append(found.percentile(0.5))
            detail["api"].append(committed)
            detail["bytes_per_proxy"].append(received / max(count, 1))
            detail["proxies"] = count
        return Row(name, "s", p99, target, detail)

    # The changes.

    def endpoint(self, target: float | None) -> Row:
        """An address of one endpoint."""
        size = self.size

        def make(run: int, _: str) -> tuple[tuple[str, str, str], Callable[[], Any]]:
            index = (run * 7 + 3) % size.services
            address = f"10.251.{run % 250}.{(self._marks % 250) + 1}"
            entry = mesh.entry(size, index, 0)
            name = f"outbound|80||{size.host(index)}"
            return (ENDPOINT, name, address), lambda: self.plane.patch(entry, {"spec": {"address": address}})

        return self.change("endpoint change", target, make)

    def routes(self, target: float | None, *, private: bool = False) -> Row:
        """Routes of a service, seen by all or by one namespace."""
        size = self.size
        index = min(11, size.services - 1)
        name = "private" if private else "bench"

        def make(_: int, mark: str) -> tuple[tuple[str, str, str], Callable[[], Any]]:
            made = mesh.virtual_service(size, index, name, mark, private=private)
            return (ROUTE, "", mark), lambda: self.plane.apply(made)

        # The first makes the object; what is timed are changes of it.
        self._once(make)
        if not private:
            return self.change("VirtualService seen by all", target, make)
        seen = [one["index"] for one in self.fleets.members if one["namespace"] == size.namespace(index)]
        return self.change("VirtualService seen in one namespace", target, make, seen)

    def _once(self, make: Callable[[int, str], Any]) -> None:
        _, act = make(0, self.mark())
        act()
        self.fleets.settle()

    def policy(self, target: float | None) -> Row:
        """A traffic policy of a service."""
        size = self.size
        index = min(13, size.services - 1)

        def make(_: int, mark: str) -> tuple[tuple[str, str, str], Callable[[], Any]]:
            made = mesh.destination_rule(size, index, "bench", mark)
            return (CLUSTER, f"outbound|80||{size.host(index)}", mark), lambda: self.plane.apply(made)

        self._once(make)
        return self.change("DestinationRule seen by all", target, make)

    def authorization(self, target: float | None) -> Row:
        """Permissions of the workloads of one service."""
        size = self.size
        chosen = next(one for one in self.fleets.members if one["role"] == "prompt")
        index = int(chosen["account"][1:])
        seen = [one["index"] for one in self.fleets.members if one["account"] == chosen["account"]]

        def make(_: int, mark: str) -> tuple[tuple[str, str, str], Callable[[], Any]]:
            made = mesh.authorization(size, index, "bench", mark)
            return (LISTENER, "virtualInbound", mark), lambda: self.plane.apply(made)

        self._once(make)
        return self.change("AuthorizationPolicy for one workload", target, make, seen)

    def service(self, target: float | None) -> Row:
        """A service that was not there."""
        size = self.size

        def make(run: int, mark: str) -> tuple[tuple[str, str, str], Callable[[], Any]]:
            made = mesh.service(size, 62000 + run, mark)
            namespace = made["metadata"]["namespace"]
            name = f"outbound|80||{mark}.{namespace}.svc.cluster.local"
            return (CLUSTER, name, ""), lambda: self.plane.apply(made)

        return self.change("new service", target, make)

    def nothing(self) -> list[Row]:
        """Writes that mean nothing to proxies: bytes that were pushed, and rules that ran beyond the first."""
        size, index = self.size, min(5, self.size.services - 1)
        entry = mesh.entry(size, index, 0)
        route = mesh.virtual_service(size, index, "idle", "idle")
        self.plane.apply(route)
        self.fleets.settle()
        acts: dict[str, Callable[[int], Any]] = {
            "metadata-only edit": lambda run: self.plane.patch(
                route, {"metadata": {"annotations": {"bench": f"{run}{self.mark()}"}}}
            ),
            "status write": lambda run: self.plane.patch(
                entry,
                {"status": {"conditions": [{"type": "Bench", "status": "True", "message": f"{run}"}]}},
                "status",
            ),
            "unchanged re-apply": lambda _: self.plane.apply(route),
        }
        rows: list[Row] = []
        for name, act in acts.items():
            pushed: list[float] = []
            rules: list[float] = []
            for run in range(self.runs):
                before, ran = self.fleets.settle(), _rules(self.plane)
                act(run)
                after = self.fleets.settle(0.2)
                pushed.append(after["bytes"] - before["bytes"])
                rules.append(_rules(self.plane) - ran)
            rows.append(Row(f"{name}: bytes pushed", "B", pushed, 0, {"rules": rules}))
        return rows

    def churn(self, target: float | None, seconds: float, rate: float = 100) -> Row:
        """Changes at a rate, nine endpoints to one route; then how far behind the last of them the fleet is.

        They come from several clients, as in a mesh: one alone would wait for each answer before its next change, and
        the rate would be the control plane's to choose.
        """
        size = self.size
        # Of one that went before, everything has arrived.
        self.fleets.settle()
        cpu, before = self.plane.cpu(), self.plane.metrics()
        begun = time.monotonic()
        total = int(seconds * rate)
        with ThreadPoolExecutor(_WRITERS) as writers:
            sent: list[Future[float]] = []
            for number in range(total):
                due = begun + number / rate
                now = time.monotonic()
                if now < due:
                    time.sleep(due - now)
                sent.append(writers.submit(self._churned, number, due))
            late = max(one.result() for one in sent)
        took = time.monotonic() - begun
        detail = {"changes": total, "seconds": took, "rate": total / max(took, 1e-9), "driver_late": late}
        self._marks += 1
        index, where = 1 % size.services, f"10.253.0.{self._marks % 250 + 1}"
        waiting = self.fleets.expect(ENDPOINT, f"outbound|80||{size.host(index)}", where)
        last = time.monotonic()
        self.plane.patch(mesh.entry(size, index, 0), {"spec": {"address": where}})
        found: Acknowledged = waiting.wait(last)
        # Not before: a look at the metrics would be a pause in which everything catches up.
        after = self.plane.metrics()
        detail["cpu_per_change"] = (self.plane.cpu() - cpu) / max(total, 1)
        for name in ("passes", "pushes"):
            detail[f"{name}_per_change"] = (_counted(after, name) - _counted(before, name)) / max(total, 1)
        return Row("churn: lag at the end", "s", [found.percentile(0.99)], target, detail)

    def _churned(self, number: int, due: float) -> float:
        """Make one of the changes; how long after it was due it was accepted (seconds)."""
        size = self.size
        if number % 10 == 9:
            self.plane.apply(mesh.virtual_service(size, number % 5, f"churn{number % 5}", f"churn-{number}"))
        else:
            where = f"10.252.{number // 250 % 250}.{number % 250 + 1}"
            entry = mesh.entry(size, number * 17 % size.services, number % size.endpoints)
            self.plane.patch(entry, {"spec": {"address": where}})
        return time.monotonic() - due


def _counted(metrics: dict[str, float], name: str) -> float:
    return sum(value for key, value in metrics.items() if key.startswith(f"fairlead_{name}_total"))


def _rules(plane: Plane) -> float:
    return sum(value for name, value in plane.metrics().items() if name.startswith("fairlead_rules_run_total"))
