"""The session machine's values as discovery messages, and back.

Responses are put together from the resources' own bytes, which are serialised once for all sessions: only a few
bytes around each are made here (Protocol Buffers encoding: a tag, a length, the content).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from functools import lru_cache
from sys import intern
from typing import Any, cast

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from fairlead.envoy.pack import varint
from fairlead.envoy.resource import Resource
from fairlead.model.nodeid import NodeId, called
from fairlead.xds.messages import DeltaRequest, ProtocolError, Response, SotwRequest
from fairlead.xds.patch import PATCH, between
from fairlead.xds.requests import Ends, Told, parsed, versions

_ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX = (bytes([number << 3 | 2]) for number in range(1, 7))
MAX_NODE_BYTES = 1 << 20
_DIFFERENCES = 1024
"""So many differences are kept: while much changes, proxies differ in what they have of it."""
_SHORT = 256
"""Requests of at most so many bytes are acknowledgements mostly: very many proxies send the same few."""


_KEPT = 1024
"""So many short requests, and frames of responses, are kept: all proxies say and are sent the same within seconds, and
later nobody does."""


class Node(msgspec.Struct, frozen=True):
    """Who a client says it is (envoy.config.core.v3.Node). Nothing here is proven; the certificate is."""

    id: str
    cluster: str = ""
    metadata: dict[str, Any] = {}
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    agent: str = ""

    @property
    def parts(self) -> NodeId:
        """What the id says."""
        return NodeId.of(self.id)

    @property
    def called(self) -> str:
        """`NAME.NAMESPACE`, or the id itself where it has another form."""
        return called(self.id)


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def _whole(resource: Resource) -> list[bytes]:
    """One envoy.service.discovery.v3.Resource, framed."""
    framing = resource.framing
    if framing is None:
        framing = resource.framing = _around(resource, resource.type_url, resource.size)
    body = [piece.body for piece in resource.pieces] or [resource.body]
    return [framing[0], *body, framing[1]]


def _around(resource: Resource, type_url: str, length: int) -> tuple[bytes, bytes]:
    """What stands before and after the bytes of a resource."""
    head = _field(_ONE, type_url.encode()) + _TWO + varint(length)
    before = _field(_ONE, resource.version.encode()) + _TWO + varint(len(head) + length) + head
    after = _field(_THREE, resource.name.encode())
    return _TWO + varint(len(before) + length + len(after)) + before, after


def _sotw_resource(resource: Resource) -> list[bytes]:
    """One google.protobuf.Any, framed."""
    body = resource.body
    head = _field(_ONE, resource.type_url.encode()) + _TWO + varint(len(body))
    return [_TWO, varint(len(head) + len(body)), head, body]


@lru_cache(_KEPT)
def _ends(version: str, type_url: str, nonce: str) -> tuple[bytes, bytes]:
    """What stands before and after the resources of a response. Numbers of responses are much the same everywhere."""
    head = _field(_ONE, version.encode()) if version else b""
    return head, _field(_FOUR, type_url.encode()) + _field(_FIVE, nonce.encode())


class Encoder:
    """Responses as serialised messages, in buffers to be sent one after the other.

    Proxies that are given the same resources share the bytes of these: what is kept for that is bounded.
    """

    def __init__(self, most: int = 128, most_bytes: int = 16 << 20) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[object, ...], tuple[Response, bytes]] = OrderedDict()
        self._differences: OrderedDict[tuple[int, int], tuple[Resource, Resource, list[bytes]]] = OrderedDict()
        """What is sent in place of a resource to whoever has another, both of which are kept with it."""
        self._older = self._differences.copy()
        """Those of before the last time that old ones were forgotten."""
        self.hits = 0
        self.misses = 0

    def delta(self, response: Response) -> tuple[bytes, ...]:
        """A DeltaDiscoveryResponse."""
        head, tail = _ends(response.version, response.type_url, response.nonce)
        if response.removed:
            tail += b"".join([_field(_SIX, name.encode()) for name in response.removed])
        return head, self._shared(response, delta=True), tail

    def sotw(self, response: Response) -> tuple[bytes, ...]:
        """A DiscoveryResponse."""
        head, tail = _ends(response.version, response.type_url, response.nonce)
        return head, self._shared(response, delta=False), tail

    def _shared(self, response: Response, *, delta: bool) -> bytes:
        resources, bases = response.resources, response.bases
        if not resources:
            return b""
        key = (delta, *map(id, resources), *map(id, bases.values()))
        kept = self._kept.get(key)
        if kept is not None:
            self.hits += 1
            self._kept.move_to_end(key)
            return kept[1]
        self.misses += 1
        parts: list[bytes] = []
        for resource in resources:
            parts += self._delta(resource, bases.get(resource.name)) if delta else _sotw_resource(resource)
        body = b"".join(parts)
        # The response is kept with its bytes: as long as its resources live, nothing else has their identities.
        self._kept[key] = (response, body)
        self._bytes += len(body)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1][1])
        return body

    def forget(self) -> None:
        """Keep no longer what nobody has been sent since this was called before: versions that nobody has any more."""
        self._older, self._differences = self._differences, OrderedDict()
        self._kept.clear()
        self._bytes = 0

    def _delta(self, resource: Resource, base: Resource | None) -> list[bytes]:
        """One resource, framed; a difference from `base` where that is less."""
        if base is None:
            return _whole(resource)
        key = id(base), id(resource)
        found = self._differences.get(key)
        if found is None and (found := self._older.get(key)) is not None:
            self._differences[key] = found
        if found is None:
            difference = between(base, resource)
            parts: list[bytes] = []
            if len(difference) * 2 < resource.size:
                before, after = _around(resource, PATCH, len(difference))
                parts = [before, difference, after]
            found = self._differences[key] = (base, resource, parts)
            if len(self._differences) > _DIFFERENCES:
                self._differences.popitem(last=False)
        return found[2] or _whole(resource)


def decode_delta(data: bytes) -> tuple[DeltaRequest, Node | None]:
    """A DeltaDiscoveryRequest, and its node if it has one. Raises ProtocolError."""
    if len(data) <= _SHORT:
        return _short_delta(data)
    # What describes no node is alike for clients that are: of a thousand that return nearly all say the same.
    if not data.startswith(_ONE):
        return _shared_delta(data)
    begin, told = _ENDS.cut(data)
    if told is not None:
        with suppress(ProtocolError):
            return _read_delta(begin, told)
    return _read_delta(data)


def _read_delta(data: bytes, told: Told | None = None) -> tuple[DeltaRequest, Node | None]:
    message = parsed(data)
    request = DeltaRequest(
        message.type_url,
        tuple(message.subscribe),
        tuple(message.unsubscribe),
        versions(message.held, told),
        message.nonce,
        message.error.message if message.HasField("error") else None,
    )
    return request, _node(message.node) if message.HasField("node") else None


_short_delta = lru_cache(_KEPT)(_read_delta)
_shared_delta = lru_cache(8)(_read_delta)
_ENDS = Ends()


def forget() -> None:
    """Keep nothing any longer of what clients said and were told alike: those who were to say the same have."""
    _short_delta.cache_clear()
    _shared_delta.cache_clear()
    _ends.cache_clear()
    _ENDS.forget()


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


def _sharing(said: Any) -> Any:
    """The same with one text for each name, as all proxies have much the same names, and keep what they say."""
    if isinstance(said, dict):
        return {intern(name): _sharing(value) for name, value in cast("dict[str, Any]", said).items()}
    return [_sharing(one) for one in cast("list[Any]", said)] if isinstance(said, list) else said


def _node(message: base_pb2.Node) -> Node:
    if message.ByteSize() > MAX_NODE_BYTES:
        raise ProtocolError(f"the node description has {message.ByteSize()} bytes; at most {MAX_NODE_BYTES} are read")
    return Node(
        message.id,
        message.cluster,
        _sharing(MessageToDict(message.metadata)),
        message.locality.region,
        message.locality.zone,
        message.locality.sub_zone,
        message.user_agent_name,
    )
