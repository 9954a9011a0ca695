"""Istio's validation of TrafficExtension."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.kinds.trafficextension.spec import TrafficExtension
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import required
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.target import selector_problems, target_problems, unserved_targets
from fairlead.model.wasm import module_problems, traffic_problems


def validate(obj: Object[TrafficExtension]) -> Iterator[Problem]:
    """Whom it is for, and its code."""
    spec = obj.spec
    yield from target_problems(spec.selector, None, spec.target_refs)
    yield from selector_problems(spec.selector)
    yield from unserved_targets(None, spec.target_refs)
    yield from traffic_problems(spec.match, SPEC / "match")
    if (spec.wasm is None) == (spec.lua is None):
        yield required(SPEC, "exactly one of wasm or lua must be set", "Keep one.")
    if spec.wasm is not None:
        yield from module_problems(spec.wasm, SPEC / "wasm")
    if spec.lua is not None and not spec.lua.inline_code.strip():
        yield required(SPEC.child("lua", "inlineCode"), "lua.inlineCode cannot be empty", "Give the program.")
