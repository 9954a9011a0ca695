"""`fairlead check`: whether this host can run a mesh, and whether the mesh that runs is well.

`finding` says what a check finds, `host` looks at this host, `mesh` at the control plane and what it knows, `workloads`
at what runs here; `command` prints it.
"""

from fairlead.cli.check.command import check

__all__ = ["check"]
