"""Host patterns: whether two may mean one host, and which hosts a gateway shows to a namespace."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze import shape
from fairlead.analyze.document import K8S_GATEWAY, Document


def overlap(one: str, other: str) -> bool:
    """Whether a host may match both patterns (exact names, `*`, `*.suffix`)."""
    one, other = one.lower(), other.lower()
    if one.startswith("*") and other.startswith("*"):
        return one[1:].endswith(other[1:]) or other[1:].endswith(one[1:])
    if one.startswith("*"):
        return other.endswith(one[1:])
    if other.startswith("*"):
        return one.endswith(other[1:])
    return one == other


def server_hosts(hosts: list[str], namespace: str) -> Iterator[tuple[str, str]]:
    """The hosts of a Gateway's server as (namespace that may use it or `*`, host pattern)."""
    for host in hosts:
        home, slash, name = host.partition("/")
        if not slash:
            yield "*", host
        else:
            yield (namespace if home == "." else home), name


def shown_to(gateway: Document, namespace: str) -> list[str]:
    """The hosts of a Gateway (Istio's, or of the Gateway API) that routes of a namespace may use."""
    if gateway.sort == K8S_GATEWAY:
        return [shape.text(one, "hostname") or "*" for one in shape.items(gateway.spec, "listeners")]
    return [
        name
        for server in shape.items(gateway.spec, "servers")
        for home, name in server_hosts(shape.words(server, "hosts"), gateway.ref.namespace)
        if home in ("*", namespace)
    ]
