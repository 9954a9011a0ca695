"""Kind `Process`: an application, or a gateway, that `fairlead node` runs on a host."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.process.columns import COLUMNS
from fairlead.kinds.process.spec import ProcessSpec
from fairlead.kinds.process.status import ProcessStatus
from fairlead.kinds.process.validate import validate

KIND: Kind[ProcessSpec] = Kind(
    group="fairlead.dev",
    versions=("v1alpha1",),
    kind="Process",
    plural="processes",
    spec=ProcessSpec,
    doc="An application or gateway that a node runs on its host, with a sidecar beside each replica.",
    short_names=("proc",),
    categories=("all", "fairlead"),
    status=ProcessStatus,
    columns=COLUMNS,
    validate=validate,
)
