"""Differences of large resources: whatever was and is, applying the difference gives what is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.envoy.resource import ENDPOINT, ROUTE, Piece, Resource
from fairlead.xds.patch import NotApplicable, apply, between
from fairlead.xds.patch_pb2 import Patch

pieces = st.lists(st.sampled_from([b"a" * 40, b"ab" * 30, b"b" * 50, b"ba", b"c" * 9, b"cab" * 20]), max_size=8)
bodies = st.lists(st.sampled_from([b"aa", b"ab", b"b", b"cc", b"long" * 9, b"other" * 7]), max_size=12).map(b"".join)
resources = st.one_of(
    pieces.map(lambda made: Resource.joined(ROUTE, "80", tuple(Piece.of(one) for one in made))),
    bodies.map(lambda body: Resource.of(ROUTE, "80", body)),
)


@given(old=resources, new=resources)
@settings(max_examples=400, derandomize=True, deadline=None)
def test_a_difference_gives_the_new_bytes(old: Resource, new: Resource) -> None:
    patch = Patch.FromString(between(old, new))
    assert apply(patch, old.version, old.body) == new.body


def test_one_changed_part_of_many_costs_little_more_than_itself() -> None:
    def hosts(changed: bytes) -> Resource:
        groups = [Piece.of(b"%03d" % group + bytes(8000)) for group in range(50)]
        groups[20] = Piece.of(b"020" + bytes(4000) + changed + bytes(4000))
        return Resource.joined(ROUTE, "80", tuple(groups))

    old, new = hosts(b"before"), hosts(b"what is there now")
    assert new.size > 400_000
    assert len(between(old, new)) < 150
    assert len(between(new, new)) < 100


def test_an_endpoint_that_moves_in_the_order_costs_little_more_than_itself() -> None:
    def assignment(addresses: list[str]) -> Resource:
        said = "".join(
            f"{one:24} of a workload in a locality with labels and a weight {len(one) * 7919:>20};" * 2
            for one in addresses
        )
        return Resource.of(ENDPOINT, "cluster", said.encode())

    addresses = [f"10.1.0.{number}" for number in range(1, 11)]
    old, new = assignment(addresses), assignment([*addresses[:3], *addresses[4:], "10.9.9.9"])
    assert new.size > 1_800
    patch = Patch.FromString(between(old, new))
    assert len(between(old, new)) < 450
    assert apply(patch, old.version, old.body) == new.body


def test_what_does_not_fit_is_refused() -> None:
    old, new = Resource.of(ROUTE, "80", b"abcabc"), Resource.of(ROUTE, "80", b"abdabc")
    patch = Patch.FromString(between(old, new))
    with pytest.raises(NotApplicable, match="another is here"):
        apply(patch, "another", old.body)
    with pytest.raises(NotApplicable, match="not there"):
        apply(patch, old.version, old.body[:2])
    patch.size += 1
    with pytest.raises(NotApplicable, match="instead of 7"):
        apply(patch, old.version, old.body)
