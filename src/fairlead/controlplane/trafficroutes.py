"""The route that tells who calls whom: `/fairlead/v1/traffic`, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.aside import Answer, Aside, Inquiry
from fairlead.controlplane.fleet import Fleet
from fairlead.controlplane.operations import administrators, answered
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.traffic import Calls, TrafficLedger

if TYPE_CHECKING:
    from collections.abc import Mapping


def traffic_routes(proxies: Proxies, fleet: Fleet, ledger: TrafficLedger, aside: Aside) -> list[BaseRoute]:
    """`?namespace=` and `?workload=` (NAME or NAME.NAMESPACE) choose; `?refresh=true` has agents report now."""

    async def traffic(request: Request) -> Response:
        query = request.query_params
        namespace, workload = query.get("namespace", ""), query.get("workload", "")

        def wanted(node: str) -> bool:
            caller = proxies.caller(node)
            if caller is None or (namespace and caller.namespace != namespace):
                return False
            return workload in ("", caller.workload, f"{caller.workload}.{caller.namespace}")

        if query.get("refresh") == "true":
            await fleet.recall(wanted)

        def work(_: Inquiry) -> Answer:
            visible = proxies.visible()
            return Answer(200, {"calls": [_told(one, visible) for one in ledger.calls(namespace, workload)]})

        return await answered(request, aside.ask(work))

    return [Route("/fairlead/v1/traffic", administrators(traffic))]


def _told(calls: Calls, visible: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """A workload's calls, and how many services it sees now (null if none of its replicas is connected)."""
    caller = calls.caller
    seen = visible.get(f"{caller.namespace}/{caller.workload}")
    return {
        "namespace": caller.namespace,
        "workload": caller.workload,
        "labels": dict(caller.labels),
        "reported": calls.reported,
        "truncated": calls.truncated,
        "visible": None if seen is None else len(seen),
        "services": [msgspec.to_builtins(one) for _, one in sorted(calls.services.items())],
    }
