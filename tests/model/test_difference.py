"""Differences of documents by field, whom each field is due to, and edits that are taken back."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.difference import Blamed, blamed, differences, meaning
from fairlead.model.merge import without

Json = dict[str, Any]


def said(before: object, after: object) -> list[str]:
    return [str(one) for one in differences(before, after)]


def test_lists_are_compared_as_people_edit_them() -> None:
    one, two, new = ({"match": name} for name in ("a", "b", "c"))
    assert said([one, two], [one, new, two]) == ['+ [1]: {"match":"c"}']
    assert said([one, new, two], [two]) == ['- [0]: {"match":"a"}', '- [1]: {"match":"c"}']
    named = [{"name": "v1", "x": 1}, {"name": "v2", "x": 1}]
    moved = [{"name": "v2", "x": 2}, {"name": "v1", "x": 1}]
    assert said(named, moved) == ["[0].x: 1 -> 2", ': ["v1","v2"] -> ["v2","v1"]']
    assert said({"a": None}, {}) == ["- a: null"]


def test_meaning_leaves_out_what_the_api_keeps() -> None:
    document: Json = {
        "metadata": {
            "name": "a",
            "uid": "1",
            "generation": 3,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        "status": {},
    }
    assert meaning(document) == {"metadata": {"name": "a"}}
    assert meaning(None) == {}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "x", "y"]), inner),
    max_leaves=12,
)
_DOCUMENT = st.dictionaries(st.sampled_from(["spec", "x", "y"]), _JSON)


@given(_JSON, _JSON)
def test_nothing_differs_exactly_where_values_are_equal(before: object, after: object) -> None:
    same = repr(before) == repr(after) or (before == after and type(before) is type(after))
    if same:
        assert not said(before, after)


@given(_DOCUMENT, _DOCUMENT)
def test_an_edit_is_taken_back_whole_where_nothing_came_after(before: Json, edited: Json) -> None:
    merged = without(edited, edited, before)
    assert not merged.conflicts and merged.document == before


def test_later_edits_stay_and_the_same_field_is_a_conflict() -> None:
    before: Json = {"spec": {"a": 1, "b": 1, "list": [{"x": 1}]}}
    edited: Json = {"spec": {"a": 2, "b": 1, "list": [{"x": 2}]}}
    now: Json = {"spec": {"a": 2, "b": 5, "list": [{"x": 2}]}}
    assert without(now, edited, before).document == {"spec": {"a": 1, "b": 5, "list": [{"x": 1}]}}
    again = without({"spec": {"a": 3, "b": 1, "list": [{"x": 2}, {"x": 9}]}}, edited, before)
    assert [str(one) for one in again.conflicts] == ["spec.a", "spec.list"]


@given(st.lists(_DOCUMENT, min_size=1, max_size=5))
def test_a_field_that_is_as_the_last_edit_made_it_is_not_due_to_a_later_one(versions: list[Json]) -> None:
    known, before = Blamed(0), versions[0]
    for number, version in enumerate(versions[1:], 1):
        known = blamed(before, version, known, number)
        for key, value in version.items():
            part = known.part(key)
            if key in before and repr(before[key]) == repr(value):
                assert part.edit < number
            elif key not in before:
                assert part.edit == number and part.inner is None
        before = version
