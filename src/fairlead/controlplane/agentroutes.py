"""GET `/fairlead/v1/agents`: what agents say of their hosts: their clocks, and what is wrong. Administrators only."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.fleet import Fleet
from fairlead.controlplane.operations import administrators
from fairlead.store.transaction import timestamp


def agent_routes(fleet: Fleet) -> list[BaseRoute]:
    """The route."""

    async def agents(_: Request) -> Response:
        return JSONResponse(
            {
                "clocks": [{"proxy": name, "seconds": round(skew, 3)} for name, skew in fleet.skews()],
                "ailing": [
                    {
                        "proxy": one.proxy,
                        "certificate": one.said.certificate,
                        "ends": timestamp(one.not_after) if one.not_after else "",
                        "capture": one.said.capture,
                        "names": one.said.names,
                        "files": one.said.files,
                    }
                    for one in fleet.ailing()
                ],
            }
        )

    return [Route("/fairlead/v1/agents", administrators(agents))]
