"""Which client namespaces are alike: they see the same hosts, and the same is said to them about each.

Nearly everything that a proxy is given for calls is the same in all namespaces, and what differs are single hosts: one
that is exported to some namespaces only, or about which a namespace has rules of its own. So results are computed for
`EVERYWHERE`, a namespace that no object belongs to or names, and for a real namespace only where `special` says that
something may differ there. It errs on the side of saying so.

Whoever adds a rule whose result depends on the client's namespace in a new way must add that way here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from fairlead.compiler.sidecars import is_limited
from fairlead.inc import Reader, rule
from fairlead.ir.host import (
    HOSTS,
    HOSTS_ALIASING,
    HOSTS_BY_ADDRESS,
    HOSTS_BY_ALIAS,
    HOSTS_BY_NAME,
    HOSTS_CONCERNING,
    HOSTS_DECLARED,
)
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.route import ROUTES, ROUTES_BY_DESTINATION, ROUTES_CONCERNING, ROUTES_WILDCARD, RouteSet
from fairlead.ir.traffic import (
    TRAFFIC_POLICIES,
    TRAFFIC_POLICIES_BY_NAMESPACE,
    TRAFFIC_POLICIES_CONCERNING,
    TrafficPolicy,
)
from fairlead.ir.visibility import host_matches

EVERYWHERE = ""
"""The client namespace that stands for all those to which nothing special applies."""


class Special(msgspec.Struct, frozen=True):
    """What a client namespace may see otherwise than others do: `hosts` by name, or possibly `every` host."""

    namespace: str
    every: bool = False
    hosts: frozenset[str] = frozenset()

    def seen_by(self, *names: str) -> str:
        """The client namespace under which to ask about a host with these names."""
        return self.namespace if self.every or any(one in self.hosts for one in names) else EVERYWHERE


@rule
def special(r: Reader, namespace: str) -> Special:
    """What is special in a client namespace; everything, where a Sidecar decides what is seen."""
    if is_limited(namespace):
        return Special(namespace, every=True)
    mesh = r.get(MESHES, MESH_KEY) or Mesh()
    defaults = (mesh.default_service_export_to, mesh.default_route_export_to, mesh.default_policy_export_to)
    if namespace == EVERYWHERE or any(one and "*" not in one for one in defaults):
        return Special(namespace, every=namespace != EVERYWHERE)
    hosts = {*_hosts(r, namespace), *_policies(r, namespace, mesh.domain_suffix)}
    for at in r.find(ROUTES_CONCERNING, namespace):
        hosts.update(_named(r.get(ROUTES, at)))
    left = list(hosts)
    while left:
        for name in _following(r, left.pop(), namespace, mesh.domain_suffix):
            if name not in hosts:
                hosts.add(name)
                left.append(name)
    if any(name.startswith("*") for name in hosts):
        return Special(namespace, every=True)
    return Special(namespace, hosts=frozenset(hosts))


@rule
def scope(r: Reader, namespace: str) -> str:
    """The namespace under which to ask for what depends on all hosts together: `EVERYWHERE` if nothing is special."""
    found = special(r, namespace)
    return namespace if found.every or found.hosts else EVERYWHERE


@rule
def contested(r: Reader, _: str) -> tuple[tuple[str, str], ...]:
    """Namespaces with a host whose name another namespace claims as well, and the name: each takes its own."""
    names = {at.hostname for at in r.find(HOSTS_DECLARED, "")}
    return tuple(
        sorted(
            (at.namespace, name) for name in names if len(claims := r.find(HOSTS_BY_NAME, name)) > 1 for at in claims
        )
    )


def _hosts(r: Reader, namespace: str) -> Iterator[str]:
    """Hosts shown to some namespaces only, those that share an address with one, and those of contested names."""
    for at in r.find(HOSTS_CONCERNING, namespace):
        yield at.hostname
        found = r.get(HOSTS, at)
        for address in found.addresses if found is not None else ():
            yield from (rival.hostname for rival in r.find(HOSTS_BY_ADDRESS, address))
    yield from (name for where, name in contested(r, "") if where == namespace)
    # Its own short form for another host.
    yield from (at.hostname for at in r.find(HOSTS_ALIASING, namespace))


def _policies(r: Reader, namespace: str, suffix: str) -> Iterator[str]:
    """Hosts about which a namespace is told something alone, or says something itself to its own clients."""
    for at in r.find(TRAFFIC_POLICIES_CONCERNING, namespace):
        policy = r.get(TRAFFIC_POLICIES, at)
        if policy is not None:
            yield policy.host
    for at in r.find(TRAFFIC_POLICIES_BY_NAMESPACE, namespace):
        policy = r.get(TRAFFIC_POLICIES, at)
        if policy is not None and not _is_owners(r, policy, suffix):
            yield policy.host


def _is_owners(r: Reader, policy: TrafficPolicy, suffix: str) -> bool:
    """Whether a policy is only about hosts of its own namespace: then all clients that see it take it alike."""
    namespace = policy.key.namespace
    if not policy.host.startswith("*"):
        return all(at.namespace == namespace for at in r.find(HOSTS_BY_NAME, policy.host))
    if not policy.host.endswith(f".{namespace}.svc.{suffix}"):
        return False
    return not any(
        at.namespace != namespace and host_matches(policy.host, at.hostname) for at in r.find(HOSTS_DECLARED, "")
    )


def _following(r: Reader, name: str, namespace: str, suffix: str) -> Iterator[str]:
    """The hosts that may be seen otherwise if a host is: where routes lead to it, those for which it stands or which
    stand for it, and those that would answer to its name, by a short form or an address, if it did not."""
    for at in r.find(ROUTES_BY_DESTINATION, name):
        yield from _named(r.get(ROUTES, at))
    yield from (found.alias for _, found in r.rows(HOSTS_BY_NAME, name) if found.alias)
    yield from (at.hostname for at in r.find(HOSTS_BY_ALIAS, name))
    yield from (at.hostname for at in r.find(HOSTS_BY_ADDRESS, name))
    # A wildcard is a virtual host only where no host is seen that it covers.
    for _, routes in r.rows(ROUTES_WILDCARD, ""):
        yield from (one for one in routes.hosts if one.startswith("*") and host_matches(one, name))
    if not name.startswith("*") and any(r.find(HOSTS_BY_NAME, one) for one in _spelled(name, namespace, suffix)):
        yield from _spelled(name, namespace, suffix)


def _spelled(name: str, namespace: str, suffix: str) -> tuple[str, ...]:
    """The full names of which a name may be a short form."""
    if name.endswith(f".svc.{suffix}"):
        return ()
    return f"{name}.{suffix}", f"{name}.svc.{suffix}", f"{name}.{namespace}.svc.{suffix}"


def _named(routes: RouteSet | None) -> Iterable[str]:
    return routes.hosts if routes is not None else ()
