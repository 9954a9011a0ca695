"""Fields of TrafficExtension."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import TargetReference, WorkloadSelector
from fairlead.model.wasm import PHASES, Module, TrafficSelector


class Lua(Spec, frozen=True):
    """A Lua program."""

    inline_code: Annotated[
        str, Meta(max_length=65536, description="The program, with envoy_on_request or envoy_on_response.")
    ] = ""


class TrafficExtension(Spec, frozen=True):
    """Code in the filter chains of workloads: exactly one of wasm and lua."""

    selector: Annotated[WorkloadSelector | None, Meta(description="The workloads; none: all of the namespace.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="The Gateways, instead of a selector.")] = ()
    phase: Annotated[PHASES, Meta(description="Where in the filter chain; UNSPECIFIED_PHASE: at its end.")] = (
        "UNSPECIFIED_PHASE"
    )
    priority: Annotated[
        int, Meta(ge=-2147483648, le=2147483647, description="Of one phase the highest comes first.")
    ] = 0
    match: Annotated[tuple[TrafficSelector, ...], Meta(description="Which traffic; none: all.")] = ()
    wasm: Annotated[Module | None, Meta(description="A Wasm module.")] = None
    lua: Annotated[Lua | None, Meta(description="A Lua program.")] = None
