"""Which edits are behind what is dangerous about a change: found by trying the change without each of them.

Nothing is known here of kinds or of dangers: an edit is behind one if the change without it is not dangerous in that
way. Objects are tried first, then the fields of those that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import msgspec

from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.publish import Changes
from fairlead.effect.change import Change
from fairlead.effect.effects import Effect
from fairlead.ir.view import View
from fairlead.model.diagnostic import Origin
from fairlead.model.difference import ABSENT, Difference, differences, meaning
from fairlead.model.object import Object
from fairlead.model.path import ROOT
from fairlead.model.ref import Ref
from fairlead.provenance.documents import document, read

Json = dict[str, Any]
Before = Mapping[Ref, Object[Any] | None]
"""The objects of a change as they were without it (None: not there)."""
Judge = Callable[[Mapping[View, Changes]], tuple[Effect, ...]]
"""What becomes of some views, as `effects` says it, of the model as it is at that moment."""
MOST_TRIALS = 40
"""Trials for one change: each costs about as much as compiling the change for one view of each group."""
_FEW = 3
_Danger = tuple[str, str]


def objects_of(model: MeshModel, refs: Mapping[Ref, object]) -> dict[Ref, Object[Any] | None]:
    """The objects as the model has them."""
    return {ref: model.engine.get(OBJECTS, ref) for ref in refs}


def attributed(
    model: MeshModel, found: tuple[Effect, ...], differing: Mapping[View, Changes], before: Before, judge: Judge
) -> tuple[Effect, ...]:
    """The effects, with the origins that are behind each danger. The model has the change, and has it afterwards."""
    dangerous = [one for one in found if one.dangers]
    if not dangerous:
        return found
    trials = _Trials(model, {one.views[0]: differing[one.views[0]] for one in dangerous}, judge)
    sought = {one.views[0]: {(each.danger, each.said) for each in one.dangers} for one in dangerous}
    blamed: dict[tuple[View, _Danger], list[Origin]] = {}
    edited = {ref: one for ref, one in before.items() if one != model.engine.get(OBJECTS, ref)}
    for ref, was in edited.items():
        now = model.engine.get(OBJECTS, ref)
        gone = _gone(sought, trials.without(ref, was)) if len(edited) > 1 else _all(sought)
        if not gone:
            continue
        fields = list(_edits(model, ref, was, now)) if was is not None and now is not None else []
        narrower: dict[tuple[View, _Danger], list[Origin]] = {}
        for path, other in fields if len(fields) > 1 else ():
            for one in _gone(sought, trials.without(ref, other)) & gone:
                narrower.setdefault(one, []).append(Origin(ref, path))
        whole = [Origin(ref, fields[0][0] if len(fields) == 1 else ROOT)]
        for one in gone:
            blamed.setdefault(one, []).extend(narrower.get(one, whole))

    def told(view: View, change: Change) -> Change:
        origins = blamed.get((view, (change.danger, change.said)), [])
        return msgspec.structs.replace(change, behind=tuple(origins[:_FEW])) if origins else change

    return tuple(
        msgspec.structs.replace(one, changes=tuple(told(one.views[0], each) for each in one.changes))
        if one.dangers
        else one
        for one in found
    )


class _Trials:
    """The change without one of its edits, as often as that is allowed."""

    def __init__(self, model: MeshModel, differing: Mapping[View, Changes], judge: Judge) -> None:
        self._model = model
        self._differing = differing
        self._judge = judge
        self._left = MOST_TRIALS

    def without(self, ref: Ref, other: Object[Any] | None) -> Mapping[View, set[_Danger]] | None:
        """The dangers that are left for each view where an object is another one; None: this was not tried."""
        if self._left <= 0:
            return None
        self._left -= 1
        put, gone = ([other], []) if other is not None else ([], [ref])
        with self._model.supposing(put, gone) as further:
            composed = {view: _composed(one, further.get(view, {})) for view, one in self._differing.items()}
            left: dict[View, set[_Danger]] = {view: set() for view in composed}
            for effect in self._judge(composed):
                for view in effect.views:
                    left[view] = {(one.danger, one.said) for one in effect.dangers}
        return left


def _composed(change: Changes, further: Changes) -> Changes:
    """What was there before both, by type and name."""
    return {type_url: {**further.get(type_url, {}), **change.get(type_url, {})} for type_url in {**change, **further}}


def _all(sought: Mapping[View, set[_Danger]]) -> set[tuple[View, _Danger]]:
    return {(view, one) for view, dangers in sought.items() for one in dangers}


def _gone(sought: Mapping[View, set[_Danger]], left: Mapping[View, set[_Danger]] | None) -> set[tuple[View, _Danger]]:
    """The dangers that there are not without an edit."""
    if left is None:
        return set()
    return {(view, one) for view, dangers in sought.items() for one in dangers - left[view]}


def _edits(model: MeshModel, ref: Ref, was: Object[Any], now: Object[Any]) -> Iterator[tuple[Any, Object[Any]]]:
    """The fields of an object that differ, each with the object as it is but for that field."""
    kind = model.kinds.of(ref)
    old, new = (meaning(msgspec.json.decode(msgspec.json.encode(document(kind, one)))) for one in (was, now))
    for one in differences(old, new):
        changed = _reverted(new, one)
        other = read(model.kinds, changed, now) if changed is not None else None
        if other is not None:
            yield one.path, other


def _reverted(new: Json, one: Difference) -> Json | None:
    """A document with one field as it was; None where that has no one place (the order of a list)."""
    made: Json = msgspec.json.decode(msgspec.json.encode(new))
    here: Any = made
    for part in one.path[:-1]:
        try:
            here = here[part]
        except (KeyError, IndexError):
            return None
    last = one.path[-1] if one.path else None
    if isinstance(here, list) and isinstance(last, int):
        values = cast("list[object]", here)
        if one.after is ABSENT:
            values.insert(last, one.before)
        else:
            values[last : last + 1] = [] if one.before is ABSENT else [one.before]
    elif isinstance(here, dict) and isinstance(last, str):
        fields = cast("Json", here)
        fields.pop(last, None)
        if one.before is not ABSENT:
            fields[last] = one.before
    else:
        return None
    return made
