"""Which hosts workloads are known to call: what proxies are given that have asked for nothing else.

It comes from calls and from what proxies ask for, never from permissions. The rows are an input of the compiler.
"""

from __future__ import annotations

from typing import Literal

from fairlead.inc import Table
from fairlead.model.ref import NamespacedName

OnDemand = Literal["", "auto", "true", "false"]
"""What a proxy says: "" cannot ask for what it lacks, auto does as the mesh says, the others decide by themselves."""

EVERYTHING = ("*",)
"""The row of a workload that calls more hosts than are remembered: its proxies get what others get."""

LEARNED: Table[NamespacedName, tuple[str, ...]] = Table("learned-hosts")
"""Sorted host names by workload (its namespace and name)."""
