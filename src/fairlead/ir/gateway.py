"""Servers of gateways: what Envoys at the edge listen for."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.host import HostKey
from fairlead.ir.protocol import Protocol
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName


class ServerTls(msgspec.Struct, frozen=True):
    """TLS of a server (Istio ServerTLSSettings). `files` are pairs of certificate and key on the gateway's host.

    With `accept_untrusted` clients may have certificates that cannot be verified. `alpn` are the protocols that are
    offered, () for the usual ones.
    """

    mode: Literal["", "PASSTHROUGH", "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL"] = ""
    credential_names: tuple[str, ...] = ()
    ca_credential_name: str = ""
    files: tuple[tuple[str, str], ...] = ()
    ca_certificates: str = ""
    ca_crl: str = ""
    subject_alt_names: tuple[str, ...] = ()
    https_redirect: bool = False
    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    spki_pins: tuple[str, ...] = ()
    certificate_hashes: tuple[str, ...] = ()
    accept_untrusted: bool = False
    alpn: tuple[str, ...] = ()


class GatewayServer(msgspec.Struct, frozen=True):
    """One port of a gateway and the hosts it serves. `hosts` keep their namespace part (`ns/host`, `./host`).

    `bind` is an address, or a Unix socket (`unix:///path`, port 0); "" for all addresses.
    """

    origin: Origin
    port: int
    protocol: Protocol
    port_name: str = ""
    name: str = ""
    bind: str = ""
    hosts: tuple[str, ...] = ()
    tls: ServerTls | None = None


class Gateway(msgspec.Struct, frozen=True):
    """Servers for the proxies that `selector` chooses (from any namespace; an empty selector chooses all).

    With `services` (host names in the gateway's own namespace) it is for the proxies behind these services instead.
    """

    key: NamespacedName
    origin: Origin
    selector: Pairs
    servers: tuple[GatewayServer, ...]
    created: str = ""
    services: tuple[str, ...] = ()

    @property
    def service_keys(self) -> tuple[HostKey, ...]:
        """The hosts that `services` names."""
        return tuple(HostKey(one, self.key.namespace) for one in self.services)


def _selector(_: NamespacedName, gateway: Gateway) -> list[tuple[str, str]]:
    if gateway.services:
        return []
    return [gateway.selector[0] if gateway.selector else ("", "")]


WRITTEN_GATEWAYS: Table[NamespacedName, Gateway] = Table("gateways", stage=1)
"""Gateways as objects have them."""
GATEWAYS: Table[NamespacedName, Gateway] = Table("effective-gateways", stage=2)
"""Gateways that hold: those, and what others stand for (Ingress)."""
GATEWAYS_BY_SELECTOR = GATEWAYS.index("selector", _selector)
"""Gateways under the first label of their selector, ("", "") if it is empty; not those that name services."""
GATEWAYS_BY_SERVICE = GATEWAYS.index("service", lambda key, gateway: gateway.service_keys)
"""Gateways under each host that they name."""
GATEWAYS_BY_OBJECT = GATEWAYS.index("object", lambda key, gateway: [gateway.origin.ref])
"""Gateways under the object that they stand for."""
