"""Which endpoints come, go, move and fail: what each change of the mesh did to the members of its hosts.

Compares facts and not resources, so that it is known whether or not a proxy has asked for a host, once for each
endpoint and not for each view. A change costs what it touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fairlead.inc import Engine
from fairlead.ir.host import HOSTS, HOSTS_BY_SELECTOR, HostKey
from fairlead.ir.view import selects
from fairlead.ir.workload import ENDPOINTS, WORKLOADS, WORKLOADS_BY_LABEL, Endpoint, EndpointKey, Workload, WorkloadKey
from fairlead.model.ref import Ref

SORTS = ("added", "removed", "healthy", "unhealthy", "moved")


class Move(msgspec.Struct, frozen=True):
    """What became of one endpoint: one of SORTS, of which hosts, and for `moved` from where to where.

    `origin` is the object that says so: the one that describes the endpoint, or else the host's.
    """

    sort: str
    hosts: tuple[str, ...]
    address: str
    origin: Ref
    workload: WorkloadKey | None = None
    is_healthy: bool = True
    before: str = ""
    after: str = ""


class _Member(NamedTuple):
    workload: Workload
    hosts: frozenset[HostKey]


class Roster:
    """The endpoints as they were when `moves` was last asked. Belongs to the engine's owner."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        for table in (HOSTS, WORKLOADS, ENDPOINTS):
            engine.record(table)
        self._members: dict[WorkloadKey, _Member] = {}
        self._of_host: dict[HostKey, set[WorkloadKey]] = {}
        self._listed: dict[EndpointKey, Endpoint] = {}
        self._origins = {key: host.origin.ref for key, host in engine.items(HOSTS)}
        # From the hosts to their workloads: asking each workload for its hosts takes three times as long.
        workloads = dict(engine.items(WORKLOADS))
        hosts: dict[WorkloadKey, set[HostKey]] = {}
        for key, host in engine.items(HOSTS):
            for at in self._chosen(key):
                if selects(host.selector or (), workloads[at].labels):
                    hosts.setdefault(at, set()).add(key)
        for key, workload in workloads.items():
            self._put(key, _Member(workload, frozenset(hosts.get(key, ()))))
        self._listed.update(engine.items(ENDPOINTS))

    def moves(self) -> list[Move]:
        """What has become of endpoints since the last call, in a fixed order."""
        touched = dict.fromkeys(self._engine.take_recorded(WORKLOADS))
        changed_hosts = self._engine.take_recorded(HOSTS)
        for host in changed_hosts:
            touched |= dict.fromkeys(sorted({*self._of_host.get(host, ()), *self._chosen(host)}))
            fact = self._engine.get(HOSTS, host)
            if fact is not None:
                self._origins[host] = fact.origin.ref
        out = [one for key in touched for one in self._of_workload(key)]
        for host in changed_hosts:
            if self._engine.get(HOSTS, host) is None:
                self._origins.pop(host, None)
        return out + self._of_listed(self._engine.take_recorded(ENDPOINTS))

    def _chosen(self, key: HostKey) -> tuple[WorkloadKey, ...]:
        host = self._engine.get(HOSTS, key)
        if host is None or host.selector is None:
            return ()
        name, value = host.selector[0] if host.selector else ("", "")
        return self._engine.find(WORKLOADS_BY_LABEL, (key.namespace, name, value))

    def _hosts(self, workload: Workload) -> frozenset[HostKey]:
        """The hosts whose selectors choose a workload."""
        found: set[HostKey] = set()
        for name, value in (("", ""), *workload.labels):
            for key in self._engine.find(HOSTS_BY_SELECTOR, (workload.key.namespace, name, value)):
                host = self._engine.get(HOSTS, key)
                if host is not None and host.selector is not None and selects(host.selector, workload.labels):
                    found.add(key)
        return frozenset(found)

    def _put(self, key: WorkloadKey, member: _Member | None) -> None:
        old = self._members.pop(key, None)
        for host in old.hosts if old is not None else ():
            self._of_host[host].discard(key)
            if not self._of_host[host]:
                del self._of_host[host]
        if member is not None:
            self._members[key] = member
            for host in member.hosts:
                self._of_host.setdefault(host, set()).add(key)

    def _of_workload(self, key: WorkloadKey) -> Iterable[Move]:
        old, fact = self._members.get(key), self._engine.get(WORKLOADS, key)
        new = _Member(fact, self._hosts(fact)) if fact is not None else None
        if old == new:
            return
        self._put(key, new)
        nowhere: frozenset[HostKey] = frozenset()
        before = nowhere if old is None else old.hosts
        after = nowhere if new is None else new.hosts
        for sort, member, hosts in (("removed", old, before - after), ("added", new, after - before)):
            if member is not None and hosts:
                made = _move(sort, member.workload, hosts)
                if old is not None and new is not None and old.workload == new.workload:
                    # It is as it was: the host chooses otherwise.
                    made = msgspec.structs.replace(made, origin=self._origins.get(min(hosts), made.origin))
                yield made
        if old is None or new is None or not before & after:
            return
        if _place(old.workload) != _place(new.workload):
            moved = _move("moved", new.workload, before & after)
            yield msgspec.structs.replace(moved, before=_place(old.workload), after=_place(new.workload))
        if old.workload.healthy is not new.workload.healthy:
            yield _move("healthy" if new.workload.healthy else "unhealthy", new.workload, before & after)

    def _of_listed(self, keys: Iterable[EndpointKey]) -> list[Move]:
        """Of endpoints that an object lists: known by their addresses, since places in a list shift."""
        before: dict[tuple[HostKey, str], dict[str, Endpoint]] = {}
        after: dict[tuple[HostKey, str], dict[str, Endpoint]] = {}
        for key in keys:
            at = (key.host, key.owner)
            was, now = self._listed.pop(key, None), self._engine.get(ENDPOINTS, key)
            if was is not None:
                before.setdefault(at, {})[was.address] = was
            if now is not None:
                after.setdefault(at, {})[now.address] = self._listed[key] = now
        out: list[Move] = []
        for at in dict.fromkeys((*before, *after)):
            was, now = before.get(at, {}), after.get(at, {})
            out += (_listed_move("removed", one) for address, one in was.items() if address not in now)
            for address, one in now.items():
                old = was.get(address)
                if old is None:
                    out.append(_listed_move("added", one))
                elif _place(old) != _place(one):
                    moved = _listed_move("moved", one)
                    out.append(msgspec.structs.replace(moved, before=_place(old), after=_place(one)))
        return out


def _move(sort: str, workload: Workload, hosts: Iterable[HostKey]) -> Move:
    names = tuple(sorted(one.hostname for one in hosts))
    return Move(sort, names, workload.address, workload.origin.ref, workload.key, workload.healthy)


def _listed_move(sort: str, endpoint: Endpoint) -> Move:
    return Move(sort, (endpoint.key.host.hostname,), endpoint.address, endpoint.origin.ref)


def _place(one: Workload | Endpoint) -> str:
    """Where an endpoint is, in words: its address, network and locality."""
    return " ".join(text for text in (one.address, one.network and f"network {one.network}", one.locality) if text)
