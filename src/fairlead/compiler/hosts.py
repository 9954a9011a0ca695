"""Which hosts a client namespace sees, and which object speaks for a name.

Istio's rules: an object is seen where its exportTo says; where several claim one name, the client's own namespace wins,
then Kubernetes services, then the oldest.
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.scope import special
from fairlead.inc import Reader, rule
from fairlead.ir.host import HOSTS, HOSTS_ALL, HOSTS_BY_NAME, HOSTS_BY_PORT, Host, HostKey
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.visibility import is_visible


class NameKey(NamedTuple):
    """A host name as a client namespace sees it."""

    client_namespace: str
    hostname: str


class PortKey(NamedTuple):
    """A port number as a client namespace calls it."""

    client_namespace: str
    port: int


@rule
def mesh(r: Reader, _: str) -> Mesh:
    """The mesh-wide settings (key: `MESH_KEY`)."""
    return r.get(MESHES, MESH_KEY) or Mesh()


@rule
def host_named(r: Reader, key: NameKey) -> HostKey | None:
    """The host that speaks for a name in a client namespace, or None if the client does not see it."""
    seen = [
        (at.namespace != key.client_namespace, not host.kubernetes, host.created, at)
        for at, host in r.rows(HOSTS_BY_NAME, key.hostname)
        if _sees(r, host, key.client_namespace)
    ]
    return min(seen)[-1] if seen else None


@rule
def host_keys(r: Reader, client_namespace: str) -> tuple[HostKey, ...]:
    """Every host that a client namespace sees, in the order of names."""
    names = sorted({at.hostname for at in r.find(HOSTS_ALL, "")})
    seen = special(r, client_namespace)
    found = (host_named(r, NameKey(seen.seen_by(name), name)) for name in names)
    return tuple(one for one in found if one is not None)


@rule
def hosts_on_port(r: Reader, key: PortKey) -> tuple[HostKey, ...]:
    """The hosts that a client namespace sees and that have this port number, in the order of names."""
    names = sorted({at.hostname for at in r.find(HOSTS_BY_PORT, key.port)})
    seen = special(r, key.client_namespace)
    found = (host_named(r, NameKey(seen.seen_by(name), name)) for name in names)
    return tuple(one for one in found if one is not None and _has_port(r, one, key.port))


def host(r: Reader, key: HostKey) -> Host | None:
    """The host's fact."""
    return r.get(HOSTS, key)


def settings(r: Reader) -> Mesh:
    """The mesh-wide settings."""
    return mesh(r, MESH_KEY)


def _sees(r: Reader, host: Host, client_namespace: str) -> bool:
    export_to = host.export_to or settings(r).default_service_export_to
    return is_visible(export_to, host.key.namespace, client_namespace)


def _has_port(r: Reader, key: HostKey, port: int) -> bool:
    found = r.get(HOSTS, key)
    return found is not None and found.port(port) is not None
