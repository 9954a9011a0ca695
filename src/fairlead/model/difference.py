"""What differs between two JSON documents, by field; and which edit each field of a document comes from.

Pure. Lists are compared as people edit them: elements that have names are matched by name, of others the common
beginning and end are kept, so that an element put in the middle is one difference and not one for each behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, cast

import msgspec

from fairlead.model.path import ROOT, FieldPath

Json = dict[str, Any]
_KEYS = ("name", "type")
_OWN = frozenset(
    ("resourceVersion", "generation", "managedFields", "uid", "creationTimestamp", "selfLink", "deletionTimestamp")
)
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class _Absent(Enum):
    """Stands for a field that is not there: null is a value."""

    ABSENT = "absent"


ABSENT = _Absent.ABSENT


class Difference(msgspec.Struct, frozen=True):
    """One field that differs. `before` or `after` is ABSENT where the field was added or removed."""

    path: FieldPath
    before: object
    after: object

    def __str__(self) -> str:
        if self.before is ABSENT:
            return f"+ {self.path}: {brief(self.after)}"
        if self.after is ABSENT:
            return f"- {self.path}: {brief(self.before)}"
        return f"{self.path}: {brief(self.before)} -> {brief(self.after)}"


def brief(value: object, most: int = 60) -> str:
    """A value on one line, of at most so many characters."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = msgspec.json.encode(value).decode() if isinstance(value, (dict, list, bool, type(None))) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def meaning(document: Json | None, *, status: bool = False) -> Json:
    """The document without what the API keeps for itself, and without status unless it is wanted; {} for None."""
    if document is None:
        return {}
    meta = {key: value for key, value in document.get("metadata", {}).items() if key not in _OWN}
    notes: Json = meta.get("annotations") or {}
    if _APPLIED in notes:
        meta["annotations"] = {key: value for key, value in notes.items() if key != _APPLIED}
        if not meta["annotations"]:
            del meta["annotations"]
    out = {**document, "metadata": meta}
    if not status:
        out.pop("status", None)
    return out


def differences(before: object, after: object, path: FieldPath = ROOT) -> Iterator[Difference]:
    """The outermost fields that differ, in the order of `after`, removed ones last in each object."""
    out: list[Difference] = []
    if before != after:
        _collect(before, after, path, out)
    return iter(out)


def _collect(before: Any, after: Any, path: tuple[str | int, ...], out: list[Difference]) -> None:
    """The differences of two values that differ. Into a list: there may be thousands of documents."""
    # JSON has these classes themselves, and none derived from them.
    if before.__class__ is dict and after.__class__ is dict:
        for key, value in after.items():
            was = before.get(key, ABSENT)
            if was is ABSENT:
                out.append(Difference(FieldPath((*path, key)), ABSENT, value))
            elif was != value:
                _collect(was, value, (*path, key), out)
        if not before.keys() <= after.keys():
            gone = ((key, value) for key, value in before.items() if key not in after)
            out += (Difference(FieldPath((*path, key)), value, ABSENT) for key, value in gone)
    elif before.__class__ is list and after.__class__ is list:
        _collect_list(before, after, path, out)
    else:
        out.append(Difference(FieldPath(path), before, after))


def _collect_list(
    before: list[object], after: list[object], path: tuple[str | int, ...], out: list[Difference]
) -> None:
    only = _only(before, after)
    if only is not None:
        _collect(before[only], after[only], (*path, only), out)
        return
    matched = aligned(before, after)
    for at, source in enumerate(matched):
        if source is None:
            out.append(Difference(FieldPath((*path, at)), ABSENT, after[at]))
        elif before[source] != after[at]:
            _collect(before[source], after[at], (*path, at), out)
    kept = set(matched)
    out += (Difference(FieldPath((*path, at)), one, ABSENT) for at, one in enumerate(before) if at not in kept)
    order = [one for one in matched if one is not None]
    if order != sorted(order):
        out.append(Difference(FieldPath(path), _names(before), _names(after)))


def _only(before: list[object], after: list[object]) -> int | None:
    """The place of the one element that differs in two lists; None if there are more, or another one came for it.

    Most edits are of one element: everything else that `aligned` looks at is then as it was.
    """
    if len(before) != len(after):
        return None
    found: int | None = None
    for at, one in enumerate(after):
        if before[at] != one:
            if found is not None:
                return None
            found = at
    if found is None:
        return None
    was, now = before[found], after[found]
    if isinstance(was, dict) and isinstance(now, dict):
        old, new = cast("Json", was), cast("Json", now)
        for key in _KEYS:
            if old.get(key) != new.get(key):
                return None
    return found


def aligned(before: Sequence[object], after: Sequence[object]) -> list[int | None]:
    """For each element of `after` the position of the one in `before` that it comes from."""
    head, shortest = 0, min(len(before), len(after))
    while head < shortest and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shortest - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    was, now = before[head : len(before) - tail], after[head : len(after) - tail]
    return [
        *range(head),
        *(None if at is None else at + head for at in _middle(was, now)),
        *range(len(before) - tail, len(before)),
    ]


def _middle(before: Sequence[object], after: Sequence[object]) -> list[int | None]:
    """The same for lists that have nothing in common at either end."""
    old, new = _identities(before), _identities(after)
    if old is not None and new is not None:
        return [old.get(key) for key in new]
    if len(before) == len(after):
        return [*range(len(before))]
    left = list(range(len(before)))
    out: list[int | None] = []
    for one in after:
        at = next((position for position, other in enumerate(left) if before[other] == one), None)
        out.append(None if at is None else left[at])
        if at is not None:
            left = left[at + 1 :]
    return out


def _identities(values: Sequence[object]) -> dict[object, int] | None:
    """Position by name, if every element is an object with a name of its own."""
    first = values[0] if values else None
    if not isinstance(first, dict):
        return None
    for key in _KEYS:
        if not isinstance(cast("Mapping[str, object]", first).get(key), str):
            continue
        found = {
            cast("Mapping[str, object]", one)[key]: at
            for at, one in enumerate(values)
            if isinstance(one, dict) and isinstance(cast("Mapping[str, object]", one).get(key), str)
        }
        if len(found) == len(values):
            return found
    return None


def _names(values: Sequence[object]) -> list[object]:
    found = _identities(values)
    return list(found) if found is not None else list(values)


class Blamed(msgspec.Struct):
    """Which edit a value comes from; `inner` has that of its parts, None where all are of the same edit."""

    edit: int
    inner: dict[str | int, Blamed] | None = None

    def part(self, key: str | int) -> Blamed:
        """What is known of a field or element."""
        return self if self.inner is None else self.inner.get(key, self)


def blamed(before: object, after: object, known: Blamed, edit: int) -> Blamed:
    """Whom `after` is due to, given that for `before`, and the number of the edit that made the one of the other."""
    if before == after:
        return known
    if isinstance(before, dict) and isinstance(after, dict):
        old, new = cast("Json", before), cast("Json", after)
        return Blamed(
            known.edit,
            {
                key: Blamed(edit)
                if key not in old
                else known.part(key)
                if old[key] == value
                else blamed(old[key], value, known.part(key), edit)
                for key, value in new.items()
            },
        )
    if isinstance(before, list) and isinstance(after, list):
        was, now = cast("list[object]", before), cast("list[object]", after)
        return Blamed(
            known.edit,
            {
                at: Blamed(edit) if source is None else blamed(was[source], now[at], known.part(source), edit)
                for at, source in enumerate(aligned(was, now))
            },
        )
    return Blamed(edit)
