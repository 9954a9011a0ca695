"""Reports in the place of an agent, until standard input ends: run as a process of its own.

    python -m tests.e2e.faults.running.reporting AGENT.json '{"late": 600}'
    python -m tests.e2e.faults.running.reporting AGENT.json '{"unrenewed": "no space left", "left": 1800}'

The agent itself goes on reporting, so it is said again and again; at the end what is right is said once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from fairlead.agent import identity
from fairlead.agent.bootstrap import node_id
from fairlead.agent.certificates import channel
from fairlead.model.launch import AgentConfig
from fairlead.model.report import METHOD, AgentReport, Ailments


async def _report(config: AgentConfig, wrong: dict[str, Any]) -> None:
    current = identity.load(Path(config.directory), identity.spiffe_id(config))
    assert current is not None
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async with channel(config.xds_address, current.roots, current) as link:
        call: Any = link.unary_unary(METHOD)
        while True:
            now = time.time()
            right = AgentReport(node_id(config), not_after=current.not_after, time=now)
            said = msgspec.structs.replace(
                right,
                time=now - wrong.get("late", 0),
                ailments=Ailments(certificate=wrong.get("unrenewed", "")),
                not_after=now + wrong["left"] if "left" in wrong else current.not_after,
            )
            await call(msgspec.json.encode(right if over.done() else said))
            if over.done():
                return
            await asyncio.wait([over], timeout=0.2)


if __name__ == "__main__":
    given = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=AgentConfig)
    asyncio.run(_report(given, json.loads(sys.argv[2])))
