"""Fields that MeshConfig and ProxyConfig had in former versions of Istio.

Istio's control plane passes over fields that it does not know, so settings that are older than it keep them. Fairlead
takes an unknown field for a mistake; these are none, and say nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.path import FieldPath

MESH = frozenset(
    {
        "ambientMesh",
        "authPolicy",
        "disableMixerHttpReports",
        "disablePolicyChecks",
        "disableReportBatch",
        "enableClientSidePolicyCheck",
        "enableSdsTokenMount",
        "mixerAddress",
        "mixerCheckServer",
        "mixerReportServer",
        "policyCheckFailOpen",
        "rdsRefreshDelay",
        "reportBatchMaxEntries",
        "reportBatchMaxTime",
        "sdsRefreshDelay",
        "sdsUdsPath",
        "sdsUseK8sSaJwt",
        "sidecarToTelemetrySessionAffinity",
        "thriftConfig",
    }
)
PROXY = frozenset({"connectTimeout"})

_REMEDY = "Remove it: Istio has no such field any more either."


def without_removed_mesh(config: object, base: FieldPath) -> tuple[object, list[Problem]]:
    """MeshConfig without its former fields, and a warning for each that is there."""
    if not isinstance(config, dict):
        return config, []
    left, problems = _without(cast("dict[Any, object]", config), MESH, base)
    if "defaultConfig" in left:
        left["defaultConfig"], more = without_removed_proxy(left["defaultConfig"], base / "defaultConfig")
        problems += more
    return left, problems


def without_removed_proxy(config: object, base: FieldPath) -> tuple[object, list[Problem]]:
    """ProxyConfig without its former fields, and a warning for each that is there."""
    if not isinstance(config, dict):
        return config, []
    return _without(cast("dict[Any, object]", config), PROXY, base)


def _without(
    config: Mapping[Any, object], removed: frozenset[str], base: FieldPath
) -> tuple[dict[Any, object], list[Problem]]:
    left = {name: value for name, value in config.items() if name not in removed}
    found = [name for name in config if name in removed]
    return left, [Problem(base / one, f"{one} has no effect", Severity.WARNING, _REMEDY, "FL0100") for one in found]
