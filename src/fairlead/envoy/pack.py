"""Messages inside messages: `Any` with deterministic bytes, and fields put together from bytes."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

_PREFIX = "type.googleapis.com/"
_LENGTH_DELIMITED = 2


def pack(message: Message) -> Any:
    """`message` in an Any; equal messages give equal bytes (maps are sorted)."""
    return Any(type_url=_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True))


def packed(type_url: str, value: bytes) -> Any:
    """Bytes that were serialised before, in an Any; `type_url` with or without its prefix."""
    return Any(type_url=type_url if "/" in type_url else _PREFIX + type_url, value=value)


def seconds(value: float) -> Duration:
    """A duration of so many seconds, to the nanosecond."""
    whole, rest = divmod(round(value * 1_000_000_000), 1_000_000_000)
    return Duration(seconds=whole, nanos=rest)


def framed(field: int, body: bytes) -> bytes:
    """A message, string or bytes field, or one element of it, on the wire: tag, length, bytes."""
    return opened(field, len(body)) + body


def opened(field: int, length: int) -> bytes:
    """What stands before so many bytes of such a field."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(length)


def varint(value: int) -> bytes:
    """A number on the wire (Protocol Buffers encoding)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that stands there, and where it ends. Raises ValueError if it is cut off, or longer than any is."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number is cut off")
