"""Places inside of Envoy messages: the paths of settings, and what stands there.

A path is a tuple of steps such as `("virtualHosts[cart.shop.svc.cluster.local:80]", "routes[0]", "route", "timeout")`:
fields under their proto JSON names, and in brackets which element of a list or map. Elements are called by their
names where these differ within the list, endpoints by their addresses, all others by their place, from 0. A packed
message (Any) is no step of its own.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fairlead.envoy.protojson import to_json, unpacked

Path = tuple[str, ...]

_PLAIN = frozenset(("Struct", "Value", "ListValue", "Duration", "Timestamp", "FieldMask"))
_WRAPPED = "Value"
"""Ends the names of wrapped plain values (google.protobuf.UInt32Value)."""


class PathError(ValueError):
    """A path cannot be read, or nothing stands there; the message says which step."""


def written(path: Path) -> str:
    """A path as people write it: steps with `/` between."""
    return "/".join(path)


def parse(text: str) -> Path:
    """The steps of a written path; a `/` inside of brackets does not end a step. Raises PathError."""
    steps: list[str] = []
    depth, start = 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "/" and depth == 0:
            steps.append(text[start:at])
            start = at + 1
    if depth:
        raise PathError(f"{text!r} has a bracket that does not end")
    steps.append(text[start:])
    return tuple(one for one in steps if one)


def is_plain(message: Message) -> bool:
    """Whether a message is one value for people: a duration, a wrapped number, free-form data."""
    full = message.DESCRIPTOR.full_name
    name = full.removeprefix("google.protobuf.")
    return name != full and (name in _PLAIN or name.endswith(_WRAPPED))


def fields(message: Message) -> list[tuple[FieldDescriptor, Any]]:
    """The fields that are set, in the order of their numbers."""
    return cast("list[tuple[FieldDescriptor, Any]]", message.ListFields())


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def plain(field: FieldDescriptor, value: Any) -> Any:
    """The value of a field that is no message, as JSON has it."""
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return b64encode(value).decode() if isinstance(value, bytes) else value


def shown(value: Any) -> Any:
    """A message as JSON; everything else as it is."""
    return to_json(value) if isinstance(value, Message) else value


def callers(elements: Sequence[Message]) -> list[str]:
    """What each element of a list is called: names if they tell the elements apart, or else places."""
    names = [_name(unpacked(one)) for one in elements]
    if all(names) and len(set(names)) == len(names):
        return names
    return [str(at) for at in range(len(elements))]


def _name(element: Message) -> str:
    message: Any = element
    kind = element.DESCRIPTOR.name
    if kind == "LbEndpoint":
        return address(message.endpoint.address)
    if kind == "LocalityLbEndpoints":
        where = "/".join(
            one for one in (message.locality.region, message.locality.zone, message.locality.sub_zone) if one
        )
        return f"{where or 'anywhere'}" + (f" priority {message.priority}" if message.priority else "")
    if kind == "HeaderValueOption":
        return str(message.header.key)
    if kind == "FilterChain":
        return _chain(message)
    known = element.DESCRIPTOR.fields_by_name.get("name")
    return str(message.name) if known is not None and known.type == FieldDescriptor.TYPE_STRING else ""


def _chain(chain: Any) -> str:
    """A filter chain by its name, and by what it takes: several have one name."""
    match = chain.filter_chain_match
    said = [chain.name] if chain.name else []
    if match.HasField("destination_port"):
        said.append(f"port {match.destination_port.value}")
    said += [f"{one.address_prefix}/{one.prefix_len.value}" for one in match.prefix_ranges]
    said += [*match.server_names]
    if any(one.startswith("istio") for one in match.application_protocols):
        said.append("mesh")
    elif match.application_protocols:
        said.append("+".join(match.application_protocols))
    if match.transport_protocol:
        said.append(match.transport_protocol)
    return " ".join(said)


def address(message: Any) -> str:
    """A core Address as `10.0.0.1:80`, or the path of its socket; empty for other forms."""
    if message.HasField("socket_address"):
        return f"{message.socket_address.address}:{message.socket_address.port_value}"
    if message.HasField("pipe"):
        return str(message.pipe.path)
    internal = message.envoy_internal_address
    return ":".join(one for one in (internal.server_listener_name, internal.endpoint_id) if one)


def inside(message: Message) -> Iterator[tuple[str, Any]]:
    """The steps from a message to what stands directly in it: messages, plain values, and lists of plain values."""
    for field, value in fields(unpacked(message)):
        if is_map(field):
            yield from _entries(field, value)
        elif field.message_type is not None and field.is_repeated:
            yield from ((f"{field.json_name}[{name}]", one) for name, one in zip(callers(value), value, strict=True))
        elif field.message_type is not None:
            yield field.json_name, value
        elif field.is_repeated:
            yield field.json_name, [plain(field, one) for one in value]
        else:
            yield field.json_name, plain(field, value)


def _entries(field: FieldDescriptor, value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    of = field.message_type.fields_by_name["value"] if field.message_type is not None else field
    for key in sorted(value, key=str):
        one = value[key]
        yield f"{field.json_name}[{key}]", one if of.message_type is not None else plain(of, one)


def leaves(message: Message, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every setting of a message that is one value, with its path."""
    if is_plain(message):
        yield at, cast("Any", to_json(message))
        return
    found = False
    for step, value in inside(message):
        found = True
        if isinstance(value, Message):
            yield from leaves(value, (*at, step))
        else:
            yield (*at, step), value
    if not found:
        yield at, {}


def find(message: Message, pattern: Path, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The places that a pattern means, with what stands there (a message, or a plain value).

    A step may leave its brackets out (all elements), hold an element's place instead of its name, and both may have
    `*` and `?`. Fields may be written in snake case.
    """
    if not pattern:
        yield at, message
        return
    wanted, rest = pattern[0], pattern[1:]
    place: dict[str, int] = {}
    for step, value in inside(message) if not is_plain(message) else ():
        field, _, name = step.partition("[")
        number = place[field] = place.get(field, -1) + 1
        if not _means(wanted, field, name[:-1], number):
            continue
        if isinstance(value, Message):
            yield from find(value, rest, (*at, step))
        elif not rest:
            yield (*at, step), value


def _means(wanted: str, field: str, name: str, number: int) -> bool:
    said, bracket, which = wanted.partition("[")
    head, *words = said.split("_")
    camel = head + "".join(one[:1].upper() + one[1:] for one in words)
    if not (fnmatchcase(field, said) or fnmatchcase(field, camel)):
        return False
    if not bracket:
        return True
    which = which[:-1]
    return which in (name, str(number)) or fnmatchcase(name, escaped(which))


def escaped(pattern: str) -> str:
    """Brackets in names are themselves (`ns[shop]-policy[web]`)."""
    return pattern.replace("[", "[[]")
