"""What the simulator answers: the steps of a request, and how it ends."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.model.diagnostic import Origin

Hop = Literal["client", "gateway", "server"]
"""Whose proxy: the calling workload's, a gateway on the way, or the called workload's."""
Stage = Literal[
    "capture",
    "listener",
    "filter chain",
    "tls",
    "jwt",
    "authorization",
    "external authorization",
    "rate limit",
    "fault",
    "filter",
    "route configuration",
    "virtual host",
    "route",
    "cluster",
    "endpoint",
    "upstream tls",
    "local reply",
    "application",
]


class Setting(msgspec.Struct, frozen=True):
    """A place in a proxy's Envoy configuration: resource type URL, name, and the path inside of it (proto JSON)."""

    type_url: str
    name: str
    path: str = ""


class Step(msgspec.Struct, frozen=True):
    """One decision on the way.

    `met` is the name of what was chosen (a listener, a route ...); `said` one sentence, with why, and why not the
    nearest others; `passed` is False on the step that ends the request. `origins` name what decided it, most decisive
    first; empty where it is the mesh's default.
    """

    hop: Hop
    proxy: str
    stage: Stage
    met: str
    said: str
    passed: bool = True
    setting: Setting | None = None
    origins: tuple[Origin, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """How a request ends, in the words of Envoy's access log.

    `status` is what the client gets (0 where the connection is closed, or it is no HTTP). `flags` are the response
    flags of the proxy that ended it (`NR`, `UH`, `UF`, `UAEX`, `RL`, `FI`, `DC` ..., empty for none), `details` its
    response code details (`route_not_found`, `rbac_access_denied_matched_policy[ns[shop]-policy[x]-rule[0]]`,
    `via_upstream` ...). `hop` is where it ended. `cluster` and `route` are those of the first proxy. `undecided` says
    what the simulator cannot know, one reason each; then the rest holds if that lets the request pass.
    """

    status: int
    hop: Hop
    flags: str = ""
    details: str = ""
    listener: str = ""
    chain: str = ""
    virtual_host: str = ""
    route: str = ""
    cluster: str = ""
    endpoint: str = ""
    undecided: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether the application would see the request."""
        return self.details == "via_upstream" and self.flags in ("", "DI")


class Walk(msgspec.Struct, frozen=True):
    """A verdict and how it came about, in order."""

    steps: tuple[Step, ...]
    verdict: Verdict
