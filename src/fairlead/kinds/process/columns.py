"""What `get processes` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.ir.kind import Column


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return document.get(name) or {}


def _status(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return _part(document, "status")


def _instances(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _status(document).get("instances") or []


def ready(document: Mapping[str, Any]) -> str:
    """Ready replicas of wanted ones, as kubectl writes it for a Deployment."""
    wanted = _part(document, "spec").get("replicas", 1)
    return f"{_status(document).get('readyReplicas', 0)}/{wanted}"


def restarts(document: Mapping[str, Any]) -> int:
    """Restarts of all replicas that exist now."""
    return sum(int(one.get("restarts", 0)) for one in _instances(document))


def state(document: Mapping[str, Any]) -> str:
    """One word for the whole: the worst state of a replica, or why nothing runs."""
    status = _status(document)
    if not status:
        return "Pending"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Available" and condition.get("status") != "True":
            return str(condition.get("reason") or "Pending")
    states = {str(one.get("state")) for one in _instances(document)}
    for worst in ("Failed", "Waiting", "Starting", "Draining", "Running", "Completed"):
        if worst in states:
            return worst
    return "Stopped"


COLUMNS = (
    Column("Ready", ready, description="Ready replicas of wanted ones."),
    Column("Restarts", restarts, type="integer", description="Restarts of all replicas."),
    Column("Status", state, description="The worst state of a replica."),
    Column("Age", lambda document: _part(document, "metadata").get("creationTimestamp"), type="date"),
    Column("Node", lambda document: _status(document).get("node", ""), priority=1),
    Column(
        "Addresses",
        lambda document: ",".join(str(one.get("address", "")) for one in _instances(document)),
        priority=1,
    ),
)
