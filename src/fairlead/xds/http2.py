"""The server's side of the library h2 as a port keeps it for each of thousands of connections: small, and no cycle.

h2 keeps with each connection what only a busy server needs: a table of bound methods, which also ties the connection
to itself, and two HPACK tables, each with room for 64 entries. Here the methods are bound when a frame comes, and what
is sent is compressed without a table (RFC 7541, section 6.2.2), so that one encoder serves all connections. Objects
that are tied to themselves would be left to Python's collector of cycles, which does not look at what has been frozen
(`fairlead.controlplane.memory`).

Must not: know what is said on a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MethodType
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from hpack import Encoder
from hpack.table import HeaderTable

_CONFIGURATION = H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=True)
_FORGET = b"\x20"
"""A table of no bytes from here on (section 6.3): allowed at the begin of each block, whatever the client allows."""
_INDEXED, _WHOLE_INTEGER = 0x80, 0x0F


def _literal(text: bytes) -> bytes:
    """A string as it is (section 5.2)."""
    size = len(text)
    return (bytes([size]) if size < 0x7F else b"\x7f" + _rest(size - 0x7F)) + text


def _rest(number: int) -> bytes:
    """What is left of an integer behind its prefix (section 5.1)."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _named(index: int) -> bytes:
    """The name of the static table, without indexing (section 6.2.2)."""
    return bytes([index]) if index < _WHOLE_INTEGER else bytes([_WHOLE_INTEGER]) + _rest(index - _WHOLE_INTEGER)


class Forgetful(Encoder):
    """HPACK without a dynamic table, so that it has no state, and the same may serve any number of connections."""

    @property
    def header_table_size(self) -> int:
        """None is kept."""
        return 0

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        """What a client allows is more than is used."""

    def encode(self, headers: Iterable[Any] | Mapping[Any, Any], huffman: bool = True) -> bytes:
        """A block of headers, given as pairs."""
        out = [_FORGET]
        for header in headers:
            name, value = (one.encode() if isinstance(one, str) else bytes(one) for one in header[:2])
            at, values = HeaderTable.STATIC_TABLE_MAPPING.get(name) or (0, {})
            index = values.get(value)
            if index is not None:
                out.append(bytes([_INDEXED | index]))
            else:
                out += (_named(at), b"" if at else _literal(name), _literal(value))
        return b"".join(out)


class _Entries(list[tuple[bytes, bytes]]):
    """A table's entries, the newest first: at most 128, mostly fewer than ten, where a deque has room for 64."""

    __slots__ = ()

    def appendleft(self, entry: tuple[bytes, bytes]) -> None:
        self.insert(0, entry)


_Taking = Callable[[Any], Any]


class _Bound:
    """Methods of a connection by the kind of frame that they take."""

    __slots__ = ("_of",)

    def __init__(self, of: H2Connection) -> None:
        self._of = of

    def __getitem__(self, kind: type[Any]) -> _Taking:
        return MethodType(_TAKES[kind], self._of)


_TAKES: dict[type[Any], FunctionType] = {}
"""What takes a frame of each kind, of any connection."""
_ENCODER = Forgetful()


class ServerSide(H2Connection):
    """A client's connection, before anything was said on it."""

    def __init__(self) -> None:
        super().__init__(_CONFIGURATION)
        self.encoder = _ENCODER
        cast("Any", self.decoder.header_table).dynamic_entries = _Entries()

    # The library asks it for a key and nothing else.
    @property
    def _frame_dispatch_table(self) -> _Bound:
        return _Bound(self)

    @_frame_dispatch_table.setter
    def _frame_dispatch_table(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, made: Mapping[type[Any], MethodType]
    ) -> None:
        if not _TAKES:
            _TAKES.update((kind, cast("FunctionType", taking.__func__)) for kind, taking in made.items())
