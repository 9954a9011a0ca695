"""What of two long resources differs."""

from __future__ import annotations

import pytest

from fairlead.envoy.resource import CLUSTER, ROUTE, Piece, Resource, apart


def joined(*bodies: bytes) -> Resource:
    return Resource.joined(ROUTE, "80", tuple(Piece.of(one) for one in bodies))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (joined(b"a", b"b", b"c"), joined(b"a", b"x", b"c"), (b"b", b"x")),
        (joined(b"a", b"b"), joined(b"a", b"b", b"c"), (b"", b"c")),
        (joined(b"a", b"b", b"c"), joined(b"c"), (b"ab", b"")),
        (joined(b"a"), joined(b"x", b"y"), (b"a", b"xy")),
        # Another order is a difference of the whole.
        (joined(b"a", b"b"), joined(b"b", b"a"), (b"ab", b"ba")),
        (joined(b"a", b"b"), joined(b"a", b"b"), (b"ab", b"ab")),
        (joined(b"a", b"b"), None, (b"ab", None)),
        (None, joined(b"a"), (None, b"a")),
        (None, None, (None, None)),
        (Resource.of(CLUSTER, "c", b"one"), Resource.of(CLUSTER, "c", b"two"), (b"one", b"two")),
        (joined(b"a"), Resource.of(ROUTE, "80", b"whole"), (b"a", b"whole")),
    ],
)
def test_pieces_that_both_have_are_left_out(
    old: Resource | None, new: Resource | None, expected: tuple[bytes | None, bytes | None]
) -> None:
    assert apart(old, new) == expected
