"""How many connections each listener of Envoy has open: asked of its admin interface when somebody wants to know."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from fairlead.agent import http
from fairlead.model.report import MAX_LISTENERS, OpenConnections

_GAUGES = r"/stats?filter=^listener\..*\.downstream_cx_active$"
_LISTENERS = "/listeners?format=json"
Fetch = Callable[[str], Awaitable[http.Response]]
"""Reads a path of Envoy's admin interface."""


async def open_connections(fetch: Fetch) -> dict[str, int]:
    """Connections by the listener's name, as peers and applications have made them. Raises http.HTTPFailure."""
    names = _names((await fetch(_LISTENERS)).body)
    found: dict[str, int] = {}
    for line in (await fetch(_GAUGES)).body.decode("utf-8", "replace").splitlines():
        gauge, _, value = line.partition(": ")
        # Gauges of single workers and of the admin interface are called after no listener.
        name = names.get(gauge.removeprefix("listener.").removesuffix(".downstream_cx_active"))
        if name is not None and value.isdecimal():
            found[name] = found.get(name, 0) + int(value)
    return found


async def reported(fetch: Fetch) -> tuple[OpenConnections, ...] | None:
    """What a report says of them; None if Envoy does not answer."""
    try:
        found = await open_connections(fetch)
    except http.HTTPFailure:
        return None
    busy = sorted((one for one in found.items() if one[1]), key=lambda one: (-one[1], one[0]))
    return tuple(OpenConnections(name, count) for name, count in busy[:MAX_LISTENERS])


def _names(body: bytes) -> dict[str, str]:
    """Names of listeners by what Envoy calls their statistics: a prefix of their own, or else their address."""
    answer: Any = json.loads(body or b"{}")
    found: dict[str, str] = {}
    for one in cast("list[dict[str, Any]]", answer.get("listener_statuses", [])):
        name = str(one.get("name"))
        found[name] = name
        address = cast("dict[str, dict[str, Any]]", one.get("local_address") or {}).get("socket_address")
        if address is not None:
            host = str(address.get("address"))
            host = f"[{host}]" if ":" in host else host
            found[f"{host}_{address.get('port_value')}".replace(":", "_")] = name
    return found
