"""GET `/fairlead/v1/check`: what the control plane can say of its own state. Administrators only."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead import __version__
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.operations import administrators
from fairlead.model.diagnostic import Severity
from fairlead.store.store import Store


def check_routes(
    store: Store,
    file: Path,
    feed: Feed,
    further: Callable[[], list[str]],
) -> list[BaseRoute]:
    """The route. `file` is the store's; `further` gives findings beside the model's."""

    def disk() -> tuple[str, int, int]:
        size = file.stat().st_size if file.exists() else 0
        return store.integrity(), size, shutil.disk_usage(file.parent).free

    async def check(_: Request) -> Response:
        # In a thread: a large store takes a while to read.
        integrity, size, free = await asyncio.to_thread(disk)
        found = [one for one in feed.model.diagnostics() if one.severity is not Severity.INFO]
        return JSONResponse(
            {
                "version": __version__,
                "time": time.time(),
                "integrity": integrity,
                "objects": store.count(),
                "revision": store.revision,
                "compiled": feed.revision,
                "storeBytes": size,
                "diskFree": free,
                "invalid": [str(ref) for ref in sorted(feed.invalid)],
                "findings": len(found) + len(further()),
            }
        )

    return [Route("/fairlead/v1/check", administrators(check))]
