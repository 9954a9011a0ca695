"""Delta requests as they come: who returns names everything that it has, a thousand names and versions and more.

What such a client says is mostly what the next one says, and what the catalog would say. So the entries of
`initial_resource_versions` stay the bytes that they came as: they are compared as such with those of the catalog
(`fairlead.envoy.resource.Rows`), and read only where they differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from envoy.config.core.v3 import base_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from fairlead.xds.messages import ProtocolError

_NOTHING: Mapping[str, str] = {}
_FEW = 16
"""So many entries are read at once."""


def _classes() -> tuple[Any, Any]:
    """DeltaDiscoveryRequest with the entries of its map as bytes, and such an entry: alike on the wire."""
    field = descriptor_pb2.FieldDescriptorProto
    depends = [base_pb2.DESCRIPTOR.name, status_pb2.DESCRIPTOR.name]
    file = descriptor_pb2.FileDescriptorProto(
        name="fairlead/xds/requests.proto", package="fairlead.xds.v1", syntax="proto3", dependency=depends
    )
    request, entry = file.message_type.add(name="DeltaRequest"), file.message_type.add(name="Held")
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    for number, name, label in (
        (2, "type_url", one),
        (3, "subscribe", many),
        (4, "unsubscribe", many),
        (6, "nonce", one),
    ):
        request.field.add(name=name, number=number, type=field.TYPE_STRING, label=label)
    request.field.add(name="held", number=5, type=field.TYPE_BYTES, label=many)
    for number, name, described in ((1, "node", base_pb2.Node), (7, "error", status_pb2.Status)):
        full = f".{described.DESCRIPTOR.full_name}"
        request.field.add(name=name, number=number, type=field.TYPE_MESSAGE, label=one, type_name=full)
    for number, name in ((1, "name"), (2, "version")):
        entry.field.add(name=name, number=number, type=field.TYPE_STRING, label=one)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())  # pyright: ignore[reportUnknownMemberType]
    found = [pool.FindMessageTypeByName(f"fairlead.xds.v1.{name}") for name in ("DeltaRequest", "Held")]
    made = [message_factory.GetMessageClass(one) for one in found]
    return made[0], made[1]


_REQUEST, _ENTRY = _classes()


class Claims(Mapping[str, str]):
    """Versions by name that a client says it has, as serialised entries; they are read when somebody asks for one."""

    __slots__ = ("_asked", "_read", "entries")

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = frozenset(entries)
        self._read: dict[str, str] | None = None
        self._asked: frozenset[str] | None = None

    def asked(self, subscribed: tuple[str, ...]) -> frozenset[str]:
        """The names that the same request subscribes, which many clients share."""
        if self._asked is None:
            self._asked = frozenset(subscribed)
        return self._asked

    def __getitem__(self, name: str) -> str:
        return self._versions()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions())

    def __len__(self) -> int:
        return len(self.entries)

    def _versions(self) -> dict[str, str]:
        if self._read is None:
            self._read = dict(map(claimed, self.entries))
        return self._read


def claimed(entry: bytes) -> tuple[str, str]:
    """Name and version of an entry. Raises ProtocolError."""
    try:
        read = _ENTRY.FromString(entry)
    except DecodeError as error:
        raise ProtocolError("an entry of initial_resource_versions is not a name with a version") from error
    return cast("str", read.name), cast("str", read.version)


def parsed(data: bytes) -> Any:
    """The message: `node`, `type_url`, `subscribe`, `unsubscribe`, `held`, `nonce`, `error`. Raises ProtocolError."""
    try:
        return _REQUEST.FromString(data)
    except DecodeError as error:
        raise ProtocolError("the request is not a DeltaDiscoveryRequest") from error


def versions(held: Sequence[bytes]) -> Mapping[str, str]:
    """What the client says it has, of the entries in a message. Raises ProtocolError."""
    if len(held) > _FEW:
        return Claims(held)
    return dict(map(claimed, held)) if held else _NOTHING
