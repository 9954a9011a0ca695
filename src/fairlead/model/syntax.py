"""Syntax of values that Istio's API uses in several kinds.

Each check returns what is wrong as the rest of a sentence, or None. The rules are those of Istio's own validation
(`pkg/config/validation`, `pkg/config/labels`): they accept upper case in host names, which Kubernetes does not.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from fairlead.model.duration import is_duration, parse_duration
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import duplicate, invalid
from fairlead.model.names import is_dns_label
from fairlead.model.path import FieldPath

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_KEY_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_KEY_PREFIX = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def is_host_label(text: str) -> bool:
    """A label of a host name, in either case, at most 63 characters."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_ip(text: str) -> bool:
    """An IPv4 or IPv6 address (without a zone)."""
    try:
        return "%" not in text and bool(ipaddress.ip_address(text).version)
    except ValueError:
        return False


def is_subnet(text: str) -> bool:
    """An address, or an address and a prefix length."""
    if "/" not in text:
        return is_ip(text)
    address, _, length = text.partition("/")
    if not is_ip(address) or not length.isascii() or not length.isdigit():
        return False
    return len(length) <= 3 and int(length) <= ipaddress.ip_address(address).max_prefixlen


def host_fault(host: str) -> str | None:
    """What is wrong with a host name (no wildcard)."""
    return _length_fault(host) or _labels_fault(host, host)


def wildcard_host_fault(host: str) -> str | None:
    """What is wrong with a host name whose first label may be, or begin with, `*`."""
    fault = _length_fault(host)
    if fault:
        return fault
    first, dot, rest = host.partition(".")
    if not _is_wildcard_label(first):
        return f"domain name {host!r} is invalid: {first!r} is not a DNS label"
    return _labels_fault(rest, host) if dot else None


def _length_fault(host: str) -> str | None:
    if not host:
        return "the domain name is empty"
    return f"domain name {host[:40]!r}... is longer than 255 characters" if len(host) > 255 else None


def _is_wildcard_label(label: str) -> bool:
    if label == "*":
        return True
    if len(label) > 63:
        return False
    plain = label.removeprefix("*-") if label.startswith("*-") else label.removeprefix("*")
    return is_host_label(plain)


def _labels_fault(labels: str, host: str) -> str | None:
    parts = labels.split(".")
    if re.fullmatch(r"[+-]?[0-9]+", parts[-1]):
        return f"domain name {host!r} is invalid: its top level domain is a number"
    for at, label in enumerate(parts):
        if at == len(parts) - 1 and not label:
            return None
        if not is_host_label(label):
            return f"domain name {host!r} is invalid: {label!r} is not a DNS label"
    return None


def port_fault(number: int) -> str | None:
    """What is wrong with a port number."""
    return None if 1 <= number <= 65535 else f"port number {number} is not in the range 1..65535"


def duration_fault(text: str, *, zero: bool = False) -> str | None:
    """What is wrong with a duration: it must be whole milliseconds and at least one (or 0, with `zero`)."""
    if not is_duration(text):
        return f"{text!r} is not a duration such as 1h, 30s or 250ms"
    seconds = parse_duration(text)
    if zero and seconds == 0:
        return None
    if seconds < 0.001:
        return f"duration {text} is shorter than 1ms"
    if seconds > 315_576_000_000:
        return f"duration {text} is longer than 10000 years"
    # The parser sums exact fractions; a float keeps 1e-9 s apart up to some months, beyond which nobody counts.
    return None if _whole_milliseconds(seconds) else f"duration {text} is not a whole number of milliseconds"


def _whole_milliseconds(seconds: float) -> bool:
    nanoseconds = round(Fraction(seconds) * 10**9)
    return nanoseconds % 10**6 == 0


def label_faults(path: FieldPath, labels: Mapping[str, str]) -> Iterator[tuple[FieldPath, str]]:
    """What is wrong with Kubernetes labels, each with its place."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if slash and (len(prefix) > 253 or not _KEY_PREFIX.fullmatch(prefix)):
            yield path / key, f"label key {key!r} has no DNS name before its '/'"
        elif len(name) > 63 or not _KEY_NAME.fullmatch(name):
            yield path / key, f"label key {key!r} is not a label name"
        if value and (len(value) > 63 or not _KEY_NAME.fullmatch(value)):
            yield path / key, f"label value {value!r} of {key!r} is not valid"


def check_labels(path: FieldPath, labels: Mapping[str, str]) -> Iterator[Problem]:
    """`label_faults` as errors."""
    remedy = "Labels have letters, digits, '-', '_' and '.', at most 63, and begin and end with a letter or digit."
    for where, fault in label_faults(path, labels):
        yield invalid(where, fault, remedy)


def check_export_to(path: FieldPath, values: Iterable[str], namespace: str, *, none: bool = False) -> Iterator[Problem]:
    """Errors in an exportTo list. `none` allows `~` (only service entries may be seen by nobody)."""
    given = list(values)
    seen: set[str] = set()
    for at, value in enumerate(given):
        key = namespace if value == "." else value
        if key in seen:
            yield duplicate(path / at, f"{value!r} stands in exportTo already")
        elif key == "~" and not none:
            yield invalid(path / at, "only service entries may be exported to nobody ('~')")
        elif key not in ("*", "~") and not is_dns_label(key):
            yield invalid(path / at, f"{value!r} is not a namespace", "Use '*', '.' or the name of a namespace.")
        seen.add(key)
    for alone, meaning in (("*", "everybody"), ("~", "nobody")):
        if alone in seen and len(given) > 1:
            yield invalid(path, f"{alone!r} ({meaning}) stands beside other values", f"Leave only {alone!r}.")


def check_selector(path: FieldPath, labels: Mapping[str, str]) -> Iterator[Problem]:
    """Errors in the labels of a workload selector."""
    for key, value in labels.items():
        if not key:
            yield invalid(path / key, "a label of a selector has an empty name")
        if "*" in key or "*" in value:
            yield invalid(path / key, f"{key}={value} has a wildcard, which selectors do not know")
