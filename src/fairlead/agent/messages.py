"""The small messages that the agent speaks and that no package ships: certificates, the name table, gRPC health.

They are described here in a pool of their own, so that another description of the same messages in this process
(the control plane's) cannot clash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_ONE = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_MANY = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
SERVING = 1
CREATE_CERTIFICATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


class Host(msgspec.Struct, frozen=True):
    """A name in the name table: where it is, and for Kubernetes services their short name and namespace."""

    addresses: tuple[str, ...]
    registry: str = ""
    shortname: str = ""
    namespace: str = ""


class _Message(Protocol):
    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...  # noqa: N802 (protobuf's own name)


def _message(file: descriptor_pb2.FileDescriptorProto, name: str) -> descriptor_pb2.DescriptorProto:
    return file.message_type.add(name=name)


def _classes() -> Mapping[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    ca = descriptor_pb2.FileDescriptorProto(name="istio_ca.proto", package="istio.v1.auth", syntax="proto3")
    request = _message(ca, "IstioCertificateRequest")
    request.field.add(name="csr", number=1, type=_STRING, label=_ONE)
    request.field.add(name="validity_duration", number=3, type=_INT64, label=_ONE)
    _message(ca, "IstioCertificateResponse").field.add(name="cert_chain", number=1, type=_STRING, label=_MANY)
    nds = descriptor_pb2.FileDescriptorProto(name="nds.proto", package="istio.networking.nds.v1", syntax="proto3")
    table = _message(nds, "NameTable")
    info = table.nested_type.add(name="NameInfo")
    for number, (name, label) in enumerate(
        (("ips", _MANY), ("registry", _ONE), ("shortname", _ONE), ("namespace", _ONE), ("alt_hosts", _MANY)), start=1
    ):
        info.field.add(name=name, number=number, type=_STRING, label=label)
    entry = table.nested_type.add(name="TableEntry")
    entry.options.map_entry = True
    scope = ".istio.networking.nds.v1.NameTable"
    entry.field.add(name="key", number=1, type=_STRING, label=_ONE)
    entry.field.add(name="value", number=2, type=_MESSAGE, label=_ONE, type_name=f"{scope}.NameInfo")
    table.field.add(name="table", number=1, type=_MESSAGE, label=_MANY, type_name=f"{scope}.TableEntry")
    health = descriptor_pb2.FileDescriptorProto(name="health.proto", package="grpc.health.v1", syntax="proto3")
    _message(health, "HealthCheckRequest").field.add(name="service", number=1, type=_STRING, label=_ONE)
    _message(health, "HealthCheckResponse").field.add(name="status", number=1, type=_INT64, label=_ONE)
    for file in (ca, nds, health):
        pool.Add(file)
    return message_factory.GetMessageClassesForFiles([ca.name, nds.name, health.name], pool)


_CLASSES = _classes()


def certificate_request(csr_pem: str, lifetime: int) -> bytes:
    """A serialised IstioCertificateRequest; `lifetime` in seconds, 0 for the authority's choice."""
    kind = _CLASSES["istio.v1.auth.IstioCertificateRequest"]
    return cast("_Message", kind(csr=csr_pem, validity_duration=lifetime)).SerializeToString()


def certificate_chain(response: bytes) -> list[str]:
    """The PEM certificates of a serialised IstioCertificateResponse: leaf first, root last."""
    return list(_CLASSES["istio.v1.auth.IstioCertificateResponse"].FromString(response).cert_chain)


def name_table(body: bytes) -> dict[str, Host]:
    """The hosts of a serialised NameTable, alternative names included."""
    hosts: dict[str, Host] = {}
    for name, info in _CLASSES["istio.networking.nds.v1.NameTable"].FromString(body).table.items():
        host = Host(tuple(info.ips), info.registry, info.shortname, info.namespace)
        for known in (name, *info.alt_hosts):
            hosts[known.lower().rstrip(".")] = host
    return hosts


def encode_name_table(hosts: Mapping[str, Host], aliases: Mapping[str, Sequence[str]] | None = None) -> bytes:
    """A serialised NameTable; `aliases` gives hosts further names."""
    table = _CLASSES["istio.networking.nds.v1.NameTable"]()
    for name, host in hosts.items():
        info = table.table[name]
        info.ips.extend(host.addresses)
        info.registry, info.shortname, info.namespace = host.registry, host.shortname, host.namespace
        info.alt_hosts.extend((aliases or {}).get(name, ()))
    return cast("_Message", table).SerializeToString(deterministic=True)


def health_request(service: str) -> bytes:
    """A serialised grpc.health.v1.HealthCheckRequest."""
    return cast("_Message", _CLASSES["grpc.health.v1.HealthCheckRequest"](service=service)).SerializeToString()


def health_status(body: bytes) -> int:
    """The status in a serialised HealthCheckResponse (an enum: read as the number it is on the wire)."""
    return int(_CLASSES["grpc.health.v1.HealthCheckResponse"].FromString(body).status)
