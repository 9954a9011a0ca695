"""Fragments: filters that kinds contribute to the filter chains that a proxy's listeners are made of.

Emit functions return fragments for a stage; nobody patches another's output. Order within a chain is the fragment's
phase, then its `order`, then its name, so that it does not depend on which kind was loaded first.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Literal

import msgspec

from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

if TYPE_CHECKING:  # what is said there is in the words of facts that import this
    from fairlead.ir.proxyown import OwnSettings

Pairs = tuple[tuple[str, str], ...]


class Phase(IntEnum):
    """Where in a filter chain a filter stands (Istio's filter order: authentication, authorization, statistics)."""

    FIRST = 0
    AUTHN = 10
    AUTHZ = 20
    STATS = 30
    LAST = 40


class FilterScope(msgspec.Struct, frozen=True):
    """The filter chain that fragments are asked for.

    `labels` are the workload's labels as sorted pairs, or those at which filters look; `port` is the port that the
    chain serves (0: any). `telemetry` names the Telemetry objects for sidecars, whose other labels are not known here.
    `own` is what the workload itself says of its proxy.
    """

    direction: Literal["inbound", "outbound", "gateway"]
    namespace: str
    labels: Pairs = ()
    port: int = 0
    tcp: bool = False
    telemetry: tuple[NamespacedName, ...] = ()
    own: OwnSettings | None = None


class Filter(msgspec.Struct, frozen=True):
    """One network or HTTP filter: its Envoy name, the type URL and bytes of its configuration, and whence it came."""

    name: str
    type_url: str
    config: bytes
    phase: Phase
    order: int = 0
    origins: tuple[Origin, ...] = ()
