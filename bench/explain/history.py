"""How long questions about the past take, and what the record costs a push: `python -m bench.explain.history`.

Times are processor time of this process, warm, the median of several runs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.controlplane import past
from fairlead.controlplane.chronicle import Chronicle
from fairlead.controlplane.feed import Pass
from fairlead.controlplane.progress import Progress
from fairlead.controlplane.proxylist import Known
from fairlead.controlplane.stages import Stages
from fairlead.envoy.resource import CLUSTER
from fairlead.ir.view import view_of_node
from fairlead.model.identity import Identity
from fairlead.model.ref import Ref
from fairlead.store.change import Wanted
from fairlead.store.retention import Retention
from fairlead.store.store import Store
from fairlead.store.timeline import Asked, Happening, Timeline
from fairlead.xds.server import Connection
from fairlead.xds.session import Session
from fairlead.xds.wire import Node

OBJECTS = REVISIONS = 10_000
PROXIES, PUSHES = 5_000, 20


def median(work: Callable[[], Any], times: int = 5) -> float:
    """Seconds of processor time."""
    taken: list[float] = []
    for _ in range(times):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def document(name: str, weight: int) -> dict[str, Any]:
    """A VirtualService of two destinations."""
    rules: list[dict[str, Any]] = []
    for at in range(5):
        share = weight % 100 if at == 2 else 50
        route = [
            {"destination": {"host": name, "subset": "v1"}, "weight": share},
            {"destination": {"host": name, "subset": "v2"}, "weight": 100 - share},
        ]
        rules.append({"match": [{"uri": {"prefix": f"/{at}"}}], "route": route})
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"hosts": [name], "http": rules},
    }


def ref(name: str) -> Ref:
    """The reference of such a document."""
    return Ref("networking.istio.io", "VirtualService", "shop", name)


def questions(directory: Path) -> dict[str, float]:
    """Milliseconds by question."""
    store = Store(directory / "store.db", retention=Retention(every=10**9))
    with store.transaction(author="bench") as made:
        for number in range(OBJECTS):
            made.put(ref(f"vs-{number}"), document(f"vs-{number}", 1))
    for number in range(REVISIONS):
        store.put(ref("vs-7"), document("vs-7", number), author="bench")
    timeline = Timeline(directory / "timeline.db")
    for number in range(100_000):
        timeline.note(Happening(time.time(), "joined", f"connected {number}", "", f"p{number}.shop"))
    timeline.flush()
    one = Wanted("networking.istio.io", "VirtualService", "shop", "vs-7")
    asked = {
        "history, newest 50 of 10,000": lambda: past.commits(store, Wanted(limit=50)),
        "history of one object, all 10,000": lambda: past.commits(store, one),
        "blame, 10,000 versions": lambda: past.blame(store.versions(ref("vs-7")), None),
        "blame, one of 10,000 objects": lambda: past.blame(store.versions(ref("vs-9")), None),
        "show one revision": lambda: past.shown(store, 5_000),
        "changed, newest 200 of 100,000": lambda: timeline.listing(Asked(limit=200)),
        "back to the first revision": lambda: past.restored(store, 1, None),
    }
    found = {name: median(work) * 1000 for name, work in asked.items()}
    timeline.close()
    store.close()
    return found


def recording(directory: Path) -> float:
    """Microseconds of processor time that the record takes for each proxy and push, with writing."""
    timeline = Timeline(directory / "timeline2.db")
    progress = Progress(Stages(), time.monotonic)
    chronicle = Chronicle(timeline, lambda: 1, time.monotonic)
    known: list[Known] = []
    for number in range(PROXIES):
        name = f"sidecar~10.0.0.1~web-{number}.ns{number % 50}~ns{number % 50}.svc.cluster.local"
        # No two proxies share a view: the dearest case.
        node = Node(
            name, metadata={"NAMESPACE": f"ns{number % 50}", "INSTANCE_IPS": f"10.0.{number >> 8}.{number & 255}"}
        )
        peer = Identity("cluster.local", f"ns{number % 50}", "web")
        connection = Connection(number, peer, node, "127.0.0.1:1", Session({}, delta=True))
        known.append(Known(connection, view_of_node(name, node.metadata)))
    views = {one.view for one in known}
    told = dict.fromkeys(views, 1)
    made = Pass({view: {CLUSTER: {"outbound|80||a": None}} for view in views}, {ref("vs-7"): 1}, time.monotonic())

    def push() -> None:
        number = progress.changed(made.since, [one.standing for one in known])
        chronicle.pushed(made, number, told)
        for one in known:
            chronicle.caught_up(one, one.standing.passes)
            progress.caught_up(one.standing)
        timeline.flush()

    def bare() -> None:
        progress.changed(made.since, [one.standing for one in known])
        for one in known:
            progress.caught_up(one.standing)

    took = (median(push, PUSHES) - median(bare, PUSHES)) / PROXIES * 1e6
    timeline.close()
    return took


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        for what, milliseconds in questions(Path(name)).items():
            print(f"{what:<40} {milliseconds:8.1f} ms")
        print(f"{'the record, for each proxy and push':<40} {recording(Path(name)):8.2f} us")


if __name__ == "__main__":
    main()
