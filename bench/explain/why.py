"""What a question costs: walks through a mesh of 1,000 services, warm, in processor time of this process.

`python -m bench.explain.why [--services N] [--endpoints N]`
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from bench.scale.mesh import Size, authorization, documents, virtual_service
from fairlead.compiler.model import MeshModel
from fairlead.simulate.answering import answer
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.standin import FileWorkloads
from fairlead.simulate.walker import walk

_NAMESPACES = 20
_DENIED = 7
"""The service whose policy denies everybody."""


def loaded(size: Size) -> Mesh:
    """The mesh: each tenth service has routes of its own, and each tenth a policy."""
    model = MeshModel()
    made = [*documents(size)]
    for index in range(0, size.services, 10):
        made.append(virtual_service(size, index, f"v{index}", "r"))
        made.append(authorization(size, index + 1, f"p{index}", "cluster.local/ns/x/sa/y"))
    made.append(authorization(size, _DENIED, "deny", "*"))
    objects = [model.kinds.read(one)[0] for one in made]
    model.apply(one for one in objects if one is not None)
    return Mesh(model, FileWorkloads(model))


def timed(run: Callable[[int], object], count: int) -> list[float]:
    """Seconds of processor time of each run."""
    out: list[float] = []
    for number in range(count):
        begun = time.process_time()
        run(number)
        out.append(time.process_time() - begun)
    return out


def row(name: str, found: list[float]) -> None:
    """One line of the table: median and slowest, in ms."""
    print(f"{name:<46} {statistics.median(found) * 1000:8.2f} {max(found) * 1000:8.2f}")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--services", type=int, default=1000)
    options.add_argument("--endpoints", type=int, default=5)
    given = options.parse_args()
    size = Size(given.services, given.endpoints, _NAMESPACES)
    begun = time.process_time()
    mesh = loaded(size)
    print(
        f"{size.services} services, {size.services * size.endpoints} workloads loaded: "
        f"{time.process_time() - begun:.1f} s of processor time; ms:"
    )
    print(f"{'':<46} {'median':>8} {'slowest':>8}")
    caller = Caller("workload", size.namespace(3), "s3-0")

    def one(number: int) -> object:
        return walk(mesh, caller, Request(size.host(number % size.services), 80, "/"))

    def denied(_: int) -> object:
        return answer(mesh, caller, Request(size.host(_DENIED), 80, "/"))

    row("first question (everything is compiled for it)", timed(one, 1))
    row("a host that nobody has asked about", timed(lambda number: one(number * 37 + 11), 25))
    row("the same hosts again", timed(lambda number: one(number * 37 + 11), 25))
    row("a denial, with the changes that would help", timed(denied, 5))


if __name__ == "__main__":
    main()
