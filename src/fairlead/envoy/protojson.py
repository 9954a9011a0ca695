"""Envoy messages as JSON-shaped data (proto JSON), with every packed message unfolded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, cast

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

_TRIED: set[str] = set()


def load_type(type_url: str) -> bool:
    """Import the module that defines a type, if this installation has it; whether it is known now."""
    name = type_url.rpartition("/")[2]
    try:
        descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        package = name.rpartition(".")[0]
        if package in _TRIED:
            return False
        _TRIED.add(package)
        try:
            parent = import_module(package)
        except ImportError:
            return False
        for module in iter_modules(parent.__path__):
            if module.name.endswith("_pb2"):
                import_module(f"{package}.{module.name}")
        return load_type(type_url)
    return True


def decode(type_url: str, body: bytes) -> Message:
    """The message of a type that `load_type` knows. Raises KeyError for another."""
    load_type(type_url)
    descriptor = descriptor_pool.Default().FindMessageTypeByName(type_url.rpartition("/")[2])
    return message_factory.GetMessageClass(descriptor).FromString(body)


def unpacked(message: Message) -> Message:
    """What an Any holds, if its type is known; every other message is itself."""
    if isinstance(message, AnyMessage) and message.type_url and load_type(message.type_url):
        return decode(message.type_url, message.value)
    return message


def to_json(message: Message, *, original_names: bool = False) -> dict[str, Any]:
    """The message as JSON-shaped data (camelCase or the fields' own names, packed messages with `@type`)."""
    _load_inside(message)
    return ordered(json_format.MessageToDict(message, preserving_proto_field_name=original_names))


def ordered(value: Any) -> Any:
    """JSON-shaped data with all fields in alphabetical order: maps of protobuf come in any."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {key: ordered(fields[key]) for key in sorted(fields)}
    return [ordered(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def _load_inside(message: Message) -> None:
    if isinstance(message, AnyMessage):
        if message.type_url and load_type(message.type_url):
            _load_inside(decode(message.type_url, message.value))
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for one in value.values():
                    _load_inside(one)
        elif field.is_repeated:
            for one in value:
                _load_inside(one)
        else:
            _load_inside(value)
