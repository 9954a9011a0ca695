"""Who sees whose objects: exportTo, and names relative to a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """The pattern that covers `host` most specifically: itself, else the longest wildcard."""
    best: str | None = None
    for pattern in patterns:
        if pattern == host:
            return pattern
        if host_matches(pattern, host) and (best is None or len(pattern) > len(best)):
            best = pattern
    return best
