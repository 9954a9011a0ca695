"""The name table of a client namespace: which addresses the agent's DNS answers for which host."""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.endpoints import EndpointsKey, endpoints_of
from fairlead.compiler.hosts import alias_target, host, host_keys
from fairlead.envoy.nds_pb2 import NameTable
from fairlead.envoy.resource import NAME_TABLE, Resource
from fairlead.inc import Reader, rule
from fairlead.ir.host import HOSTS_BY_NAME, HostKey


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
    if found is None or "*" in key.hostname:
        return None
    target = alias_target(r, key.hostname)
    for at in r.find(HOSTS_BY_NAME, target)[:1] if target else ():
        entry = name_entry(r, at)
        return entry._replace(hostname=key.hostname, shortname=found.name, namespace=key.namespace) if entry else None
    addresses = tuple(one for one in found.addresses if "/" not in one)
    if not addresses and found.selector is not None and found.ports:
        endpoints = endpoints_of(r, EndpointsKey(key, found.ports[0].number))
        addresses = tuple(dict.fromkeys(one.address for one in endpoints))
    if not addresses:
        return None
    return NameEntry(key.hostname, addresses, found.name, key.namespace, found.kubernetes)


@rule
def name_table(r: Reader, client_namespace: str) -> Resource:
    """The table of everything that a client namespace sees."""
    message = NameTable()
    for key in host_keys(r, client_namespace):
        entry = name_entry(r, key)
        if entry is None:
            continue
        info = message.table[entry.hostname]
        info.ips.extend(entry.addresses)
        info.registry = "Kubernetes" if entry.kubernetes else "External"
        if entry.kubernetes:
            info.shortname, info.namespace = entry.shortname, entry.namespace
    return Resource.of(NAME_TABLE, client_namespace, message.SerializeToString(deterministic=True))
