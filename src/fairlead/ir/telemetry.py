"""What objects say about metrics, access logs and traces of workloads."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.attachment import Target
from fairlead.ir.filters import Pairs
from fairlead.ir.tag import Tag
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

Mode = Literal["CLIENT", "SERVER"]
Modes = tuple[Mode, ...]
BOTH: Modes = ("CLIENT", "SERVER")


class Tracing(msgspec.Struct, frozen=True):
    """One tracing rule; None leaves what a wider object says. `sampling` is a percentage."""

    modes: Modes = BOTH
    providers: tuple[str, ...] = ()
    sampling: float | None = None
    disabled: bool | None = None
    propagated: bool | None = None
    by_request_id: bool | None = None
    mesh_tags: bool | None = None
    tags: tuple[Tag, ...] | None = None


class Override(msgspec.Struct, frozen=True):
    """A change of a metric, or of ALL_METRICS: switched off or on; tags with their expressions, or removed (None)."""

    metric: str
    modes: Modes = BOTH
    disabled: bool | None = None
    tags: tuple[tuple[str, str | None], ...] = ()


class Metrics(msgspec.Struct, frozen=True):
    """One metrics rule; without providers those of the wider object."""

    providers: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()


class Logging(msgspec.Struct, frozen=True):
    """One access log rule. `filter` is a CEL expression; what it does not hold for is not logged."""

    modes: Modes = BOTH
    providers: tuple[str, ...] = ()
    disabled: bool = False
    filter: str = ""


class TelemetryPolicy(msgspec.Struct, frozen=True):
    """What one object says for the workloads that it is for (see `fairlead.ir.attachment.attaches`)."""

    key: NamespacedName
    origin: Origin
    selector: Pairs = ()
    targets: tuple[Target, ...] = ()
    created: str = ""
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    logging: tuple[Logging, ...] = ()

    @property
    def is_wide(self) -> bool:
        """Whether it is for all workloads of its namespace."""
        return not self.selector and not self.targets


TELEMETRY: Table[NamespacedName, TelemetryPolicy] = Table("telemetry", stage=1)
TELEMETRY_BY_NAMESPACE = TELEMETRY.index("namespace", lambda key, policy: [key.namespace])
