"""Syntax of values that occur in the fields of many kinds: addresses, domain names, durations, labels, export lists.

The rules are Istio's (`pkg/config/validation/agent`, `pkg/config/labels`) and Kubernetes' (`apimachinery` validation).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from ipaddress import ip_address, ip_network

from fairlead.model.diagnostic import Problem
from fairlead.model.duration import is_duration, parse_duration
from fairlead.model.path import FieldPath

_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_LABEL_RE = re.compile(rf"{_LABEL}\Z")
_WILD_RE = re.compile(rf"(?:\*|(?:\*|\*-)?{_LABEL})\Z")
_TAG_RE = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?\Z")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4_RE = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}\Z")
"""Most addresses of most meshes; the others are judged by the standard library, which takes ten times as long."""
_VALUE_RE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z")

UNIX_PREFIX = "unix://"
_LONGEST_TEXT = 100
_LONGEST = 315_576_000_000
"""Seconds; protobuf's own limit of durations."""


def is_name_label(text: str) -> bool:
    """A DNS label in either case, at most 63 characters: what Istio takes for port and subset names."""
    return len(text) <= 63 and _LABEL_RE.match(text) is not None


def is_ip(text: str) -> bool:
    """An IPv4 or IPv6 address, without a zone."""
    if _IPV4_RE.match(text) is not None:
        return True
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def is_ip_or_cidr(text: str) -> bool:
    """An address, or a network such as 10.0.0.0/8 (bits behind the prefix may be set)."""
    if "/" not in text:
        return is_ip(text)
    address, _, length = text.partition("/")
    try:
        return length.isascii() and length.isdigit() and is_ip(address) and bool(ip_network(text, strict=False))
    except ValueError:
        return False


def wrong_fqdn(text: str) -> str:
    """Why `text` is not a domain name without wildcards, or "" if it is one."""
    return _wrong_domain(text, wildcard=False)


def is_trust_domain(text: str) -> bool:
    """Whether `text` may be the first part of identities: labels as of a domain name, which may be numbers all."""
    return bool(text) and all(is_name_label(one) for one in text.removesuffix(".").split("."))


def wrong_wildcard_domain(text: str) -> str:
    """Why `text` is neither a domain name nor one whose first label begins with `*`, or "" if it is."""
    return _wrong_domain(text, wildcard=True)


def is_partial_wildcard(text: str) -> bool:
    """Whether a wildcard is not a whole label (`*x.example.com`), which most matching does not support."""
    return "*" in text and text != "*" and not text.startswith("*.")


def _wrong_domain(text: str, *, wildcard: bool) -> str:
    if not text:
        return "must not be empty"
    if len(text) > 255:
        return f"{text[:40]!r}... is longer than 255 characters"
    parts = text.removesuffix(".").split(".")
    if wildcard and not _WILD_RE.match(parts[0]):
        return f"{text!r} is not a domain name: {parts[0]!r} is no name or wildcard such as * or *-x"
    for part in parts[1:] if wildcard else parts:
        if not is_name_label(part):
            return f"{text!r} is not a domain name: {part!r} is not a label of letters, digits and '-'"
    if parts[-1].isdigit():
        return f"{text!r} is not a domain name: its last label is a number"
    return ""


def wrong_unix_path(address: str) -> str:
    """Why `unix://...` names no socket, or "" if it does (an absolute path, or `@name` in the abstract namespace)."""
    path = address.removeprefix(UNIX_PREFIX)
    if not path:
        return "a unix address needs a path"
    if path.startswith("@"):
        return ""
    if not path.startswith("/"):
        return f"{path!r} is not an absolute path"
    return f"{path!r} is a directory, not a socket" if path.endswith("/") else ""


def port_problems(number: int, path: FieldPath) -> Iterator[Problem]:
    """A port is 1 to 65535."""
    if not 1 <= number <= 65535:
        yield Problem(path, f"{number} is not a port", remedy="A port must be between 1-65535.")


def label_problems(labels: Mapping[str, str], path: FieldPath) -> Iterator[Problem]:
    """Keys are `[prefix/]name`; values are at most 63 letters, digits, '-', '_' and '.'."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if not name or len(name) > 63 or not _TAG_RE.match(name) or (slash and wrong_fqdn(prefix)):
            yield Problem(path / key, f"{key!r} is not a label key", remedy="Use [DNS-PREFIX/]NAME.")
        if len(value) > 63 or not _VALUE_RE.match(value):
            yield Problem(
                path / key,
                f"{value!r} is not a label value",
                remedy="Use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit.",
            )


def export_problems(
    export_to: tuple[str, ...], namespace: str, path: FieldPath, *, none_allowed: bool = False
) -> Iterator[Problem]:
    """An export list: `*` alone, `~` alone where allowed, or `.` and namespace names without repetition."""
    seen: set[str] = set()
    for at, one in enumerate(export_to):
        place = path / at
        key = namespace if one == "." else one
        if key in seen:
            yield Problem(place, f"{one!r} repeats an entry", reason="FieldValueDuplicate")
        seen.add(key)
        if one == "~" and not none_allowed:
            yield Problem(place, "'~' (nowhere) is not possible here", reason="FieldValueNotSupported")
        elif one not in ("*", ".", "~") and not is_name_label(one):
            yield Problem(place, f"{one!r} is not a namespace", remedy="Use '*', '.' or the name of a namespace.")
        if one in ("*", "~") and len(export_to) > 1:
            yield Problem(place, f"{one!r} must stand alone", remedy="Remove the other entries, or this one.")


def selector_problems(labels: Mapping[str, str], path: FieldPath) -> Iterator[Problem]:
    """Labels of a workload selector have names, and no wildcards."""
    for key, value in labels.items():
        if not key:
            yield Problem(path / key, "a label of a selector has an empty name")
        if "*" in key or "*" in value:
            yield Problem(path / key, f"{key}={value} has a wildcard", remedy="Selectors compare whole values.")
        elif len(value) > 63:
            yield Problem(path / key, f"{value[:40]!r}... is longer than 63 characters", remedy="No label has it.")


def wrong_duration(text: str, *, zero: bool = False) -> str:
    """Why `text` is not a duration of whole milliseconds, at least one (or 0, with `zero`), or "" if it is."""
    if len(text) > _LONGEST_TEXT or not is_duration(text):
        return f"{text[:40]!r} is not a duration such as 1h, 30s or 250ms"
    seconds = parse_duration(text)
    if zero and seconds == 0:
        return ""
    if seconds < 0.001:
        return f"duration {text} is shorter than 1ms"
    if seconds > _LONGEST:
        return f"duration {text} is longer than 10000 years"
    # The parser sums exact fractions; as a float the sum still tells nanoseconds apart up to some months.
    whole = round(Fraction(seconds) * 10**9) % 10**6 == 0
    return "" if whole else f"duration {text} is not a whole number of milliseconds"
