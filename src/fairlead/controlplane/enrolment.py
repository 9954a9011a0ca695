"""Workloads that join as members of a WorkloadGroup: their WorkloadEntries are written here, and removed.

A member says its group in its node's metadata (`AUTO_REGISTER_GROUP`) and proves the group's identity by its
certificate. The entry stands while the member's stream does, and for a grace period after it: a member that says
goodbye is gone at once. As in Istio, apart from this: members of a group that changes get their entries anew at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from fairlead.compiler.registry import Registry
from fairlead.controlplane.conditions import Outcome, set_condition, with_condition
from fairlead.model.group import GROUP_ANNOTATION, METADATA, GroupSpec, entry_document, owned_group
from fairlead.model.identity import Identity
from fairlead.model.ref import NamespacedName, Ref
from fairlead.model.syntax import is_ip
from fairlead.store.change import Change
from fairlead.store.errors import StoreError
from fairlead.store.store import Store
from fairlead.store.transaction import timestamp
from fairlead.xds.server import Connection

_log = logging.getLogger(__name__)
GRACE = 10.0
"""Seconds that the entry of a member stands without its stream (Istio's PILOT_WORKLOAD_ENTRY_GRACE_PERIOD)."""
AFTER_START = 60.0
"""The same for members that a control plane knows from the one before it: agents may wait 30 s between attempts."""
_PERIOD = 1.0
_API_GROUP = "networking.istio.io"
_GROUP, _ENTRY = "WorkloadGroup", "WorkloadEntry"
_STARTING = Outcome(False, "Starting", "not ready yet")
Json = dict[str, Any]


class _Member:
    """One workload. `until` is when its entry ends (monotonic seconds), None while a stream stands."""

    def __init__(self, group: NamespacedName, address: str) -> None:
        self.group = group
        self.address = address
        self.account = ""
        self.node = ""
        self.probed = True
        self.streams: set[int] = set()
        self.until: float | None = None
        self.entry: Ref | None = None
        self.health: Outcome | None = None
        self.problem = ""


class Enrolment:
    """The members that are there, or were a moment ago. On the event loop."""

    def __init__(
        self, store: Store, kinds: Registry, clock: Callable[[], float] = time.monotonic, grace: float = GRACE
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._clock = clock
        self._grace = grace
        self._members: dict[tuple[NamespacedName, str], _Member] = {}
        self._of_stream: dict[int, _Member] = {}
        self._of_node: dict[str, _Member] = {}
        self._of_entry: dict[Ref, _Member] = {}
        self._end: Callable[[], None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take over the entries of the control plane before this one, and follow the groups."""
        loop = asyncio.get_running_loop()
        self.recall()

        def committed(changes: Sequence[Change]) -> None:
            loop.call_soon_threadsafe(self.changed, changes)

        self._end = self._store.subscribe(committed)
        self._sweeping = loop.create_task(self._sweep_forever())

    async def stop(self) -> None:
        """Leave all entries as they are."""
        if self._end is not None:
            self._end()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)

    def recall(self) -> None:
        """Know the members whose entries are stored; those that do not come back lose them."""
        for document in self._store.mentioning(_API_GROUP, _ENTRY, GROUP_ANNOTATION):
            group, meta = owned_group(document), document["metadata"]
            if not group:
                continue
            ref = Ref(_API_GROUP, _ENTRY, str(meta["namespace"]), str(meta["name"]))
            spec = cast("Json", document.get("spec") or {})
            member = self._member(NamespacedName(ref.namespace, group), str(spec.get("address") or ""))
            member.until = self._clock() + max(self._grace, AFTER_START)
            self._names(member, ref)

    # What streams say.

    def joined(self, connection: Connection) -> None:
        """A proxy has connected."""
        metadata = connection.node.metadata
        group = metadata.get(METADATA)
        if not isinstance(group, str) or not group:
            return
        if metadata.get("FAIRLEAD_ENTRY"):
            _log.warning("FL3301: %s has an entry of its own: it does not join %s", connection.node.id, group)
            return
        address = connection.node.parts.address
        if not is_ip(address):
            _log.warning("%s cannot join group %s: %r is not an address", connection.node.id, group, address[:100])
            return
        member = self._member(NamespacedName(connection.peer.namespace, group), address)
        member.account = connection.peer.service_account
        member.node = connection.node.id
        # An agent of Istio reports health only if it has a probe.
        member.probed = "FAIRLEAD_VERSION" in metadata
        member.until = None
        member.streams.add(connection.id)
        self._of_stream[connection.id] = member
        self._of_node[member.node] = member
        self._write(member)

    def left(self, connection: Connection) -> None:
        """A stream has ended."""
        member = self._of_stream.pop(connection.id, None)
        if member is None:
            return
        member.streams.discard(connection.id)
        if not member.streams:
            member.until = self._clock() + self._grace

    def ended(self, node: str, identity: Identity) -> None:
        """A workload has said that it ends."""
        member = self._of_node.get(node)
        if member is None or (member.group.namespace, member.account) != (identity.namespace, identity.service_account):
            return
        self._forget(member)

    def entry_of(self, connection: Connection) -> Ref | None:
        """The entry of a member; None for all other proxies, and while its group does not exist."""
        member = self._of_stream.get(connection.id)
        return member.entry if member is not None else None

    def heard(self, connection: Connection, health: Outcome) -> None:
        """A member has reported its health; kept for an entry that is written later."""
        member = self._of_stream.get(connection.id)
        if member is not None:
            member.health = health

    def findings(self) -> list[str]:
        """Why proxies that are connected are not members of the group that they name, in order."""
        return sorted(one.problem for one in self._members.values() if one.problem and one.streams)

    # What the store says.

    def changed(self, changes: Sequence[Change]) -> None:
        """Groups were written or deleted, or an entry was deleted by someone else."""
        for change in changes:
            ref = change.ref
            if ref.group != _API_GROUP:
                continue
            if ref.kind == _GROUP and _spec(change.old) != _spec(change.new):
                group = NamespacedName(ref.namespace, ref.name)
                for member in [one for one in self._members.values() if one.group == group]:
                    if member.streams:
                        self._write(member)
                    elif change.new is None:
                        self._withdraw(member)
            elif ref.kind == _ENTRY and change.new is None and ref in self._of_entry:
                member = self._of_entry[ref]
                if member.streams:
                    self._write(member)

    def sweep(self) -> None:
        """Remove the entries of those that have been away for too long."""
        now = self._clock()
        for member in [one for one in self._members.values() if one.until is not None and one.until <= now]:
            _log.info("%s of group %s has vanished", member.node or member.address, member.group)
            self._forget(member)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            self.sweep()

    # Members and entries.

    def _member(self, group: NamespacedName, address: str) -> _Member:
        return self._members.setdefault((group, address), _Member(group, address))

    def _names(self, member: _Member, ref: Ref | None) -> None:
        if member.entry is not None:
            self._of_entry.pop(member.entry, None)
        member.entry = ref
        if ref is not None:
            self._of_entry[ref] = member

    def _forget(self, member: _Member) -> None:
        self._withdraw(member)
        self._members.pop((member.group, member.address), None)
        if self._of_node.get(member.node) is member:
            del self._of_node[member.node]
        for stream in member.streams:
            self._of_stream.pop(stream, None)

    def _withdraw(self, member: _Member) -> None:
        ref = member.entry
        self._names(member, None)
        if ref is None:
            return
        try:
            document = self._store.get(ref)
            if document is not None and owned_group(document) == member.group.name:
                self._store.delete(ref, author="system:fairlead", message="its workload has left")
        except StoreError as error:
            _log.warning("%s cannot be deleted: %s", ref, error)

    def _group(self, member: _Member) -> tuple[GroupSpec, str] | None:
        ref = Ref(_API_GROUP, _GROUP, member.group.namespace, member.group.name)
        document = self._store.get(ref)
        obj, found = self._kinds.read(document) if document is not None else (None, [])
        if document is None or obj is None:
            said = "; ".join(f"{one.path}: {one.message}" for one in found) or "create it"
            self._refuse(member, ref, f"there is no such group that is valid: {said}")
            return None
        spec = cast("GroupSpec", obj.spec)
        if spec.account != member.account:
            said = f"spec.template.serviceAccount is {spec.account}, it has a certificate of {member.account}"
            self._refuse(member, ref, f"{said}: give it a token of {spec.account}")
            return None
        return spec, str(document["metadata"].get("uid") or "")

    def _refuse(self, member: _Member, group: Ref, why: str) -> None:
        member.problem = f"{group}: {member.node} cannot join: {why} [FL3301]"
        _log.warning("%s", member.problem)

    def _write(self, member: _Member) -> None:
        """Write the member's entry as its group says now; nothing where it stands so already."""
        found = self._group(member)
        if found is None:
            self._withdraw(member)
            return
        spec, uid = found
        where = member.group
        made = entry_document(where.name, uid, where.namespace, spec, member.address, probed=member.probed)
        ref = Ref(_API_GROUP, _ENTRY, where.namespace, str(made["metadata"]["name"]))
        if member.entry not in (None, ref):
            self._withdraw(member)
        try:
            if not self._put(ref, made, member):
                return
        except StoreError as error:
            _log.warning("%s cannot be written: %s", ref, error)
            return
        member.problem = ""
        self._names(member, ref)

    def _put(self, ref: Ref, made: Json, member: _Member) -> bool:
        old = self._store.get(ref)
        if old is not None and owned_group(old) != member.group.name:
            group = Ref(_API_GROUP, _GROUP, member.group.namespace, member.group.name)
            said = f"{ref} exists and is not of this group: delete it, or give the group another name"
            self._refuse(member, group, said)
            return False
        if old is not None:
            new = {**old, "spec": made["spec"], "metadata": {**old["metadata"], **made["metadata"]}}
            if new != old:
                self._store.put(ref, new, author="system:fairlead", message="its group has changed")
            return True
        if member.probed:
            made = with_condition(made, "Healthy", _STARTING, 1, timestamp(time.time()))
        self._store.put(ref, made, author="system:fairlead", message=f"{member.node} has joined")
        if member.health is not None:
            set_condition(self._store, "Healthy", {ref: member.health})
        return True


def _spec(document: Json | None) -> object:
    return None if document is None else document.get("spec")
