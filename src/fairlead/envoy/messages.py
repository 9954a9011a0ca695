"""Envoy messages by name, and from their JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, cast

from google.protobuf import any_pb2, json_format, symbol_database
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from fairlead.model.duration import is_duration, parse_duration

_PUBLISHERS = ("envoy", "udpa", "xds", "google", "validate")
_DEPTH = 64
_DURATION = "google.protobuf.Duration"
_SECOND = re.compile(r"^envoy\..*\.v2(alpha\d*)?\.")


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
    """The serialised message that a JSON-shaped value says. Raises UnreadableError.

    Like Istio's reader it takes durations as Go writes them beside protobuf's own form.
    """
    read = _readable(value, cast("Descriptor", kind.DESCRIPTOR), 0)
    made = kind()
    try:
        json_format.ParseDict(cast("dict[str, Any]", read), made, max_recursion_depth=_DEPTH)
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


def _readable(value: object, of: Descriptor | None, depth: int) -> object:
    """JSON for a message (None: for what has no fields of its own) as protobuf reads it.

    The messages that Anys hold are loaded, and durations as Go writes them (`500ms`, `1m`) are given in seconds.
    """
    if depth > _DEPTH:
        raise UnreadableError(f"more than {_DEPTH} levels deep")
    if isinstance(value, list):
        return [_readable(one, of, depth + 1) for one in cast("list[object]", value)]
    if isinstance(value, str):
        return _seconds(value) if of is not None and of.full_name == _DURATION else value
    if not isinstance(value, Mapping):
        return value
    items = cast("Mapping[str, object]", value)
    url = items.get("@type")
    if isinstance(url, str):
        of = cast("Descriptor", _packed(url).DESCRIPTOR)
    return {name: _readable(one, _inside(of, name), depth + 1) for name, one in items.items()}


def _packed(url: str) -> type[Message]:
    """The class of what an Any holds. Raises UnreadableError."""
    name = url.rpartition("/")[2]
    if _SECOND.search(name):
        raise UnreadableError(f"{url!r} is of Envoy's second API, which is gone: use the type of the third (v3)")
    kind = message_class(name)
    if kind is None:
        raise UnreadableError(f"{url!r} is not a type that Envoy knows")
    return kind


def _inside(of: Descriptor | None, name: str) -> Descriptor | None:
    """What a field holds, by either of its names; the values where `of` is that of a map's entries."""
    if of is None:
        return None
    if of.GetOptions().map_entry:
        name = "value"
    field = of.fields_by_name.get(name) or of.fields_by_camelcase_name.get(name)
    return field.message_type if field is not None else None


def _seconds(text: str) -> str:
    if text.endswith("s") and text[:-1].replace(".", "", 1).lstrip("-").isdecimal():
        return text
    return f"{parse_duration(text):.9f}s" if is_duration(text) else text
