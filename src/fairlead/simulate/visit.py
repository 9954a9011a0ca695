"""One proxy's part of a walk, and how it can end there."""

from __future__ import annotations

from typing import Literal

from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from fairlead.model.diagnostic import Origin
from fairlead.simulate.connection import Connection
from fairlead.simulate.mesh import Mesh, Proxy
from fairlead.simulate.rbac import Peer
from fairlead.simulate.walk import Hop, Setting, Stage, Step

Closed = Literal["", "reset", "tls", "refused"]


class Ended(Exception):
    """The request, or the connection, ends here.

    `closed` is how a connection ends that is not answered: `reset` by the proxy after it was made, `tls` in the
    handshake, `refused` where nobody listens. `terminated` is whether TLS ended at the proxy.
    """

    def __init__(
        self,
        status: int,
        flags: str = "",
        details: str = "",
        *,
        hop: Hop = "server",
        closed: Closed = "",
        terminated: bool = False,
    ) -> None:
        super().__init__(details)
        self.status = status
        self.flags = flags
        self.details = details
        self.hop: Hop = hop
        self.closed: Closed = closed
        self.terminated = terminated


class Trail:
    """The steps so far, what the first proxy chose, and what could not be decided."""

    def __init__(self, preferred: str = "", cluster: str = "") -> None:
        self.cluster = cluster
        """The cluster that is followed where the first proxy shares requests out among several."""
        self.preferred = preferred
        """The endpoint that is followed where several could get the request."""
        self.steps: list[Step] = []
        self.undecided: list[str] = []
        self.met: dict[str, str] = {}
        """Names of the listener, chain, virtual host, route, cluster and endpoint."""
        self.hops = 0

    def doubt(self, reason: str) -> None:
        """Something decides that is not known; the walk goes on as if it let the request pass."""
        if reason not in self.undecided:
            self.undecided.append(reason)


class Visit:
    """A connection at a proxy."""

    def __init__(self, mesh: Mesh, trail: Trail, proxy: Proxy, hop: Hop, connection: Connection) -> None:
        self.mesh = mesh
        self.trail = trail
        self.proxy = proxy
        self.hop: Hop = hop
        self.connection = connection
        self.catalog = mesh.catalog(proxy.view)
        self.listener = Listener()
        self.chain = FilterChain()
        self.terminated = False
        """Whether TLS ended at this proxy."""
        self.delayed = False
        """Whether a fault has made the request wait here."""
        self.peer = Peer(connection.address, connection.port, connection.source, sni=connection.sni)
        self._first = trail.hops == 0
        trail.hops += 1

    @property
    def preferred_cluster(self) -> str:
        """The cluster that this proxy is to choose where it may, "" for the one that gets most."""
        return self.trail.cluster if self._first else ""

    @property
    def inbound(self) -> bool:
        """Whether this proxy serves its own application here."""
        return self.hop == "server"

    def name(self, **met: str) -> None:
        """Note what was chosen, for the verdict: only the first proxy's counts."""
        if self._first:
            self.trail.met.update(met)

    def say(
        self,
        stage: Stage,
        met: str,
        said: str,
        origins: tuple[Origin, ...] = (),
        *,
        setting: Setting | None = None,
        passed: bool = True,
    ) -> None:
        """Add a step."""
        self.trail.steps.append(Step(self.hop, self.proxy.shown, stage, met, said, passed, setting, origins))

    def end(self, status: int, flags: str, details: str, closed: Closed = "") -> Ended:
        """How it ends, to be raised."""
        said = ",".join(one for one in ("DI" if self.delayed else "", flags) if one)
        return Ended(status, said, details, hop=self.hop, closed=closed, terminated=self.terminated)
