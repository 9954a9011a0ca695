"""Names: syntax checks, the nearest known one, and host name resolution."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")


def is_dns_label(name: str) -> bool:
    """RFC 1123 label: at most 63 lower-case alphanumerics or '-', beginning and ending with an alphanumeric."""
    return _LABEL.match(name) is not None


def is_dns_subdomain(name: str) -> bool:
    """RFC 1123 subdomain: labels joined by dots, at most 253 characters."""
    return len(name) <= 253 and _SUBDOMAIN.match(name) is not None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None."""
    by_fold = {item.lower(): item for item in known}
    found = get_close_matches(name.lower(), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'reviews'?`, or nothing where no known name is near."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
