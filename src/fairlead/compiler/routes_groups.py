"""The virtual hosts of a sidecar's port in groups by the namespaces in their names, each joined once for all clients
that it is alike for.
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.hosts import ChunkKey, PortKey, chunks_seen, hosts_in, settings
from fairlead.compiler.routes_hosts import (
    Site,
    SiteKey,
    VirtualHostKey,
    serves_http,
    service_of,
    sidecar_virtual_host,
    site,
    unclaimed,
)
from fairlead.compiler.routes_rules import ClientKey, narrowed
from fairlead.compiler.scope import EVERYWHERE, scope, special
from fairlead.envoy.resource import Piece
from fairlead.inc import Reader, rule


class GroupKey(NamedTuple):
    """The virtual hosts of a port whose names are those of a namespace's services ("": all other names)."""

    client_namespace: str
    port: int
    group: str


class JoinKey(NamedTuple):
    """A group of virtual hosts for a client: `sites` says which there are, and `client` how they look."""

    sites: GroupKey
    client: ClientKey
    form: str


@rule
def sites(r: Reader, key: PortKey) -> tuple[Site, ...]:
    """The virtual hosts of a port, in the order of their names."""
    seen = special(r, key.client_namespace)
    found = {one.name: one for chunk in chunks_seen(r, *key) for one in sites_of_hosts(r, ChunkKey(*key, chunk))}
    for hostname in unclaimed(r, key):
        one = site(r, SiteKey(seen.seen_by(hostname), key.port, hostname))
        found[one.name] = one
    return tuple(found[name] for name in sorted(found))


@rule
def sites_of_hosts(r: Reader, key: ChunkKey) -> tuple[Site, ...]:
    """The virtual hosts of the HTTP hosts of a chunk."""
    seen = special(r, key.client_namespace)
    found = (SiteKey(seen.seen_by(at.hostname), key.port, at.hostname) for at in hosts_in(r, key))
    return tuple(site(r, at) for at in found if serves_http(r, at))


@rule
def site_groups(r: Reader, key: PortKey) -> dict[str, tuple[Site, ...]]:
    """The virtual hosts of a port by the namespaces in their names. The value is never changed."""
    found: dict[str, list[Site]] = {}
    suffix = settings(r).domain_suffix
    for one in sites(r, key):
        found.setdefault(service_of(one.hostname, suffix)[1], []).append(one)
    return {group: tuple(found[group]) for group in sorted(found)}


@rule
def group_names(r: Reader, key: PortKey) -> tuple[str, ...]:
    """The groups of a port's virtual hosts."""
    return tuple(site_groups(r, key))


@rule
def sites_in(r: Reader, key: GroupKey) -> tuple[Site, ...]:
    """The virtual hosts of a group."""
    return site_groups(r, PortKey(key.client_namespace, key.port)).get(key.group, ())


@rule
def labels_in(r: Reader, key: GroupKey) -> tuple[str, ...]:
    """The client labels on which a group depends."""
    return tuple(sorted({name for one in sites_in(r, key) for name in one.labels}))


@rule
def joined(r: Reader, key: JoinKey) -> Piece:
    """The virtual hosts of a group for a client, serialised and framed."""
    return Piece.of(
        b"".join(
            sidecar_virtual_host(r, VirtualHostKey(narrowed(key.client, one.labels), one.port, one.hostname, key.form))
            for one in sites_in(r, key.sites)
        )
    )


@rule
def groups(r: Reader, key: PortKey) -> tuple[tuple[GroupKey, str], ...]:
    """The groups of a port's virtual hosts for a client namespace, and as whose client it gets each of them.

    Only hosts of its own namespace have names that other namespaces do not use; beyond that, what is special counts.
    """
    namespace, port = key
    where = scope(r, namespace)
    seen = special(r, namespace)
    found: list[tuple[GroupKey, str]] = []
    for group in group_names(r, PortKey(where, port)):
        common = GroupKey(EVERYWHERE, port, group)
        own = GroupKey(where, port, group)
        if where != EVERYWHERE:
            there = sites_in(r, own)
            if there != sites_in(r, common) or any(seen.seen_by(one.hostname) for one in there):
                found.append((own, namespace))
                continue
        found.append((common, namespace if group == namespace else EVERYWHERE))
    return tuple(found)
