"""Fields of PeerAuthentication."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import WorkloadSelector


class MutualTLS(Spec, frozen=True):
    """Whether inbound connections must use mesh mTLS."""

    mode: Annotated[
        Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"],
        Meta(
            description="STRICT: mTLS only; PERMISSIVE: mTLS and plain text; DISABLE: plain text; UNSET: as the "
            "namespace, then the mesh says (PERMISSIVE if neither does)."
        ),
    ] = "UNSET"


class PeerAuthentication(Spec, frozen=True):
    """Whether workloads accept plain text, mesh mTLS, or both."""

    selector: Annotated[
        WorkloadSelector | None, Meta(description="Workloads of the namespace; absent: all of them.")
    ] = None
    mtls: Annotated[MutualTLS | None, Meta(description="For all ports.")] = None
    port_level_mtls: Annotated[
        dict[str, MutualTLS] | None, Meta(description="By port of the workload; only with a selector.")
    ] = None
