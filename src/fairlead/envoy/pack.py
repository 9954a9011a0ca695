"""Messages inside messages: `Any` with deterministic bytes."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

_PREFIX = "type.googleapis.com/"


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
