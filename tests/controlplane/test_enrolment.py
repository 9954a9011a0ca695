"""Members of a WorkloadGroup: entries that come, change and go, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.compiler.registry import registry
from fairlead.controlplane.conditions import Outcome, condition_of
from fairlead.controlplane.enrolment import AFTER_START, GRACE, Enrolment
from fairlead.model.identity import Identity
from fairlead.model.ref import Ref
from fairlead.store.change import Change
from fairlead.store.store import Store
from fairlead.xds.server import Connection
from fairlead.xds.session import Session
from fairlead.xds.wire import Node

GROUP = Ref("networking.istio.io", "WorkloadGroup", "shop", "reviews")
ADDRESS = "10.0.0.7"
ENTRY = Ref("networking.istio.io", "WorkloadEntry", "shop", "reviews-10.0.0.7")
NODE = f"sidecar~{ADDRESS}~vm-7.shop~shop.svc.cluster.local"
REVIEWS = Identity("cluster.local", "shop", "reviews")


class Clock:
    """Time stands still unless told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class World:
    """A store, and the members of its groups."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.clock = Clock()
        self.enrolment = self.enrol()
        self._streams = 0

    def enrol(self) -> Enrolment:
        """As a control plane that starts: it follows the store."""
        made = Enrolment(self.store, registry(), self.clock)
        made.recall()
        self._changes: list[Change] = []
        self.store.subscribe(self._changes.extend)
        return made

    def tell(self) -> None:
        """The loop has come round."""
        changes, self._changes[:] = [*self._changes], []
        self.enrolment.changed(changes)

    def group(self, **template: Any) -> None:
        """Write the group."""
        spec = {"template": {"serviceAccount": "reviews", "labels": {"app": "reviews"}, **template}}
        meta = {"name": "reviews", "namespace": "shop"}
        document = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "metadata": meta, "spec": spec}
        self.store.put(GROUP, document)
        self.tell()

    def join(self, peer: Identity = REVIEWS, node: str = NODE, group: object = "reviews") -> Connection:
        """A member connects."""
        self._streams += 1
        metadata = {"AUTO_REGISTER_GROUP": group, "FAIRLEAD_VERSION": "1"}
        made = Connection(self._streams, peer, Node(node, metadata=metadata), "127.0.0.1:1", Session({}, delta=True))
        self.enrolment.joined(made)
        return made

    def entry(self, ref: Ref = ENTRY) -> dict[str, Any] | None:
        """The member's entry."""
        return self.store.get(ref)

    def healthy(self) -> str:
        """What the entry's condition says."""
        found = self.entry()
        assert found is not None
        condition = condition_of(found, "Healthy")
        return str(condition["status"]) if condition else ""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store.db")
    yield made
    made.store.close()


def test_a_member_has_an_entry_while_its_stream_stands(world: World) -> None:
    world.group()
    stream = world.join()
    found = world.entry()
    assert found is not None and found["spec"]["address"] == ADDRESS
    assert world.healthy() == "False"
    assert world.enrolment.entry_of(stream) == ENTRY
    world.enrolment.left(stream)
    world.clock.now = GRACE - 1
    world.enrolment.sweep()
    again = world.join()
    world.clock.now = 10 * GRACE
    world.enrolment.sweep()
    assert world.entry() is not None
    world.enrolment.left(again)
    world.clock.now = 11 * GRACE
    world.enrolment.sweep()
    assert world.entry() is None


def test_an_old_stream_that_ends_late_takes_nothing_away(world: World) -> None:
    world.group()
    old, new = world.join(), world.join()
    world.enrolment.left(old)
    world.clock.now = 2 * GRACE
    world.enrolment.sweep()
    assert world.entry() is not None and world.enrolment.entry_of(new) == ENTRY


def test_goodbye_ends_the_entry_at_once_and_only_ones_own(world: World) -> None:
    world.group()
    stream = world.join()
    world.enrolment.ended(NODE, Identity("cluster.local", "shop", "other"))
    assert world.entry() is not None
    world.enrolment.ended(NODE, REVIEWS)
    assert world.entry() is None
    world.tell()
    world.enrolment.left(stream)
    world.enrolment.sweep()
    assert world.entry() is None


@pytest.mark.parametrize(
    ("peer", "node", "group"),
    [
        (Identity("cluster.local", "shop", "other"), NODE, "reviews"),
        (Identity("cluster.local", "bank", "reviews"), NODE, "reviews"),
        (REVIEWS, NODE.replace(ADDRESS, "no-address"), "reviews"),
        (REVIEWS, NODE, "unknown"),
        (REVIEWS, NODE, 7),
        (REVIEWS, NODE, ""),
    ],
)
def test_others_are_not_let_in(world: World, peer: Identity, node: str, group: object) -> None:
    world.group()
    world.join(peer, node, group)
    assert world.store.list("networking.istio.io", "WorkloadEntry") == []


def test_an_entry_of_somebody_else_is_left_alone(world: World) -> None:
    world.group()
    mine = {"metadata": {"name": ENTRY.name, "namespace": "shop"}, "spec": {"address": "10.9.9.9"}}
    world.store.put(ENTRY, mine)
    stream = world.join()
    assert len(world.enrolment.findings()) == 1 and "is not of this group" in world.enrolment.findings()[0]
    assert world.enrolment.entry_of(stream) is None
    world.enrolment.ended(NODE, REVIEWS)
    found = world.entry()
    assert found is not None and found["spec"] == {"address": "10.9.9.9"}


def test_the_group_may_come_later_change_and_go(world: World) -> None:
    stream = world.join()
    world.enrolment.heard(stream, Outcome(True, "HealthCheckSucceeded"))
    assert world.entry() is None
    world.group()
    assert world.healthy() == "True"
    world.group(weight=3)
    found = world.entry()
    assert found is not None and found["spec"]["weight"] == 3 and world.healthy() == "True"
    world.group(network="vms")
    assert world.entry() is None
    moved = Ref(ENTRY.group, ENTRY.kind, "shop", f"{ENTRY.name}-vms")
    assert world.entry(moved) is not None and world.enrolment.entry_of(stream) == moved
    world.group(serviceAccount="other")
    assert world.entry(moved) is None
    assert "give it a token of other [FL3301]" in world.enrolment.findings()[0]
    world.group()
    assert world.enrolment.findings() == []
    assert world.entry() is not None
    world.store.delete(GROUP)
    world.tell()
    assert world.entry() is None


def test_an_entry_that_is_deleted_comes_again_while_its_member_is_there(world: World) -> None:
    world.group()
    world.join()
    world.store.delete(ENTRY)
    world.tell()
    assert world.entry() is not None


def test_a_control_plane_that_starts_anew_knows_the_members(world: World) -> None:
    world.group()
    world.join()
    before = world.entry()
    world.enrolment = world.enrol()
    world.join()
    assert world.entry() == before
    world.enrolment = world.enrol()
    world.clock.now = AFTER_START - 1
    world.enrolment.sweep()
    assert world.entry() is not None
    world.clock.now = AFTER_START
    world.enrolment.sweep()
    assert world.entry() is None
