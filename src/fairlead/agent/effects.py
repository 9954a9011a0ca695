"""What the relay machine (`fairlead.agent.relaystate`) wants done; its shell does it, in order. No I/O."""

from __future__ import annotations

import msgspec

from fairlead.agent.modules import Module


class ToEnvoy(msgspec.Struct, frozen=True):
    """Send these bytes (a DeltaDiscoveryResponse) to Envoy."""

    body: bytes


class ToUpstream(msgspec.Struct, frozen=True):
    """Send these bytes (a DeltaDiscoveryRequest) to the control plane."""

    body: bytes


class OpenUpstream(msgspec.Struct, frozen=True):
    """Connect to the control plane and keep trying; a stream that is open is replaced."""


class CloseUpstream(msgspec.Struct, frozen=True):
    """Envoy is gone: end the control plane's stream."""


class Save(msgspec.Struct, frozen=True):
    """The last good resources of a type changed; read them with `Relay.good`."""

    type_url: str


class HealthSeen(msgspec.Struct, frozen=True):
    """The control plane answered the last health report."""


class Fetch(msgspec.Struct, frozen=True):
    """A configuration waits for this module: tell `Relay.module` of every outcome, as long as it is wanted."""

    module: Module


class Look(msgspec.Struct, frozen=True):
    """A configuration waits for the files of this secret: tell `Relay.file` how they are, now and later."""

    name: str


class Withheld(msgspec.Struct, frozen=True):
    """Resources of a type have not been given to Envoy, for these reasons."""

    type_url: str
    words: str


Effect = ToEnvoy | ToUpstream | OpenUpstream | CloseUpstream | Save | HealthSeen | Fetch | Look | Withheld
