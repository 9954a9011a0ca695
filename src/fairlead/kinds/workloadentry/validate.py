"""Istio's validation of WorkloadEntry."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.ir.elsewhere import platform_problems
from fairlead.kinds.workloadentry.spec import WorkloadEntry
from fairlead.model.diagnostic import Problem
from fairlead.model.entry import entry_problems
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC


def validate(obj: Object[WorkloadEntry]) -> Iterator[Problem]:
    """Address, ports and labels; whether a service has the ports is not known here."""
    yield from entry_problems(obj.spec, SPEC)
    yield from platform_problems(obj.meta, METADATA)
