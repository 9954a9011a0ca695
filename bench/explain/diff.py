"""What `fairlead diff`, `explain` and `affects` cost, with many live proxies, warm, in processor time.

`python -m bench.explain.diff [--services N] [--proxies N]`

Live proxies are open views of one model, as in the control plane: sidecars of all workloads, with addresses and labels
of their own. The time is that of supposing the change, comparing, saying it in words, and taking it back (which the
control plane need not do).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.scale.mesh import Size, documents, virtual_service
from fairlead.compiler.model import MeshModel
from fairlead.effect import effects, report
from fairlead.effect.affected import affected
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.ir.view import View
from fairlead.model.path import ROOT
from fairlead.model.ref import Ref
from fairlead.provenance.trace import study, trace
from fairlead.simulate.standin import FileWorkloads, proxies

_NAMESPACES = 20
_RUNS = 9


def loaded(size: Size, count: int) -> tuple[MeshModel, dict[View, list[str]]]:
    """The mesh with its views open; each tenth service has routes of its own."""
    model = MeshModel()
    made = [*documents(size), *(virtual_service(size, at, f"v{at}", "r") for at in range(0, size.services, 10))]
    model.apply(one for one in (model.kinds.read(document)[0] for document in made) if one is not None)
    names: dict[View, list[str]] = {}
    for one in proxies(FileWorkloads(model))[:count]:
        names.setdefault(one.view, []).append(one.shown)
        model.publisher.open(one.view)
    model.publisher.refresh()
    return model, names


def told(model: MeshModel, names: dict[View, list[str]], changed: list[Any], deleted: list[Ref]) -> dict[str, Any]:
    """What `diff` answers."""
    with model.supposing(changed, deleted) as differing:
        found = effects(differing, model.publisher.catalog)
    return report(found, lambda view: names.get(view, ()))


def row(name: str, run: Callable[[int], str], runs: int = _RUNS) -> None:
    """One line of the table: median and slowest in ms, and what came out."""
    took: list[float] = []
    out = ""
    for number in range(runs):
        begun = time.process_time()
        out = run(number)
        took.append((time.process_time() - begun) * 1000)
    print(f"{name:<38} {statistics.median(took):9.1f} {max(took):9.1f}   {out}")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--services", type=int, default=1000)
    options.add_argument("--proxies", type=int, default=1000)
    given = options.parse_args()
    size = Size(given.services, 1, _NAMESPACES)
    begun = time.process_time()
    model, names = loaded(size, given.proxies)
    count = sum(map(len, names.values()))
    print(f"{size.services} services, {count} proxies: ready after {time.process_time() - begun:.1f} s; ms:")
    print(f"{'':<38} {'median':>9} {'slowest':>9}")

    def edited(number: int) -> str:
        index = (number * 10 + 10) % size.services
        new = model.kinds.read(virtual_service(size, index, f"v{index}", f"changed{number}"))[0]
        found = told(model, names, [new], [])
        return f"{found['proxies']} proxies in {len(found['effects'])} groups"

    def removed(number: int) -> str:
        found = told(model, names, [], [_service(size, number + 1)])
        return f"{found['proxies']} proxies in {len(found['effects'])} groups, {len(found['dangers'])} dangers"

    def traced(number: int) -> str:
        index = (number * 10 + 10) % size.services
        view = next(iter(names))
        route = next(iter(sorted(model.publisher.catalog(view)[ROUTE])))
        found = trace(model, view, ROUTE, route, f"virtualHosts[{size.host(index)}*]/routes[0]/route")
        return f"{len(found)} fields"

    def explained(type_url: str, name: str, exact: bool = False) -> Callable[[int], str]:
        def run(number: int) -> str:
            view, host = list(names)[number], size.host((number * 10 + 10) % size.services)
            made = study(model, view, type_url, name.replace("HOST", host), exact=exact)
            return f"{len(made.influences)} objects{', not exact' if made.inexact else ''}"

        return run

    def affects(number: int) -> str:
        at = (number * 10 + 10) % size.services
        ref = Ref("networking.istio.io", "VirtualService", size.namespace(at), f"v{at}")
        found = affected(model, ref, ROOT, lambda view: names.get(view, ()))
        return f"{sum(one['proxies']['count'] for one in found['affects'])} proxies"

    row("diff: a VirtualService edited", edited)
    row("diff: a Service deleted", removed)
    row("explain: a route of a virtual host", traced)
    row("explain: a cluster", explained(CLUSTER, "outbound|80||HOST"))
    row("explain: endpoints", explained(ENDPOINT, "outbound|80||HOST"))
    row("explain: the inbound listener", explained(LISTENER, "virtualInbound"))
    row("explain: all routes of a port", explained(ROUTE, "80"))
    row("affects: a VirtualService", affects)
    print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


def _service(size: Size, index: int) -> Ref:
    name, namespace, *_ = size.host(index).split(".")
    return Ref("", "Service", namespace, name)


if __name__ == "__main__":
    main()
