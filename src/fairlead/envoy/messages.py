"""Envoy messages by name, and from their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, cast

from google.protobuf import any_pb2, json_format, symbol_database
from google.protobuf.message import Message

_PUBLISHERS = ("envoy", "udpa", "xds", "google", "validate")
_DEPTH = 64


class UnreadableError(ValueError):
    """JSON that is not the message that it should be. `field` says where, as far as that is known."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@lru_cache(maxsize=1024)
def message_class(name: str) -> type[Message] | None:
    """The class of a message by its full name (`envoy.config.cluster.v3.Cluster`), or None if it is not known."""
    found = _registered(name)
    if found is not None:
        return found
    package = name.rpartition(".")[0]
    if package.partition(".")[0] not in _PUBLISHERS or not package.replace(".", "").replace("_", "").isalnum():
        return None
    try:
        module = import_module(package)
    except ImportError:
        return None
    for one in iter_modules(module.__path__):
        if one.name.endswith("_pb2"):
            import_module(f"{package}.{one.name}")
    return _registered(name)


def parse(kind: type[Message], value: Mapping[str, Any]) -> bytes:
    """The serialised message that a JSON-shaped value says. Raises UnreadableError."""
    _know_types(value, 0)
    made = kind()
    try:
        json_format.ParseDict(dict(value), made, max_recursion_depth=_DEPTH)
        return made.SerializeToString(deterministic=True)
    except KeyError as error:
        raise UnreadableError(f"an Any lacks {error}") from None
    except (json_format.ParseError, TypeError, ValueError, AttributeError, RecursionError, IndexError) as error:
        said = str(error) or type(error).__name__
        field = said.partition(' at "')[2].partition('"')[0].partition(".")[2]
        raise UnreadableError(said[:300].rstrip("."), field) from None


def unpacked(value: any_pb2.Any) -> Message | None:
    """The message inside of an Any, or None where its type is not known or its bytes are no such message."""
    kind = message_class(value.type_url.rpartition("/")[2])
    if kind is None:
        return None
    made = kind()
    try:
        made.ParseFromString(value.value)
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        return None
    return made


def _registered(name: str) -> type[Message] | None:
    try:
        return symbol_database.Default().GetSymbol(name)
    except KeyError:
        return None


def _know_types(value: object, depth: int) -> None:
    """Load the messages that Anys in a value hold, so that they can be read."""
    if depth > _DEPTH:
        raise UnreadableError(f"more than {_DEPTH} levels deep")
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value)
        url = items.get("@type")
        if isinstance(url, str) and message_class(url.rpartition("/")[2]) is None:
            raise UnreadableError(f"{url!r} is not a type that Envoy knows")
        for one in items.values():
            _know_types(one, depth + 1)
    elif isinstance(value, list):
        for one in cast("list[object]", value):
            _know_types(one, depth + 1)
