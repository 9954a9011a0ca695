"""Sidecars: which hosts the proxies of some workloads see, and how they serve what arrives for them.

One `Sidecar` is what one object says. Whoever limits what a proxy sees writes such a fact; the compiler asks for no
more. Times are seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.gateway import ServerTls
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import Destination
from fairlead.ir.traffic import HttpPool, TcpPool
from fairlead.ir.visibility import host_matches
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName
from fairlead.model.syntax import UNIX_PREFIX

ANY, OWN, EXCEPT = "*", ".", "~"
"""Namespaces of imports: all, the one of the proxy; what begins with `~` is taken out of what the others import."""

OutboundMode = Literal["", "ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS"]


class Import(msgspec.Struct, frozen=True, order=True):
    """Hosts of a namespace: `host` is a name, `*` or `*.suffix`; `namespace` a name, `*` or `.` (see above).

    With `~` before the namespace they are not imported, whatever else says so; `~` alone is for all namespaces.
    """

    namespace: str
    host: str

    def from_namespace(self, namespace: str, own: str) -> bool:
        """Whether objects of a namespace are imported, where the proxy's own is `own`."""
        return not self.is_exclusion and _is(self.namespace, namespace, own)

    def excludes(self, hostname: str, namespace: str, own: str) -> bool:
        """Whether a host of a namespace is taken out."""
        if not self.is_exclusion or not host_matches(self.host, hostname):
            return False
        return _is(self.namespace.removeprefix(EXCEPT) or ANY, namespace, own)

    @property
    def is_exclusion(self) -> bool:
        """Whether it takes hosts out."""
        return self.namespace.startswith(EXCEPT)

    @property
    def is_pattern(self) -> bool:
        """Whether several hosts may be meant."""
        return self.host.startswith("*")


def _is(said: str, namespace: str, own: str) -> bool:
    return said in (ANY, namespace) or (said == OWN and namespace == own)


class EgressListener(msgspec.Struct, frozen=True):
    """What a proxy sees on one port, or (`port` 0) on all ports of which no other listener speaks.

    `bind` is an address ("": the usual ones), or with port 0 a Unix socket (`unix:///path`) at which all ports of the
    hosts are seen, as they are through an HTTP proxy. `captured` is whether connections reach it by redirection; else
    it is bound, and the application dials it.
    """

    origin: Origin
    imports: tuple[Import, ...]
    port: int = 0
    protocol: Protocol = Protocol.AUTO
    bind: str = ""
    captured: bool = True

    @property
    def is_socket(self) -> bool:
        """Whether the application dials a Unix socket."""
        return self.bind.startswith(UNIX_PREFIX)

    @property
    def is_http_proxy(self) -> bool:
        """Whether the application uses it as its HTTP proxy."""
        return self.protocol is Protocol.HTTP_PROXY and self.port != 0

    @property
    def is_apart(self) -> bool:
        """Whether those who dial it name the port that they mean."""
        return self.is_socket or self.is_http_proxy

    def sees_host(self, hostname: str, namespace: str, own: str) -> bool:
        """Whether a host is imported: one that the import's pattern covers."""
        if any(one.excludes(hostname, namespace, own) for one in self.imports):
            return False
        return any(
            one.from_namespace(namespace, own)
            and (one.host == hostname or (one.is_pattern and host_matches(one.host, hostname)))
            for one in self.imports
        )

    def sees_routes(self, hosts: tuple[str, ...], namespace: str, own: str, *, exact: bool) -> bool:
        """Whether routing rules for hosts are imported: one host is, or is a wildcard that covers an imported name.

        `exact` asks as for hosts: a wildcard is only covered by an import that is as wide (Gateway API).
        """
        for host in hosts:
            if any(one.excludes(host, namespace, own) for one in self.imports):
                continue
            for one in self.imports:
                if not one.from_namespace(namespace, own):
                    continue
                if one.host == host or (one.is_pattern and host_matches(one.host, host)):
                    return True
                if not exact and host.startswith("*") and host_matches(host, one.host):
                    return True
        return False

    @property
    def sees_all(self) -> bool:
        """Whether everything is seen as it would be without this listener."""
        return not self.port and not self.bind and self.captured and self.imports == (Import(ANY, "*"),)


class Endpoint(msgspec.Struct, frozen=True):
    """Where a served port's connections go: an address and port, or a Unix socket (`unix:///path`, port 0).

    The address "" is the one that the client dialled, `0.0.0.0` or `::` the workload's own; port 0 is the one dialled.
    """

    address: str = ""
    port: int = 0


class IngressListener(msgspec.Struct, frozen=True):
    """A port that is served, in place of those of the hosts that lead to the workload.

    `tls` is what Envoy terminates where mesh mTLS is switched off for the port. `captured` as for `EgressListener`.
    """

    origin: Origin
    port: int
    name: str = ""
    protocol: Protocol = Protocol.AUTO
    bind: str = ""
    captured: bool = True
    endpoint: Endpoint = Endpoint()
    tls: ServerTls | None = None
    tcp: TcpPool | None = None
    http: HttpPool | None = None


class Sidecar(msgspec.Struct, frozen=True):
    """What one object says about the proxies that `selector` chooses in its namespace.

    Without a selector it is for all that no other one chooses; in the root namespace for those of all namespaces.
    `egress_proxy` gets what is for hosts that the proxy does not see. `tcp` and `http` limit connections to the
    application. No `egress` means that everything is seen.
    """

    key: NamespacedName
    origin: Origin
    selector: Pairs = ()
    egress: tuple[EgressListener, ...] = ()
    ingress: tuple[IngressListener, ...] = ()
    outbound_mode: OutboundMode = ""
    egress_proxy: Destination | None = None
    tcp: TcpPool | None = None
    http: HttpPool | None = None
    created: str = ""


SIDECARS: Table[NamespacedName, Sidecar] = Table("sidecars", stage=1)
SIDECARS_BY_NAMESPACE = SIDECARS.index("namespace", lambda key, sidecar: [key.namespace])
