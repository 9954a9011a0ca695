"""Open connections by listener, out of Envoy's gauges."""

from __future__ import annotations

import asyncio
import json

from fairlead.agent.connections import open_connections, reported
from fairlead.agent.http import HTTPFailure, Response
from fairlead.model.report import OpenConnections


def _listener(name: str, address: str, port: int) -> dict[str, object]:
    return {"name": name, "local_address": {"socket_address": {"address": address, "port_value": port}}}


LISTENERS = [
    _listener("virtualInbound", "0.0.0.0", 15006),
    _listener("0.0.0.0_80", "0.0.0.0", 80),
    _listener("six", "::1", 81),
    {"name": "pipe", "local_address": {"pipe": {"path": "/run/x"}}},
]
GAUGES = """listener.0.0.0.0_15006.downstream_cx_active: 7
listener.0.0.0.0_15006.worker_0.downstream_cx_active: 4
listener.0.0.0.0_80.downstream_cx_active: 0
listener.[__1]_81.downstream_cx_active: 2
listener.admin.downstream_cx_active: 1
listener.pipe.downstream_cx_active: 3
nonsense
"""


async def fetch(path: str) -> Response:
    body = json.dumps({"listener_statuses": LISTENERS}) if path.startswith("/listeners") else GAUGES
    return Response(200, body.encode(), "text/plain")


async def away(_: str) -> Response:
    raise HTTPFailure("away")


def test_gauges_are_given_to_listeners_by_name() -> None:
    assert asyncio.run(open_connections(fetch)) == {"virtualInbound": 7, "0.0.0.0_80": 0, "six": 2, "pipe": 3}


def test_a_report_has_those_with_connections_first_the_most() -> None:
    assert asyncio.run(reported(fetch)) == (
        OpenConnections("virtualInbound", 7),
        OpenConnections("pipe", 3),
        OpenConnections("six", 2),
    )
    assert asyncio.run(reported(away)) is None
