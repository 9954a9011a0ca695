"""Workloads of Kubernetes' own kinds in files: for requests, a Deployment is an instance with the labels of its pods.

Files of a cluster hold kinds that Fairlead does not serve. Those that make pods become WorkloadEntries, as they would
be registered; the others say nothing about requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from fairlead.model.capturing import ANNOTATIONS
from fairlead.model.entry import TLS_MODE
from fairlead.model.group import WORKLOAD_LABEL
from fairlead.model.manifest import Json, Manifest, Marks, Path, Place

_GROUPS = ("apps", "batch", "policy", "autoscaling", "rbac.authorization.k8s.io", "apiextensions.k8s.io")
_CORE = ("Pod", "PersistentVolumeClaim", "PersistentVolume", "ResourceQuota", "LimitRange", "Role", "RoleBinding")
_MAKING_PODS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod")
_INJECT = "sidecar.istio.io/inject"


def workloads(manifests: Iterable[Manifest]) -> list[Manifest]:
    """The documents with entries in the place of what makes pods, and without Kubernetes' other kinds.

    A pod has a sidecar unless it says that it wants none. An entry keeps the marks of its document.
    """
    out: list[Manifest] = []
    made = 0
    for one in manifests:
        if not _is_kubernetes(one.data):
            out.append(one)
        elif one.data.get("kind") in _MAKING_PODS:
            made += 1
            address = f"127.66.{128 + made // 250}.{made % 250 + 1}"
            out.append(Manifest(_entry(one.data, address), one.file, Marks(partial(_outermost, one.marks))))
    return out


def _outermost(marks: Mapping[Path, Place]) -> Mapping[Path, Place]:
    return {(): marks[()]} if () in marks else {}


def _is_kubernetes(data: Json) -> bool:
    group = str(data.get("apiVersion", "")).rpartition("/")[0]
    return group in _GROUPS or (not group and data.get("kind") in _CORE)


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}  # type: ignore[misc]


def _listed(value: object) -> list[Any]:
    return [*value] if isinstance(value, list) else []  # type: ignore[misc]


def _entry(data: Json, address: str) -> Json:
    meta, spec = _mapping(data.get("metadata")), _mapping(data.get("spec"))
    pod = {"metadata": meta, "spec": spec} if data.get("kind") == "Pod" else _mapping(spec.get("template"))
    about, inner = _mapping(pod.get("metadata")), _mapping(pod.get("spec"))
    labels = {key: str(value) for key, value in _mapping(about.get("labels")).items()}
    wishes = {**_mapping(about.get("annotations")), **labels}
    name = str(meta.get("name", ""))
    body: Json = {"address": address, "labels": {**labels, WORKLOAD_LABEL: name}}
    if str(wishes.get(_INJECT, "true")).lower() not in ("false", "off", "no"):
        body["labels"][TLS_MODE] = "istio"
        body["serviceAccount"] = str(inner.get("serviceAccountName") or "default")
    ports = {
        str(port["name"]): port["containerPort"]
        for container in _listed(inner.get("containers"))
        for port in map(_mapping, _listed(_mapping(container).get("ports")))
        if port.get("name") and port.get("containerPort")
    }
    if ports:
        body["ports"] = ports
    capture = {key: str(one) for key, one in _mapping(about.get("annotations")).items() if key in ANNOTATIONS}
    where: Json = {"name": f"{name}-0" if data.get("kind") != "Pod" else name}
    if meta.get("namespace"):
        where["namespace"] = meta["namespace"]
    if capture:
        where["annotations"] = capture
    return {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": where, "spec": body}
