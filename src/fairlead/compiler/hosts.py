"""Which hosts a client namespace sees, and which object speaks for a name.

A host that stands for another one (ExternalName) is a further name of it: it has no ports, listeners or clusters of
its own. Where the other name is unknown to the mesh it is an ordinary host, looked up in DNS.

Istio's rules: an object is seen where its exportTo says; where several claim one name, the client's own namespace wins,
then Kubernetes services, then the oldest.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fairlead.compiler.scope import special
from fairlead.compiler.sidecars import imports_of, is_limited, namespace_of, sees_host
from fairlead.inc import Reader, rule
from fairlead.ir.host import (
    HOSTS,
    HOSTS_ALL,
    HOSTS_BY_ALIAS,
    HOSTS_BY_CHUNK,
    HOSTS_BY_NAME,
    HOSTS_BY_NAMESPACE,
    HOSTS_BY_PORT,
    HOSTS_BY_PORT_CHUNK,
    Host,
    HostKey,
    chunk_of,
)
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.sidecar import ANY, OWN
from fairlead.ir.visibility import host_matches, is_visible

WHOLE = "*"
"""The chunk that has all hosts."""


class NameKey(NamedTuple):
    """A host name as a client namespace sees it (or another scope: see `compiler.sidecars`)."""

    client_namespace: str
    hostname: str


class PortKey(NamedTuple):
    """A port number as a client namespace calls it."""

    client_namespace: str
    port: int


class ChunkKey(NamedTuple):
    """Part of the hosts on a port (0: of all hosts) as a client namespace sees them (see `ir.host.chunk_of`)."""

    client_namespace: str
    port: int
    chunk: str


@rule
def mesh(r: Reader, _: str) -> Mesh:
    """The mesh-wide settings (key: `MESH_KEY`)."""
    return r.get(MESHES, MESH_KEY) or Mesh()


@rule
def host_named(r: Reader, key: NameKey) -> HostKey | None:
    """The host that speaks for a name in a client namespace, or None if the client does not see it."""
    own = namespace_of(key.client_namespace)
    seen = [
        (at.namespace != own, not host.kubernetes, host.created, at)
        for at, host in r.rows(HOSTS_BY_NAME, key.hostname)
        if _sees(r, host, key.client_namespace)
    ]
    return min(seen)[-1] if seen else None


@rule
def host_keys(r: Reader, client_namespace: str) -> tuple[HostKey, ...]:
    """Every host that a client namespace sees, in the order of names."""
    chunked = (hosts_in(r, ChunkKey(client_namespace, 0, chunk)) for chunk in chunks_seen(r, client_namespace, 0))
    return tuple(sorted(one for found in chunked for one in found))


@rule
def chunks(r: Reader, port: int) -> tuple[str, ...]:
    """The chunks in which there are hosts with a port (0: any hosts), whoever sees them."""
    found = r.find(HOSTS_BY_PORT, port) if port else r.find(HOSTS_ALL, "")
    return tuple(sorted({chunk_of(at.hostname) for at in found}))


def chunks_seen(r: Reader, client_namespace: str, port: int) -> tuple[str, ...]:
    """The chunks by which to list hosts; a scope that a Sidecar limits has few hosts, and they are one chunk."""
    return (WHOLE,) if is_limited(client_namespace) else chunks(r, port)


@rule
def hosts_in(r: Reader, key: ChunkKey) -> tuple[HostKey, ...]:
    """The hosts of a chunk that a client namespace sees, in the order of names."""
    names = sorted(_names_in(r, key))
    seen = special(r, key.client_namespace)
    found = (host_named(r, NameKey(seen.seen_by(name), name)) for name in names)
    return tuple(one for one in found if one is not None and (not key.port or _has_port(r, one, key.port)))


@rule
def hosts_on_port(r: Reader, key: PortKey) -> tuple[HostKey, ...]:
    """The hosts that a client namespace sees and that have this port number, in the order of names."""
    chunked = (hosts_in(r, ChunkKey(*key, chunk)) for chunk in chunks_seen(r, *key))
    return tuple(sorted(one for found in chunked for one in found))


@rule
def alias_target(r: Reader, hostname: str) -> str:
    """The name of the host that serves a name which merely stands for it, through any number of steps; else ""."""
    seen = {hostname}
    name = _alias(r, hostname)
    while name and name not in seen:
        seen.add(name)
        if not r.find(HOSTS_BY_NAME, name):
            return ""
        further = _alias(r, name)
        if not further:
            return name
        name = further
    return ""


@rule
def aliases_of(r: Reader, key: NameKey) -> tuple[str, ...]:
    """The names that stand for a host, as far as the client sees them, in order."""
    found: set[str] = set()
    left = [key.hostname]
    while left:
        for at in r.find(HOSTS_BY_ALIAS, left.pop()):
            if at.hostname not in found and alias_target(r, at.hostname) == key.hostname:
                found.add(at.hostname)
                left.append(at.hostname)
    return tuple(one for one in sorted(found) if host_named(r, NameKey(key.client_namespace, one)) is not None)


def host(r: Reader, key: HostKey) -> Host | None:
    """The host's fact; without ports if it stands for another host."""
    found = r.get(HOSTS, key)
    if found is not None and found.alias and alias_target(r, key.hostname):
        return msgspec.structs.replace(found, ports=())
    return found


def destination_name(r: Reader, hostname: str) -> str:
    """The name whose clusters serve a destination."""
    return alias_target(r, hostname) or hostname


def _alias(r: Reader, hostname: str) -> str:
    """The name for which all that claim a name stand; "" if one stands for itself."""
    names = [found.alias for _, found in r.rows(HOSTS_BY_NAME, hostname)]
    return min(names) if names and all(names) else ""


def settings(r: Reader) -> Mesh:
    """The mesh-wide settings."""
    return mesh(r, MESH_KEY)


def _sees(r: Reader, host: Host, client_namespace: str) -> bool:
    export_to = host.export_to or settings(r).default_service_export_to
    seen = is_visible(export_to, host.key.namespace, namespace_of(client_namespace))
    return seen and sees_host(r, client_namespace, host)


def _names_in(r: Reader, key: ChunkKey) -> set[str]:
    if key.chunk == WHOLE:
        if key.port:
            return {one.hostname for one in host_keys(r, key.client_namespace)}
        return _imported_names(r, key.client_namespace)
    at = (key.port, key.chunk)
    found = r.find(HOSTS_BY_PORT_CHUNK, at) if key.port else r.find(HOSTS_BY_CHUNK, key.chunk)
    return {one.hostname for one in found}


def _imported_names(r: Reader, scope: str) -> set[str]:
    """The names of hosts that a scope may see: with a Sidecar, only what it imports is looked at."""
    if not is_limited(scope):
        return {at.hostname for at in r.find(HOSTS_ALL, "")}
    found: set[str] = set()
    for one in imports_of(r, scope):
        if one.is_exclusion:
            continue
        if not one.is_pattern:
            found.update([one.host] if r.find(HOSTS_BY_NAME, one.host) else ())
            continue
        where = namespace_of(scope) if one.namespace == OWN else one.namespace
        keys = r.find(HOSTS_ALL, "") if where == ANY else r.find(HOSTS_BY_NAMESPACE, where)
        found.update(at.hostname for at in keys if host_matches(one.host, at.hostname))
    return found


def _has_port(r: Reader, key: HostKey, port: int) -> bool:
    found = host(r, key)
    return found is not None and found.port(port) is not None
