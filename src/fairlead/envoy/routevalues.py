"""Small Envoy values that routes are made of: durations, percentages, string matchers, packed messages."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message

from fairlead.ir.route import StringMatch

_NANOS = 1_000_000_000


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a protobuf duration, exact to the nanosecond."""
    whole, nanos = divmod(round(seconds * _NANOS), _NANOS)
    return duration_pb2.Duration(seconds=whole, nanos=nanos)


def fraction(percent: float) -> percent_pb2.FractionalPercent:
    """A percentage (0 to 100) as parts of a million."""
    return percent_pb2.FractionalPercent(
        numerator=round(percent * 10_000), denominator=percent_pb2.FractionalPercent.MILLION
    )


def runtime_fraction(percent: float) -> base_pb2.RuntimeFractionalPercent:
    """A percentage that no runtime key overrides."""
    return base_pb2.RuntimeFractionalPercent(default_value=fraction(percent))


def regex(pattern: str) -> regex_pb2.RegexMatcher:
    """An RE2 pattern, which must match the whole string."""
    return regex_pb2.RegexMatcher(regex=pattern)


def string_matcher(match: StringMatch) -> string_pb2.StringMatcher:
    """How a string is compared; a `present` match accepts any string."""
    if match.kind == "exact":
        return string_pb2.StringMatcher(exact=match.value)
    if match.kind == "prefix":
        return string_pb2.StringMatcher(prefix=match.value)
    return string_pb2.StringMatcher(safe_regex=regex(match.value if match.kind == "regex" else ".*"))


def is_present(match: StringMatch) -> bool:
    """Whether only the presence matters. Istio takes the regex `*`, which is none, to mean that."""
    return match.kind == "present" or (match.kind == "regex" and match.value == "*")


def packed(message: Message) -> any_pb2.Any:
    """A message with its type URL, the same bytes every time."""
    out = any_pb2.Any()
    out.Pack(message, deterministic=True)
    return out
