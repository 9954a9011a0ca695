"""How long each question holds the control plane's event loop, in processor time.

`python -m bench.explain.loop [--services N] [--endpoints N] [--proxies N] [--runs N] [--only WORD...]`

A control plane in a process of its own, with simulated proxies connected (`bench/scale`). Every turn of its loop is
timed by the thread's own processor clock, so other work on the machine does not count; what threads and copies of the
process do is not the loop's. Printed is the longest turn while a question was asked, and what ran in it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.explain.served import Fleet, served
from bench.scale import mesh
from bench.scale.mesh import Size
from bench.scale.plane import Plane
from fairlead.cli.client import PATIENCE, Client, Refused, read_kubeconfig

Json = dict[str, Any]
SERVICE = "kind=Service&namespace=NAMESPACE&name=sINDEX"
RULE = "group=networking.istio.io&kind=VirtualService&namespace=NAMESPACE&name=vINDEX"
PROGRAM = """
import asyncio, os, time
import uvloop
uvloop.run = asyncio.run
run, clock = asyncio.Handle._run, time.thread_time
out = open(os.environ["FAIRLEAD_BENCH_TURNS"], "a", buffering=1)
def timed(handle):
    begun = clock()
    run(handle)
    took = clock() - begun
    if took > 0.004:
        task = getattr(handle._callback, "__self__", None)
        name = getattr(task, "get_coro", lambda: handle._callback)()
        out.write(f"{time.monotonic()} {took * 1000} {getattr(name, '__qualname__', name)}\\n")
