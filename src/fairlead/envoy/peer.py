"""What a proxy says of its own workload: names for metrics, handed to Envoy through its environment.

Light enough for the agent: no Envoy message is imported here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec
from google.protobuf import struct_pb2

UNKNOWN = "unknown"
PEER_VARIABLE = "FAIRLEAD_PEER"
"""Environment variable of Envoy with the value of the header by which it introduces its workload."""

# A workload's names: the attribute, its label after `source_` or `destination_`, its key on the wire.
NAMES = (
    ("name", "workload", "w"),
    ("namespace", "workload_namespace", "n"),
    ("app", "app", "a"),
    ("version", "version", "v"),
    ("canonical_service", "canonical_service", "s"),
    ("canonical_revision", "canonical_revision", "r"),
    ("cluster", "cluster", "c"),
)


class Workload(msgspec.Struct, frozen=True, order=True):
    """The names under which a workload appears in metrics; empty means unknown."""

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


def variable(attribute: str) -> str:
    """The environment variable of Envoy that holds one of its workload's names."""
    return f"FAIRLEAD_WORKLOAD_{attribute.upper()}"


def wire(workload: Workload) -> dict[str, str]:
    """The names under their short keys; unknown ones are left out."""
    found = {key: str(getattr(workload, attribute)) for attribute, _, key in NAMES}
    return {key: value for key, value in found.items() if value}


def peer_header(own: Workload) -> str:
    """The introduction: a serialised google.protobuf.Value in base64."""
    fields = {key: struct_pb2.Value(string_value=text) for key, text in wire(own).items()}
    value = struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))
    return base64.b64encode(value.SerializeToString(deterministic=True)).decode()


def environment(own: Workload) -> dict[str, str]:
    """The variables with which Envoy is started."""
    names = {variable(attribute): str(getattr(own, attribute)) or UNKNOWN for attribute, _, _ in NAMES}
    return {**names, PEER_VARIABLE: peer_header(own)}
