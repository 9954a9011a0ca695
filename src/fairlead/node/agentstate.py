"""What an agent says of itself, over the Unix socket in its directory (`agent.sock`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import aiohttp

from fairlead.node.api import part

CONTROL_SOCKET = "agent.sock"
_SOCKET_PATH_LIMIT = 107
_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def is_ready(directory: Path) -> bool:
    """Whether the workload takes traffic: its proxy is ready, and its readiness probe, if it has one, is content."""
    handle = -1
    path = str(directory / CONTROL_SOCKET)
    try:
        if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{handle}/{CONTROL_SOCKET}"
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession("http://agent", connector=connector, timeout=_TIMEOUT) as session:
            async with session.get("/status") as answer:
                state = cast("dict[str, Any]", await answer.json(content_type=None)) if answer.status == 200 else {}
            if part(state, "health").get("healthy") is not True or state.get("draining"):
                return False
            async with session.get("/healthz/ready") as answer:
                return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False
    finally:
        if handle >= 0:
            os.close(handle)
