"""Who sees whose objects: exportTo, and names relative to a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

DOMAIN_SUFFIX = "cluster.local"
"""The suffix of service names, as facts use it: `name.namespace.svc.SUFFIX`."""


def is_visible(export_to: tuple[str, ...], namespace: str, client_namespace: str) -> bool:
    """Whether an object of `namespace` is visible in `client_namespace`.

    `export_to` holds `*` (everywhere), `.` (its own namespace), `~` (nowhere) or namespace names; empty means `*`.
    """
    if not export_to:
        return True
    return any(
        one == "*" or one == client_namespace or (one == "." and namespace == client_namespace) for one in export_to
    )


def concerned(export_to: tuple[str, ...], namespace: str) -> Iterator[str]:
    """The namespaces to which an object of `namespace` is shown, if it is not shown everywhere."""
    if export_to and "*" not in export_to:
        for one in export_to:
            if one == ".":
                yield namespace
            elif one != "~":
                yield one


def full_name(host: str, namespace: str, suffix: str) -> str:
    """A host as objects name it, fully qualified: a name without dots is a service of the object's namespace.

    Wildcards and addresses (IPv6 has no dots) stay as they are. Capitals mean nothing in names.
    """
    if "." in host or ":" in host or host.startswith("*") or not host:
        return host.lower()
    return f"{host.lower()}.{namespace}.svc.{suffix}"


def host_matches(pattern: str, host: str) -> bool:
    """Whether `pattern` (an exact name, `*`, or `*.suffix`) covers `host`, which may itself be a wildcard."""
    if pattern == host or pattern == "*":
        return True
    return pattern.startswith("*") and host.lstrip("*").endswith(pattern[1:]) and len(host) >= len(pattern)


def overlapping(patterns: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The places of patterns that one before them covers or that cover it (`host_matches`), after the first of these.

    It asks for the wildcards that cover a pattern by the ends of its text: comparing each with each would take minutes
    for a list as long as a request may be.
    """
    places: dict[str, int] = {}
    for at, pattern in enumerate(patterns):
        places.setdefault(pattern, at)
    ends = {one[1:]: at for one, at in places.items() if one.startswith("*")}
    found: dict[int, int] = {at: places[one] for at, one in enumerate(patterns) if places[one] < at}
    for pattern, at in places.items():
        text = pattern.lstrip("*")
        for end in {text[start:] for start in range(len(text) + 1)} & ends.keys():
            other = ends[end]
            if other != at and host_matches(f"*{end}", pattern):
                first, second = sorted((at, other))
                found[second] = min(first, found.get(second, first))
    for second in sorted(found):
        yield found[second], second


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """The pattern that covers `host` most specifically: itself, else the longest wildcard."""
    best: str | None = None
    for pattern in patterns:
        if pattern == host:
            return pattern
        if host_matches(pattern, host) and (best is None or len(pattern) > len(best)):
            best = pattern
    return best
