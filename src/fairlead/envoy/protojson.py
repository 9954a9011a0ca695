"""Envoy messages as JSON-shaped data (proto JSON), with every packed message unfolded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from fairlead.envoy.messages import message_class


def load_type(type_url: str) -> bool:
    """Import the module that defines a type, if this installation has it; whether it is known now."""
    return message_class(type_url.rpartition("/")[2]) is not None


def decode(type_url: str, body: bytes) -> Message:
    """The message of a type that `load_type` knows. Raises KeyError for another."""
    kind = message_class(type_url.rpartition("/")[2])
    if kind is None:
        raise KeyError(type_url)
    return kind.FromString(body)


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
