"""Filters that kinds contribute to filter chains, in their order."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.registry import registry
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Filter, FilterScope
from fairlead.ir.kind import Stage


class FilterKey(NamedTuple):
    """A stage of a filter chain."""

    stage: Stage
    scope: FilterScope


@rule
def filters(r: Reader, key: FilterKey) -> tuple[Filter, ...]:
    """All fragments for one stage of one filter chain: by phase, order and name, whichever kind made them."""
    found: list[Filter] = []
    for kind in registry().kinds:
        emit = kind.emit.get(key.stage)
        if emit is not None:
            found.extend(emit(r, key.scope))
    return tuple(sorted(found, key=lambda one: (one.phase, one.order, one.name)))
