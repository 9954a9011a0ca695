"""Sets that mostly have one member."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.inc.few import MOST, Few, joined, parted

CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 2 * MOST)), max_size=60)


@given(CHANGES)
def test_it_is_a_set_in_the_order_in_which_members_came(changes: list[tuple[bool, int]]) -> None:
    held: Few[int] = ()
    should: dict[int, None] = {}
    for comes, one in changes:
        if comes:
            held = joined(held, one)
            should[one] = None
        else:
            held = parted(held, one)
            should.pop(one, None)
        assert list(held) == list(should)
        assert bool(held) == bool(should)


def test_one_member_stands_in_a_tuple() -> None:
    held = joined((), "a")
    assert held == ("a",)
    assert parted(held, "a") == ()


def test_many_are_found_without_looking_at_each() -> None:
    held: Few[int] = ()
    for one in range(MOST + 1):
        held = joined(held, one)
    assert isinstance(held, dict)
    for one in range(MOST + 1):
        held = parted(held, one)
    assert held == ()
