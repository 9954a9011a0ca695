"""Certificates and keys that gateways serve, and trust bundles. Delivered over SDS only, never logged."""

from __future__ import annotations

import msgspec

from fairlead.inc import Table
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName


class Credential(msgspec.Struct, frozen=True):
    """What a Secret holds that TLS can use; empty where it does not."""

    key: NamespacedName
    origin: Origin
    certificate_chain: bytes = b""
    private_key: bytes = b""
    ca_certificates: bytes = b""
    ca_crl: bytes = b""

    def __repr__(self) -> str:
        return f"Credential({self.key})"


CREDENTIALS: Table[NamespacedName, Credential] = Table("credentials", stage=1)
