"""Groups of workloads that join by themselves, and the WorkloadEntry of a member (Istio's automatic registration)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fairlead.model.entry import TLS_MODE, EntrySpec
from fairlead.model.names import is_dns_subdomain
from fairlead.model.object import Spec
from fairlead.model.probe import Probe

Json = dict[str, Any]

METADATA = "AUTO_REGISTER_GROUP"
"""The metadata of an xDS node by which a workload says of which group it is (Istio's name)."""
GROUP_ANNOTATION = "istio.io/autoRegistrationGroup"
"""The annotation of an entry that the control plane has written for a member, with the group's name."""
HEALTH_ANNOTATION = "proxy.istio.io/health-checks-enabled"
WORKLOAD_LABEL = "service.istio.io/workload-name"
_DEFAULTS = {"timeout_seconds": 1, "period_seconds": 10, "success_threshold": 1, "failure_threshold": 3}


class GroupMetadata(Spec, frozen=True):
    """What the entries of members have in their metadata."""

    labels: Annotated[dict[str, str], Meta(max_length=256, description="Labels of the entries.")] = {}
    annotations: Annotated[dict[str, str], Meta(max_length=256, description="Annotations of the entries.")] = {}


class GroupSpec(Spec, frozen=True):
    """Workloads that are alike but for their addresses."""

    template: Annotated[EntrySpec, Meta(description="The entries of members, without their addresses.")]
    metadata: Annotated[GroupMetadata | None, Meta(description="Metadata of the entries.")] = None
    probe: Annotated[Probe | None, Meta(description="Run by each member's agent: decides its health.")] = None

    @property
    def account(self) -> str:
        """The service account of the members."""
        return self.template.service_account or "default"

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the members."""
        return {**self.template.labels, **(self.metadata.labels if self.metadata else {})}

    def readiness(self) -> Probe | None:
        """The probe; 0 stands for Kubernetes' default, as in Istio."""
        if self.probe is None:
            return None
        unset = {name: value for name, value in _DEFAULTS.items() if not getattr(self.probe, name)}
        return msgspec.structs.replace(self.probe, **unset)


def entry_name(group: str, address: str, network: str = "") -> str:
    """The name of a member's entry: group, address and network."""
    name = "-".join(part for part in (group, address.replace(":", "-").lower(), network.lower()) if part).strip("-")
    return name if is_dns_subdomain(name) else "-".join((group, address.replace(":", "-").lower())).strip("-")


def entry_document(group: str, uid: str, namespace: str, spec: GroupSpec, address: str, *, probed: bool) -> Json:
    """The WorkloadEntry of the member at `address`, owned by the group with this `uid`.

    `probed` is whether its agent reports health: then it is out of service until it does.
    """
    template = spec.template
    meta = spec.metadata or GroupMetadata()
    labels = {WORKLOAD_LABEL: group, TLS_MODE: "istio", **template.labels}
    body: Json = {"address": address, "labels": labels, "serviceAccount": spec.account}
    for field, value in (
        ("ports", dict(template.ports)),
        ("network", template.network),
        ("locality", template.locality),
        ("weight", template.weight),
    ):
        if value:
            body[field] = value
    annotations = {**meta.annotations, GROUP_ANNOTATION: group}
    if probed:
        annotations[HEALTH_ANNOTATION] = "true"
    owner = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "name": group, "uid": uid}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": entry_name(group, address, template.network),
            "namespace": namespace,
            "labels": {**template.labels, **meta.labels},
            "annotations": annotations,
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": body,
    }


def owned_group(document: Mapping[str, Any]) -> str:
    """The group of which an entry was written for a member, "" for all other entries."""
    meta: Mapping[str, Any] = document.get("metadata") or {}
    annotations: Mapping[str, Any] = meta.get("annotations") or {}
    return str(annotations.get(GROUP_ANNOTATION) or "")
