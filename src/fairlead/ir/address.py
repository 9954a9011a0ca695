"""Services that the mesh's settings name."""

from __future__ import annotations

import msgspec


class Address(msgspec.Struct, frozen=True):
    """A service that proxies send to. `namespace` is "" where the host alone tells."""

    namespace: str
    hostname: str
    port: int
