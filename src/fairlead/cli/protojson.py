"""Protobuf messages as JSON, with every packed message unfolded."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from fairlead.cli.printing import ordered

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
    """The message of a type that `load_type` knows."""
    load_type(type_url)
    descriptor = descriptor_pool.Default().FindMessageTypeByName(type_url.rpartition("/")[2])
    return message_factory.GetMessageClass(descriptor).FromString(body)


def to_json(message: Message, *, original_names: bool = False) -> dict[str, Any]:
    """The message as JSON-shaped data (protojson: camelCase or the fields' own names, packed messages with `@type`)."""
    _load_inside(message)
    return ordered(json_format.MessageToDict(message, preserving_proto_field_name=original_names))


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
