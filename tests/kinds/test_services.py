"""Service, ServiceEntry and WorkloadEntry: goldens, exact problem paths, allocation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lowering import check, inputs

from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity


@pytest.mark.parametrize(
    "path", inputs("service", "serviceentry", "workloadentry", "meshconfig"), ids=lambda path: path.stem
)
def test_golden(path: Path) -> None:
    check(path)


def problems(kind: str, spec: Any, *, api: str = "networking.istio.io/v1", **meta: Any) -> dict[str, str]:
    """Message by path; warnings begin with `warning: `."""
    document = {"apiVersion": api, "kind": kind, "metadata": {"name": "x", "namespace": "shop", **meta}, "spec": spec}
    _, found = registry().read(document)
    return {
        str(one.path): ("warning: " if one.severity is Severity.WARNING else "") + f"{one.message} {one.remedy}"
        for one in found
    }