asyncio.Handle._run = timed
from fairlead.cli.main import main
main()
"""


class Question(NamedTuple):
    """One request to the API; the number of the run makes each another one."""

    name: str
    ask: Callable[[int], object]


class Asking:
    """Asks as the commands do."""

    def __init__(self, client: Client, size: Size, back: int) -> None:
        self._client = client
        self._size = size
        revision = client.request("GET", "/fairlead/v1/history?limit=1").document["revision"]
        self._then = revision - back

    def all(self) -> Iterator[Question]:
        """Every question."""
        yield from self._settings()
        yield from self._requests()
        yield from self._objects()
        yield from self._proxies()

    def _get(self, path: str) -> Callable[[int], object]:
        def ask(number: int) -> object:
            at = number * 10 % self._size.services
            said = path.replace("NAMESPACE", self._size.namespace(at)).replace("INDEX", str(at))
            return self._client.request("GET", said.replace("HOST", self._size.host(at)), seconds=PATIENCE)

        return ask

    def _post(self, path: str, body: Callable[[int], Json]) -> Callable[[int], object]:
        def ask(number: int) -> object:
            return self._client.request("POST", path, body(number * 10 % self._size.services), seconds=PATIENCE)

        return ask

    def _edited(self, at: int) -> Json:
        return mesh.virtual_service(self._size, at, f"v{at}", "changed")

    def _settings(self) -> Iterator[Question]:
        here = f"/fairlead/v1/explain/s1-0.{self._size.namespace(1)}?path="
        effect = "/fairlead/v1/effect"
        yield Question(
            "diff: a VirtualService edited", self._post(effect, lambda at: {"documents": [self._edited(at)]})
        )
        yield Question("diff --against", self._post(effect, lambda _: {"against": self._then}))
        yield Question("explain: names", self._get(here))
        yield Question("explain: a cluster", self._get(f"{here}clusters/*%7CHOST"))
        yield Question("explain: all routes of the port", self._get(f"{here}routes/80"))
        yield Question("explain --every: all routes", self._get(f"{here}routes/80&every=true"))
        yield Question("explain --exact: all routes", self._get(f"{here}routes/80&exact=true"))
        yield Question("explain: the inbound listener", self._get(f"{here}listeners/virtualInbound"))
        yield Question("explain --at: a listener", self._get(f"{here}listeners/virtualInbound&at={self._then}"))
        yield Question("affects: a VirtualService", self._get(f"/fairlead/v1/affects?{RULE}"))
        yield Question("affects: a Service", self._get(f"/fairlead/v1/affects?{SERVICE}"))

    def _requests(self) -> Iterator[Question]:
        def called(at: int) -> Json:
            caller = {"kind": "workload", "name": "s1-0", "namespace": self._size.namespace(1)}
            return {"from": caller, "request": {"host": self._size.host(at), "port": 80}}

        why, analysis = "/fairlead/v1/why", "/fairlead/v1/analysis"
        yield Question("why", self._post(why, called))
        yield Question("why --at", self._post(why, lambda at: {**called(at), "at": self._then}))
        yield Question("why --with", self._post(why, lambda at: {**called(at), "with": [self._edited(at)]}))
        yield Question("analyze", self._post(analysis, lambda _: {}))
        yield Question("analyze FILE --live", self._post(analysis, lambda at: {"with": [self._edited(at)]}))
        yield Question("analyze --at", self._post(analysis, lambda _: {"at": self._then}))

    def _objects(self) -> Iterator[Question]:
        describe, history = "/fairlead/v1/describe", "/fairlead/v1/history"
        mutual = "group=security.istio.io&kind=PeerAuthentication&namespace=ns0&name=default"
        entries = "/apis/networking.istio.io/v1/workloadentries"
        then = f"resourceVersion={self._then}&resourceVersionMatch=Exact"
        back = "/fairlead/v1/rollback?dryRun=true"
        yield Question("describe: a Service", self._get(f"{describe}?{SERVICE}"))
        yield Question("describe: a VirtualService", self._get(f"{describe}?{RULE}"))
        yield Question("describe: a PeerAuthentication", self._get(f"{describe}?{mutual}"))
        yield Question("describe --at: a Service", self._get(f"{describe}?{SERVICE}&at={self._then}"))
        yield Question("history", self._get(history))
        yield Question("history: one revision", self._get(f"{history}/{self._then}"))
        yield Question("blame", self._get(f"/fairlead/v1/blame?{RULE}"))
        yield Question("changed", self._get("/fairlead/v1/timeline"))
        yield Question("rollback --dry-run", self._post(back, lambda _: {"to": self._then}))
        yield Question("get -A: all endpoints", self._get(entries))
        yield Question("get -A: a page of endpoints", self._get(f"{entries}?limit=500"))
        yield Question("get -A --at", self._get(f"{entries}?{then}"))
        yield Question("names of objects", self._get("/fairlead/v1/names?of=objects&kind=services&namespace=NAMESPACE"))
        yield Question("names of URLs", self._get("/fairlead/v1/names?of=urls"))

    def _proxies(self) -> Iterator[Question]:
        listed = "/fairlead/v1/proxies"
        one = f"{listed}/s1-0.{self._size.namespace(1)}"
        workload = f"kind=Proxy&namespace={self._size.namespace(1)}&name=s1-0"
        yield Question("describe: a workload", self._get(f"/fairlead/v1/describe?{workload}"))
        yield Question("what a proxy is to have", self._get(one))
        yield Question("what a proxy had --at", self._get(f"{one}/at/{self._then}"))
        yield Question("proxy-status: a page", self._get(f"{listed}?limit=500&brief=true"))
        yield Question("proxy-status: every detail", self._get(listed))
        yield Question("traffic", self._get("/fairlead/v1/traffic?refresh=true"))
        yield Question("mtls", self._get("/fairlead/v1/plaintext"))
        yield Question("check", self._get("/fairlead/v1/check"))
        yield Question("findings", self._get("/fairlead/v1/diagnostics"))
        yield Question("memory", self._get("/fairlead/v1/memory"))


def longest(turns: Path, begun: float) -> tuple[float, str]:
    """The longest turn since then, in ms, and what ran in it."""
    found = [line.split(" ", 2) for line in turns.read_text().splitlines()]
    mine = [(float(took), name) for at, took, name in found if float(at) >= begun]
    return max(mine, default=(0.0, ""))


def ask(options: argparse.Namespace, plane: Plane, size: Size, turns: Path) -> None:
    """All rows."""
    client = Client(read_kubeconfig(plane.state / "kubeconfig"))
    print(f"{'':<42} {'loop held':>9} {'answer':>8}   (ms; the first is processor time)")
    for one in Asking(client, size, options.back).all():
        if options.only and not any(word in one.name for word in options.only):
            continue
        begun, took, said = time.monotonic(), list[float](), ""
        for number in range(options.runs):
            at = time.monotonic()
            try:
                one.ask(number)
            except Refused as error:
                said = f"refused: {str(error)[:60]}"
            took.append((time.monotonic() - at) * 1000)
        time.sleep(0.2)
        held, what = longest(turns, begun)
        print(f"{one.name:<42} {held:9.0f} {statistics.median(took):8.0f}   {said or what}", flush=True)
    client.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--namespaces", type=int, default=50)
    parser.add_argument("--proxies", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--back", type=int, default=1, help="how many commits, of up to 2,000 objects each, --at goes back"
    )
    parser.add_argument("--only", nargs="*", default=[], help="words in the names of questions")
    parser.add_argument("--timeout", type=float, default=300, help="for all proxies to be in sync, seconds")
    options = parser.parse_args()
    size = Size(options.services, options.endpoints, options.namespaces)
    state = Path(tempfile.mkdtemp(prefix="fairlead-loop-"))
    turns = state / "turns"
    turns.touch()
    plane = Plane(state, f"import os; os.environ['FAIRLEAD_BENCH_TURNS'] = {str(turns)!r}\n{PROGRAM}")
    mutual = mesh.document(mesh.SECURITY, "PeerAuthentication", "ns0", "default", {"mtls": {"mode": "PERMISSIVE"}})
    with served(plane, state, size, Fleet(options.proxies, 1, options.timeout), mutual):
        ask(options, plane, size, turns)


if __name__ == "__main__":
    main()
