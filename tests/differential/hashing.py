"""Whether calls of one hash come to one endpoint: that of several which gets a call no simulator says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster

from fairlead.envoy.resource import CLUSTER
from tests.differential.agreement import Simulation, flags
from tests.differential.calls import Call
from tests.differential.logs import Line
from tests.differential.reality import Seen
from tests.differential.topology import STICKY, Json

_HASHED = (Cluster.RING_HASH, Cluster.MAGLEV)


def astray(
    simulation: Simulation, documents: Sequence[Json], calls: Sequence[Call], seen: Sequence[Seen]
) -> Iterator[tuple[Call, str, str]]:
    """Calls that came to another endpoint than an earlier one of the same hash: the earlier endpoint and theirs."""
    said = [found for one in documents if (found := _hash_of(one))]
    if not said or any(one != {"httpHeaderName": STICKY} for one in said):
        return  # which of several rules counts is another question
    known: dict[tuple[str, str, str], str] = {}
    for call, was in zip(calls, seen, strict=True):
        value = dict(call.request.headers).get(STICKY)
        line = was.first
        if value is None or line is None or not _is_plain(line) or not _is_hashed(simulation, call, line):
            continue
        # Another proxy may have other endpoints first.
        at = (f"{call.caller.kind}/{call.caller.name}/{call.request.host}", line.cluster or "", value)
        before = known.setdefault(at, line.endpoint or "")
        if before != line.endpoint:
            yield call, before, line.endpoint or ""


def _hash_of(document: Json) -> dict[str, Any]:
    spec: Json = document.get("spec") or {}
    found = ((spec.get("trafficPolicy") or {}).get("loadBalancer") or {}).get("consistentHash") or {}
    return {name: one for name, one in found.items() if name not in ("ringHash", "maglev")}


def _is_plain(line: Line) -> bool:
    return line.kind == "http" and bool(line.endpoint) and not flags(line.flags)


def _is_hashed(simulation: Simulation, call: Call, line: Line) -> bool:
    resource = simulation.catalog(call)[CLUSTER].get(line.cluster or "")
    return resource is not None and Cluster.FromString(resource.body).lb_policy in _HASHED
