"""Fields of WorkloadGroup; the control plane and nodes read them, too, so they stand in `fairlead.model.group`."""

from __future__ import annotations

from fairlead.model.group import GroupSpec


class WorkloadGroup(GroupSpec, frozen=True):
    """Workloads of one application outside of any supervisor: one identity, one set of labels, many addresses."""
