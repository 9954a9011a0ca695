"""Istio's validation of WasmPlugin."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.kinds.wasmplugin.spec import WasmPlugin
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.target import selector_problems, target_problems, unserved_targets
from fairlead.model.wasm import module_problems, traffic_problems


def validate(obj: Object[WasmPlugin]) -> Iterator[Problem]:
    """Whom it is for, and the module."""
    spec = obj.spec
    yield from target_problems(spec.selector, spec.target_ref, spec.target_refs)
    yield from selector_problems(spec.selector)
    yield from unserved_targets(spec.target_ref, spec.target_refs)
    yield from module_problems(spec, SPEC)
    yield from traffic_problems(spec.match, SPEC / "match")
