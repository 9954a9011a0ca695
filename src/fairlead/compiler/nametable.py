"""Name tables: which addresses the agent's DNS answers for which host.

There is one for the hosts of each namespace, so that a new host does not send everybody everything again; the agent
puts them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fairlead.compiler.endpoints import EndpointsKey, endpoints_of, listed
from fairlead.compiler.hosts import NameKey, alias_target, host, host_keys, host_named
from fairlead.compiler.scope import EVERYWHERE, special
from fairlead.envoy.nds_pb2 import NameTable
from fairlead.envoy.resource import NAME_TABLE, Resource
from fairlead.inc import Reader, rule
from fairlead.ir.host import HOSTS_BY_NAME, HOSTS_BY_NAMESPACE, HostKey


class NameEntry(NamedTuple):
    """One host's answers."""

    hostname: str
    addresses: tuple[str, ...]
    shortname: str
    namespace: str
    kubernetes: bool


@rule
def name_entry(r: Reader, key: HostKey) -> NameEntry | None:
    """A host's answers: its virtual addresses, for a headless host those of its endpoints.

    A name that stands for another host has that one's answers.
    """
    found = host(r, key)
    if found is None:
        return None
    target = alias_target(r, key.hostname)
    for at in r.find(HOSTS_BY_NAME, target)[:1] if target else ():
        entry = name_entry(r, at)
        return entry._replace(hostname=key.hostname, shortname=found.name, namespace=key.namespace) if entry else None
    addresses = tuple(one for one in found.addresses if "/" not in one) or found.allocated
    if not addresses and (found.selector is not None or found.kubernetes) and found.ports:
        endpoints = endpoints_of(r, EndpointsKey(key, found.ports[0].number))
        addresses = tuple(dict.fromkeys(one.address for one in endpoints if one.address))
    if not addresses:
        return None
    return NameEntry(key.hostname, addresses, found.name, key.namespace, found.kubernetes)


def _instances(r: Reader, key: HostKey) -> Iterator[NameEntry]:
    """The names that instances of a headless Service have themselves, as Kubernetes' own DNS knows them."""
    found = host(r, key)
    if found is None or found.addresses or not found.kubernetes:
        return
    own: dict[str, list[str]] = {}
    for one in listed(r, found):
        if one.hostname and (one.healthy or found.publish_not_ready):
            own.setdefault(one.hostname, []).append(one.address)
    for name, addresses in sorted(own.items()):
        yield NameEntry(
            f"{name}.{key.hostname}",
            tuple(dict.fromkeys(addresses)),
            f"{name}.{found.name}",
            key.namespace,
            kubernetes=True,
        )


class TableKey(NamedTuple):
    """The names of the hosts of one namespace, as a client namespace sees them."""

    client_namespace: str
    namespace: str


@rule
def name_table_keys(r: Reader, client_namespace: str) -> tuple[TableKey, ...]:
    """The tables for a client namespace: one for each namespace of which it sees hosts."""
    seen = special(r, client_namespace)
    found: dict[str, str] = {}
    for at in host_keys(r, client_namespace):
        found[at.namespace] = seen.seen_by(at.hostname) or found.get(at.namespace, EVERYWHERE)
    # A host may also be special in that it is not seen.
    for at in (at for name in seen.hosts for at in r.find(HOSTS_BY_NAME, name)):
        if at.namespace in found:
            found[at.namespace] = client_namespace
    return tuple(TableKey(found[at], at) for at in sorted(found))


@rule
def hosts_in(r: Reader, key: TableKey) -> tuple[HostKey, ...]:
    """The hosts of a namespace that a client namespace sees, and that speak for their names there."""
    seen = special(r, key.client_namespace)
    return tuple(
        at
        for at in r.find(HOSTS_BY_NAMESPACE, key.namespace)
        if host_named(r, NameKey(seen.seen_by(at.hostname), at.hostname)) == at
    )


@rule
def name_table(r: Reader, key: TableKey) -> Resource:
    """The table of the hosts of one namespace."""
    message = NameTable()
    for entry in (one for at in hosts_in(r, key) for one in (name_entry(r, at), *_instances(r, at))):
        if entry is None:
            continue
        info = message.table[entry.hostname]
        info.ips.extend(entry.addresses)
        info.registry = "Kubernetes" if entry.kubernetes else "External"
        if entry.kubernetes:
            info.shortname, info.namespace = entry.shortname, entry.namespace
    return Resource.of(NAME_TABLE, key.namespace, message.SerializeToString(deterministic=True))
