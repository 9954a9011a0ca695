"""Merging of Envoy messages as Istio's patches do it (istio `pkg/proto/merge` and `pilot/pkg/util`)."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf import any_pb2
from google.protobuf.message import Message

from fairlead.envoy.messages import unpacked
from fairlead.envoy.pack import pack

_WHOLE = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Duration",
        "BoolValue",
        "BytesValue",
        "DoubleValue",
        "FloatValue",
        "Int32Value",
        "Int64Value",
        "StringValue",
        "UInt32Value",
        "UInt64Value",
    )
)
"""Messages that are values: they are replaced, since zero could not be told from nothing."""


def merge(target: Message, change: Message, *, replace_lists: bool = False) -> None:
    """Set in `target` what `change` sets.

    Messages are merged field by field, lists are appended (or replaced), entries of maps are replaced. What Anys of
    one type hold is merged; another type replaces what is there.
    """
    for field, value in change.ListFields():
        is_list = field.is_repeated
        if is_list and field.message_type is not None and field.message_type.GetOptions().map_entry:
            _merge_map(getattr(target, field.name), value, field.message_type.fields_by_name["value"].message_type)
        elif is_list:
            found = getattr(target, field.name)
            if replace_lists:
                target.ClearField(field.name)
            found = getattr(target, field.name)
            found.extend(value)
        elif field.message_type is None:
            setattr(target, field.name, value)
        else:
            _merge_message(target, field.name, value, replace_lists=replace_lists)


def merge_any(target: any_pb2.Any, change: any_pb2.Any, *, replace_lists: bool = False) -> None:
    """Merge what two Anys hold, if that is of one type; else the second takes the place of the first."""
    if target.type_url == change.type_url:
        old, new = unpacked(target), unpacked(change)
        if old is not None and new is not None:
            merge(old, new, replace_lists=replace_lists)
            target.CopyFrom(pack(old))
            return
    target.CopyFrom(change)


def _merge_message(target: Message, name: str, value: Message, *, replace_lists: bool) -> None:
    held = cast("Message", getattr(target, name))
    if isinstance(value, any_pb2.Any):
        merge_any(cast("any_pb2.Any", held), value, replace_lists=replace_lists)
    elif value.DESCRIPTOR.full_name in _WHOLE:
        held.CopyFrom(value)
    else:
        # The message may say nothing and yet mean something by being there.
        held.SetInParent()
        merge(held, value, replace_lists=replace_lists)


def _merge_map(held: Any, value: Any, messages: object) -> None:
    for key in value:
        if messages is not None:
            held[key].CopyFrom(value[key])
        else:
            held[key] = value[key]
