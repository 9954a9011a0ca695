"""What goes into the session machine and what comes out of it: values without any wire format."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from fairlead.envoy.resource import Resource

HEALTH = "type.googleapis.com/istio.v1.HealthInformation"
WILDCARD = "*"

Catalog = Mapping[str, Mapping[str, Resource]]
"""Type URL to name to resource: everything that one proxy may be given."""

Changed = Mapping[str, Collection[str] | Mapping[str, Resource | None]]
"""Type URL to names that were added, changed or removed.

Where a catalog's mappings change in place, each name with what was there before; where they are replaced, names do.
"""

NO_BASES: Mapping[str, Resource] = {}


class Shared:
    """Where a sender keeps the bytes of a response that many clients are sent."""

    __slots__ = ("message",)

    def __init__(self) -> None:
        self.message: bytes | None = None


class DeltaRequest(msgspec.Struct, frozen=True):
    """DeltaDiscoveryRequest without its node. `error` is None for an acknowledgement."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = {}
    nonce: str = ""
    error: str | None = None


class SotwRequest(msgspec.Struct, frozen=True):
    """DiscoveryRequest without its node. `error` is None for an acknowledgement."""

    type_url: str
    names: tuple[str, ...] = ()
    version: str = ""
    nonce: str = ""
    error: str | None = None


class Response(msgspec.Struct, frozen=True):
    """A response of either protocol; `removed` is for delta only.

    `version` is the system version (delta) or the version that the client echoes (state of the world). Of resources in
    `bases` the client has that state: the difference from it may be sent. `shared` is there where others are sent this
    very response.
    """

    type_url: str
    nonce: str
    version: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()
    bases: Mapping[str, Resource] = NO_BASES
    shared: Shared | None = None


class Acked(msgspec.Struct, frozen=True):
    """The proxy runs these resources (name and version), and no longer has those."""

    type_url: str
    resources: tuple[tuple[str, str], ...]
    removed: tuple[str, ...] = ()


class Nacked(msgspec.Struct, frozen=True):
    """The proxy refused this version of this resource; it runs `last_good`, or nothing if that is empty.

    The version is in quarantine: it is not sent again on this stream.
    """

    type_url: str
    name: str
    version: str
    message: str
    last_good: str = ""


class Health(msgspec.Struct, frozen=True):
    """What the agent says of its application."""

    healthy: bool
    message: str = ""


class Lacking(msgspec.Struct, frozen=True):
    """The proxy, which takes every resource of the type, asks for these by name, and there are none for it.

    They may come to be before the next response is made, which answers them in any case.
    """

    type_url: str
    names: tuple[str, ...]


Event = Acked | Nacked | Health | Lacking


class ProtocolError(Exception):
    """The client asks for more than a session may hold; the stream must end."""
