"""Envoy's matchers, on values: strings, headers, query parameters, addresses, metadata (envoy.type.matcher.v3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Protocol, TypeVar, cast

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from google.protobuf.message import Message as Proto

from fairlead.model.regex import matches_whole

Metadata = Mapping[str, Mapping[str, Any]]
"""Dynamic metadata: a tree of plain values by the name of the filter that left it."""

UNKNOWN_ADDRESS = "unknown"
"""Stands in a header where a proxy adds the address of a client of which nothing was said."""

T = TypeVar("T")
P = TypeVar("P", bound=Proto)


class Undecided(Exception):
    """Something that the simulator cannot know decides; the message says what."""


class _Headers(Protocol):
    def values(self, name: str) -> Sequence[str]: ...


def unpacked(packed: Any, kind: type[P]) -> P:
    """The message inside of an Any whose type is known."""
    return kind.FromString(packed.value)


def string_matches(asked: StringMatcher, value: str) -> bool:
    """Whether a string fulfils a matcher."""
    kind = asked.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return matches_whole(asked.safe_regex.regex, value)
    if kind not in ("exact", "prefix", "suffix", "contains"):
        raise Undecided(f"a string matcher of kind {kind} is not modelled")
    wanted = str(getattr(asked, kind))
    if asked.ignore_case:
        wanted, value = wanted.lower(), value.lower()
    tests: dict[str, Callable[[], bool]] = {
        "exact": lambda: value == wanted,
        "prefix": lambda: value.startswith(wanted),
        "suffix": lambda: value.endswith(wanted),
        "contains": lambda: wanted in value,
    }
    return tests[kind]()


def header_matches(asked: HeaderMatcher, message: _Headers) -> bool:
    """Whether a request fulfils a header matcher. Of several values of a header any may (Envoy 1.37 and newer)."""
    values = message.values(asked.name.lower())
    if asked.treat_missing_header_as_empty and not values:
        values = ("",)
    kind = asked.WhichOneof("header_match_specifier")
    if kind is None or kind == "present_match":
        wanted = kind is None or asked.present_match
        return (bool(values) == wanted) != asked.invert_match
    if not values:
        return False
    return any(_value_matches(asked, kind, one) for one in values) != asked.invert_match


def _value_matches(asked: HeaderMatcher, kind: str, value: str) -> bool:
    if kind == "string_match":
        return string_matches(asked.string_match, value)
    if kind == "range_match":
        number = value.removeprefix("-")
        return number.isdigit() and asked.range_match.start <= int(value) < asked.range_match.end
    if kind == "safe_regex_match":
        return matches_whole(getattr(asked, kind).regex, value)
    # The deprecated forms say the same as a string matcher of that name.
    name = kind.removesuffix("_match")
    return string_matches(StringMatcher(**{name: getattr(asked, kind)}), value)


def query_matches(asked: QueryParameterMatcher, parameters: Mapping[str, str]) -> bool:
    """Whether a request's query fulfils a matcher; of several values of a name the first counts."""
    value = parameters.get(asked.name)
    if value is None:
        return False
    return string_matches(asked.string_match, value) if asked.HasField("string_match") else True


def in_range(asked: CidrRange, address: str) -> bool:
    """Whether an address lies in a range. Raises Undecided where the address is not known."""
    if address in ("", UNKNOWN_ADDRESS):
        raise Undecided("the client's address decides, and is not given")
    at = ip_address(address)
    net = ip_network(f"{asked.address_prefix}/{asked.prefix_len.value}", strict=False)
    return at.version == net.version and at in net


def metadata_matches(asked: MetadataMatcher, metadata: Metadata) -> bool:
    """Whether dynamic metadata fulfils a matcher."""
    value: Any = metadata.get(asked.filter)
    for segment in asked.path:
        value = cast("Mapping[str, Any]", value).get(segment.key) if isinstance(value, Mapping) else None
    return value_matches(asked.value, value) != asked.invert


def value_matches(asked: ValueMatcher, value: object) -> bool:
    """Whether a plain value (None: there is none) fulfils a matcher."""
    kind = asked.WhichOneof("match_pattern")
    if kind == "or_match":
        return any_of(asked.or_match.value_matchers, lambda one: value_matches(one, value))
    if kind == "present_match":
        return asked.present_match == (value is not None)
    if kind == "string_match":
        return isinstance(value, str) and string_matches(asked.string_match, value)
    if kind == "list_match":
        one_of = asked.list_match.one_of
        listed = cast("list[object]", value) if isinstance(value, list) else []
        return any(value_matches(one_of, one) for one in listed)
    if kind == "bool_match":
        return value is asked.bool_match
    if kind == "null_match":
        return value is None
    return _number_matches(asked, value)


def _number_matches(asked: ValueMatcher, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    number = asked.double_match
    if number.HasField("range"):
        return number.range.start <= value < number.range.end
    return number.exact == value


def any_of(many: Iterable[T], holds: Callable[[T], bool]) -> bool:
    """Whether it holds for one; what cannot be decided matters only if it holds for no other."""
    unknown: Undecided | None = None
    for one in many:
        try:
            if holds(one):
                return True
        except Undecided as reason:
            unknown = unknown or reason
    if unknown is not None:
        raise unknown
    return False


def all_of(many: Sequence[T] | Iterable[T], holds: Callable[[T], bool]) -> bool:
    """Whether it holds for all; what cannot be decided matters only if no other fails."""
    return not any_of(many, lambda one: not holds(one))
