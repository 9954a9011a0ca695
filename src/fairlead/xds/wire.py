"""The session machine's values as discovery messages, and back.

Responses are put together from the resources' own bytes, which are serialised once for all sessions: only a few
bytes around each are made here (Protocol Buffers encoding: a tag, a length, the content).
"""

from __future__ import annotations

from typing import Any

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from fairlead.envoy.resource import Resource
from fairlead.xds.messages import DeltaRequest, ProtocolError, Response, SotwRequest

_ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX = (bytes([number << 3 | 2]) for number in range(1, 7))
MAX_NODE_BYTES = 1 << 20


class Node(msgspec.Struct, frozen=True):
    """Who a client says it is (envoy.config.core.v3.Node). Nothing here is proven; the certificate is."""

    id: str
    cluster: str = ""
    metadata: dict[str, Any] = {}
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    agent: str = ""


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _length(len(content)) + content


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _any_head(type_field: bytes, resource: Resource) -> tuple[bytes, int]:
    """What precedes the body in a google.protobuf.Any, and the length of the whole Any."""
    head = type_field + _TWO + _length(len(resource.body))
    return head, len(head) + len(resource.body)


def encode_delta(response: Response) -> bytes:
    """A serialised DeltaDiscoveryResponse."""
    type_field = _field(_ONE, response.type_url.encode())
    parts: list[bytes] = []
    if response.version:
        parts.append(_field(_ONE, response.version.encode()))
    for resource in response.resources:
        head, size = _any_head(type_field, resource)
        before = _field(_ONE, resource.version.encode()) + _TWO + _length(size) + head
        after = _field(_THREE, resource.name.encode())
        parts += (_TWO, _length(len(before) + len(resource.body) + len(after)), before, resource.body, after)
    parts.append(_field(_FOUR, response.type_url.encode()))
    parts.append(_field(_FIVE, response.nonce.encode()))
    parts += [_field(_SIX, name.encode()) for name in response.removed]
    return b"".join(parts)


def encode_sotw(response: Response) -> bytes:
    """A serialised DiscoveryResponse."""
    type_field = _field(_ONE, response.type_url.encode())
    parts = [_field(_ONE, response.version.encode())]
    for resource in response.resources:
        head, size = _any_head(type_field, resource)
        parts += (_TWO, _length(size), head, resource.body)
    parts.append(_field(_FOUR, response.type_url.encode()))
    parts.append(_field(_FIVE, response.nonce.encode()))
    return b"".join(parts)


def decode_delta(data: bytes) -> tuple[DeltaRequest, Node | None]:
    """A DeltaDiscoveryRequest, and its node if it has one. Raises ProtocolError."""
    try:
        message = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
    except DecodeError as error:
        raise ProtocolError("the request is not a DeltaDiscoveryRequest") from error
    request = DeltaRequest(
        message.type_url,
        tuple(message.resource_names_subscribe),
        tuple(message.resource_names_unsubscribe),
        dict(message.initial_resource_versions),
        message.response_nonce,
        message.error_detail.message if message.HasField("error_detail") else None,
    )
    return request, _node(message.node) if message.HasField("node") else None


def decode_sotw(data: bytes) -> tuple[SotwRequest, Node | None]:
    """A DiscoveryRequest, and its node if it has one. Raises ProtocolError."""
    try:
        message = discovery_pb2.DiscoveryRequest.FromString(data)
    except DecodeError as error:
        raise ProtocolError("the request is not a DiscoveryRequest") from error
    request = SotwRequest(
        message.type_url,
        tuple(message.resource_names),
        message.version_info,
        message.response_nonce,
        message.error_detail.message if message.HasField("error_detail") else None,
    )
    return request, _node(message.node) if message.HasField("node") else None


def _node(message: base_pb2.Node) -> Node:
    if message.ByteSize() > MAX_NODE_BYTES:
        raise ProtocolError(f"the node description has {message.ByteSize()} bytes; at most {MAX_NODE_BYTES} are read")
    return Node(
        message.id,
        message.cluster,
        MessageToDict(message.metadata),
        message.locality.region,
        message.locality.zone,
        message.locality.sub_zone,
        message.user_agent_name,
    )
