"""What Kubernetes fills in when a Service is written."""

from __future__ import annotations

from typing import Any, cast


def default(document: dict[str, Any]) -> dict[str, Any]:
    """Type, session affinity and each port's protocol and targetPort. What has an unexpected shape is left as it is."""
    spec = {"type": "ClusterIP", "sessionAffinity": "None", **cast("dict[str, Any]", document.get("spec") or {})}
    ports = spec.get("ports")
    if isinstance(ports, list):
        spec["ports"] = [_port(one) for one in cast("list[object]", ports)]
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    return {**document, "spec": spec}


def _port(port: object) -> object:
    if not isinstance(port, dict):
        return port
    filled = {"protocol": "TCP", **cast("dict[str, Any]", port)}
    if "port" in filled and filled.get("targetPort") in (None, "", 0):
        filled["targetPort"] = filled["port"]
    return filled
