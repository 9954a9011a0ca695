"""Fields of WorkloadEntry."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fairlead.model.entry import EntrySpec

HEALTHY = "Healthy"


class WorkloadEntry(EntrySpec, frozen=True):
    """One instance of an application: a process, a virtual machine, or anything else that has an address."""


class EntryCondition(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An observation about the instance (IstioCondition). Unknown fields are kept out, not refused."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_probe_time: str | None = None
    last_transition_time: str | None = None


class EntryStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the control plane writes: condition `Healthy` is False while the instance fails its readiness probe."""

    conditions: Annotated[tuple[EntryCondition, ...], Meta(description="Healthy: False takes it out of service.")] = ()
    observed_generation: int | str | None = None
    """A number, or as protobuf's JSON writes 64-bit numbers, a string of digits."""
