"""Delta requests as they come: who returns names everything that it has, a thousand names and versions and more.

What such a client says is mostly what the next one says, and what the catalog would say. So the entries of
`initial_resource_versions` stay the bytes that they came as: they are compared as such with those of the catalog
(`fairlead.envoy.resource.Rows`), and read only where they differ. Clients that differ in the node and in what is their
own end alike: that end is read once, and compared with the catalog once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from envoy.config.core.v3 import base_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from fairlead.envoy.pack import framed, read_varint
from fairlead.envoy.resource import Said
from fairlead.xds.messages import ProtocolError

_NOTHING: Mapping[str, str] = {}
_FEW = 16
"""So many entries are read at once, or may be a client's own."""
_CATALOGS = 4
"""With so many catalogs entries are compared that many clients say."""
_ENDS, _LEAST, _MOST = 8, 1 << 10, 1 << 22
"""So many ends of requests are kept, and of how many bytes they are."""
_LENGTH_DELIMITED, _HELD = 2, 5 << 3 | 2
"""The type of fields on the wire that have a length, and the tag of an entry."""


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


class Told:
    """Entries that many clients say alike, and how they differ from those of catalogs."""

    __slots__ = ("_against", "entries")

    def __init__(self, entries: Iterable[bytes]) -> None:
        self.entries = frozenset(entries)
        self._against: dict[int, tuple[Said, int, frozenset[bytes], frozenset[bytes]]] = {}

    def against(self, said: Said) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """What is said here and not there, and what is said there and not here."""
        known = self._against.get(id(said))
        if known is None or known[1] != said.changes:
            if len(self._against) >= _CATALOGS:
                self._against.clear()
            here, there = self.entries.difference(said), frozenset(said.difference(self.entries))
            # With the set itself: as long as it lives, nothing else has its identity.
            known = self._against[id(said)] = (said, said.changes, here, there)
        return known[2], known[3]


class Claims(Mapping[str, str]):
    """Versions by name that a client says it has, as serialised entries; they are read when somebody asks for one.

    `own` are those that it may be alone to say.
    """

    __slots__ = ("_asked", "_own", "_read", "_told")

    def __init__(self, entries: Told | Sequence[bytes], own: Sequence[bytes] = ()) -> None:
        self._told = entries if isinstance(entries, Told) else Told(entries)
        self._own = frozenset(own)
        self._read: dict[str, str] | None = None
        self._asked: frozenset[str] | None = None

    def asked(self, subscribed: tuple[str, ...]) -> frozenset[str]:
        """The names that the same request subscribes, which many clients share."""
        if self._asked is None:
            self._asked = frozenset(subscribed)
        return self._asked

    def says(self, entry: bytes) -> bool:
        """Whether the client says just this."""
        return entry in self._own or entry in self._told.entries

    def against(self, should: Sequence[set[bytes]]) -> tuple[set[bytes], list[bytes]]:
        """What the client says and none of these sets has, and what they have and the client does not say."""
        beyond = self._told.entries
        lacking: set[bytes] = set()
        for one in should:
            if isinstance(one, Said):
                others, missing = self._told.against(one)
                beyond = others if beyond is self._told.entries else beyond & others
                lacking |= missing
            else:
                lacking |= one
        return set(self._own.union(beyond).difference(*should)), [one for one in lacking if not self.says(one)]

    def __getitem__(self, name: str) -> str:
        return self._versions()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions())

    def __len__(self) -> int:
        # Asked several times of each client that returns: no set of all is made for it.
        told = self._told.entries
        return len(told) + sum(one not in told for one in self._own)

    def _versions(self) -> dict[str, str]:
        if self._read is None:
            self._read = dict(map(claimed, (*self._own, *self._told.entries)))
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


def versions(held: Sequence[bytes], told: Told | None = None) -> Mapping[str, str]:
    """What the client says it has, of the entries in a message and those it ends with. Raises ProtocolError."""
    if told is not None:
        return Claims(told, held)
    if len(held) > _FEW:
        return Claims(held)
    return dict(map(claimed, held)) if held else _NOTHING


class Ends:
    """The ends of long requests, as far as they are nothing but entries that other clients say too."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Told] = OrderedDict()

    def cut(self, data: bytes) -> tuple[bytes, Told | None]:
        """The request without an end that is known from now on, and that end; without one, the request as it is.

        If what is left can be read as a message, it is the beginning of this one: messages are read field by field.
        """
        for end, told in self._known.items():
            if data.endswith(end):
                return data[: -len(end)], told
        end = data[_after_own(data) :]
        if not _LEAST <= len(end) <= _MOST:
            return data, None
        message = parsed(end)
        held = list(message.held)
        if sum(map(_framed_size, held)) != len(end):
            # Something else stands there too.
            return data, None
        told = self._known[end] = Told(held)
        while len(self._known) > _ENDS:
            self._known.popitem(last=False)
        return data[: -len(end)], told

    def forget(self) -> None:
        """Keep none any longer."""
        self._known.clear()


def _after_own(data: bytes) -> int:
    """Where the first entries of a request end, among which a client's own mostly are."""
    at = entries = 0
    while at < len(data) and entries < _FEW:
        tag = data[at]
        if tag & 7 != _LENGTH_DELIMITED or tag > 0x7F:
            return len(data)
        try:
            size, at = read_varint(data, at + 1)
        except ValueError:
            return len(data)
        at += size
        entries += tag == _HELD
    return at


def _framed_size(entry: bytes) -> int:
    """The bytes of an entry as a field of its message."""
    return len(framed(_HELD >> 3, entry))
