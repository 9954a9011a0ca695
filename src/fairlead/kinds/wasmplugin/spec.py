"""Fields of WasmPlugin."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model.target import TargetReference, WorkloadSelector
from fairlead.model.wasm import PHASES, Module, TrafficSelector


class WasmPlugin(Module, frozen=True):
    """A Wasm module in the filter chains of workloads."""

    selector: Annotated[WorkloadSelector | None, Meta(description="The workloads; none: all of the namespace.")] = None
    target_ref: Annotated[TargetReference | None, Meta(description="The Gateway, instead of a selector.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="The Gateways, instead of a selector.")] = ()
    phase: Annotated[PHASES, Meta(description="Where in the filter chain; UNSPECIFIED_PHASE: at its end.")] = (
        "UNSPECIFIED_PHASE"
    )
    priority: Annotated[
        int, Meta(ge=-2147483648, le=2147483647, description="Of one phase the highest comes first.")
    ] = 0
    match: Annotated[tuple[TrafficSelector, ...], Meta(description="Which traffic; none: all.")] = ()
