"""What a proxy says of its own workload: names for metrics, handed to Envoy through its environment.

Light enough for the agent: no Envoy message is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

UNKNOWN = "unknown"
PEER_VARIABLE = "FAIRLEAD_PEER"
"""Environment variable of Envoy with the value of the header by which it introduces its workload."""

SEPARATOR = ";"
_FOREIGN = re.compile(r"[^A-Za-z0-9._/-]")
_APART = re.compile(r"[,=\s]")
"""What would end an attribute in Envoy's environment."""


class Workload(msgspec.Struct, frozen=True, order=True):
    """The names under which a workload appears in metrics; empty means unknown.

    The order of the fields is that of the names in an introduction.
    """

    name: str = ""
    namespace: str = ""
    app: str = ""
    version: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""
    cluster: str = ""

    @staticmethod
    def of(name: str, namespace: str, labels: Mapping[str, str], cluster: str) -> Workload:
        """From a workload's labels, with Istio's rules for canonical names."""
        app, version = labels.get("app", ""), labels.get("version", "")
        service = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name") or app or name
        revision = (
            labels.get("service.istio.io/canonical-revision")
            or labels.get("app.kubernetes.io/version")
            or version
            or "latest"
        )
        return Workload(name, namespace, app, version, service, revision, cluster)

    @property
    def summary(self) -> str:
        """Istio's endpoint metadata: `name;namespace;canonical service;canonical revision;cluster`."""
        return ";".join((self.name, self.namespace, self.canonical_service, self.canonical_revision, self.cluster))


# A workload's names: the attribute, and its label after `source_` or `destination_`.
NAMES = (
    ("name", "workload"),
    ("namespace", "workload_namespace"),
    ("app", "app"),
    ("version", "version"),
    ("canonical_service", "canonical_service"),
    ("canonical_revision", "canonical_revision"),
    ("cluster", "cluster"),
)


def introduction(own: Workload) -> str:
    """`name;namespace;app;version;canonical service;canonical revision;cluster`, unknown ones as such.

    Whatever is no character of a name or label becomes `_`, so that the names can be told apart again.
    """
    return SEPARATOR.join([_plain(value) for value in msgspec.structs.astuple(own)])


@lru_cache(4096)
def _plain(value: str) -> str:
    """A name as it stands in an introduction; most are those of many workloads."""
    return _FOREIGN.sub("_", value) or UNKNOWN


TRACE_TAGS = (
    ("istio.canonical_revision", "FAIRLEAD_CANONICAL_REVISION"),
    ("istio.canonical_service", "FAIRLEAD_CANONICAL_SERVICE"),
    ("istio.cluster_id", "FAIRLEAD_CLUSTER_ID"),
    ("istio.mesh_id", "FAIRLEAD_MESH_ID"),
    ("istio.namespace", "FAIRLEAD_NAMESPACE"),
)
"""Istio's tags of spans, and the variables of Envoy's environment that fill them."""


def environment(own: Workload, mesh_id: str, service: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """The variables with which Envoy is started.

    `service` is what Datadog's tracer calls the workload, `attributes` what OpenTelemetry's says of it.
    """
    values = (own.canonical_revision, own.canonical_service, own.cluster, mesh_id, own.namespace)
    said = {variable: value for (_, variable), value in zip(TRACE_TAGS, values, strict=True) if value}
    return {
        **said,
        PEER_VARIABLE: introduction(own),
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(f"{name}={_APART.sub('_', value)}" for name, value in attributes.items()),
        "DD_SERVICE": service,
    }


def semantic_attributes(instance: str, own: Workload, labels: Mapping[str, str]) -> dict[str, str]:
    """What OpenTelemetry's conventions for Kubernetes say of a service, of which `instance` is one."""
    name = labels.get("app.kubernetes.io/instance") or labels.get("app.kubernetes.io/name") or own.name or instance
    version = labels.get("app.kubernetes.io/version", "")
    return {
        "service.name": name,
        "service.namespace": own.namespace,
        **({"service.version": version} if version else {}),
        "service.instance.id": f"{own.namespace}.{instance}",
    }
