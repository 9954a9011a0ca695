"""What differs between two Envoy messages, setting by setting.

Elements of lists are matched by their names or, where these do not tell them apart, by what is equal around them; so an
element that moves up because one before it went is no difference. Work goes only where bytes differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fairlead.envoy.protojson import unpacked
from fairlead.envoy.settings import Path, callers, fields, is_map, is_plain, plain, shown

Pairs = Sequence[tuple[int | None, int | None]]
"""Places in an old and in a new list."""
ORDER = "order"
"""The last step of a difference in nothing but the order of a list's elements."""


class Difference(msgspec.Struct, frozen=True):
    """A place at which two messages differ; None where one of them has nothing there.

    The path is that of the old message; what only the new one has is called `field[+NAME]`. `old` and `new` are
    messages or plain values.
    """

    path: Path
    old: Any = None
    new: Any = None

    @property
    def before(self) -> Any:
        """The old value, JSON-shaped."""
        return shown(self.old)

    @property
    def after(self) -> Any:
        """The new value, JSON-shaped."""
        return shown(self.new)


def differences(old: Message | None, new: Message | None, at: Path = ()) -> Iterator[Difference]:
    """Where two messages of one type differ; None is a message that is not there."""
    if old is None or new is None:
        if old is not new:
            yield Difference(at, old, new)
        return
    if old == new:
        return
    old, new = unpacked(old), unpacked(new)
    if old.DESCRIPTOR.full_name != new.DESCRIPTOR.full_name or is_plain(old):
        yield Difference(at, old, new)
        return
    had = {field.number: (field, value) for field, value in fields(old)}
    has = {field.number: (field, value) for field, value in fields(new)}
    for number in sorted({*had, *has}):
        field = (had.get(number) or has[number])[0]
        before = had[number][1] if number in had else None
        after = has[number][1] if number in has else None
        yield from _field(field, before, after, at)


def _field(field: FieldDescriptor, before: Any, after: Any, at: Path) -> Iterator[Difference]:
    here = (*at, field.json_name)
    if is_map(field):
        yield from _map(field, before or {}, after or {}, at)
    elif field.is_repeated and field.message_type is not None:
        yield from _list(field.json_name, list(before or ()), list(after or ()), at)
    elif field.is_repeated:
        was, now = [plain(field, one) for one in before or ()], [plain(field, one) for one in after or ()]
        if was != now:
            yield Difference(here, was or None, now or None)
    elif field.message_type is not None:
        yield from differences(before, after, here)
    elif before != after:
        was = None if before is None else plain(field, before)
        yield Difference(here, was, None if after is None else plain(field, after))


def _map(field: FieldDescriptor, before: Mapping[Any, Any], after: Mapping[Any, Any], at: Path) -> Iterator[Difference]:
    for key in sorted({*before, *after}, key=str):
        here = (*at, f"{field.json_name}[{key}]")
        was = before.get(key)
        now = after.get(key)
        if isinstance(was, Message) or isinstance(now, Message):
            yield from differences(was, now, here)
        elif was != now:
            yield Difference(here, was, now)


def _list(name: str, before: Sequence[Message], after: Sequence[Message], at: Path) -> Iterator[Difference]:
    if before == after:
        return
    old, new = callers(before), callers(after)
    for left, right in matched(before, after):
        if right is None and left is not None:
            yield Difference((*at, f"{name}[{old[left]}]"), before[left], None)
        elif left is None and right is not None:
            yield Difference((*at, f"{name}[+{new[right]}]"), None, after[right])
        elif left is not None and right is not None:
            yield from differences(before[left], after[right], (*at, f"{name}[{old[left]}]"))
    if _named(old) and _named(new):
        kept, stand = [one for one in old if one in set(new)], [one for one in new if one in set(old)]
        if kept != stand:
            yield Difference((*at, name, ORDER), kept, stand)


def matched(before: Sequence[Message], after: Sequence[Message]) -> Pairs:
    """Which elements of two lists are the same one, by place; None: it is in one of them only.

    Elements that are equal and have no names that tell them apart are left out.
    """
    old, new = callers(before), callers(after)
    return _by_name(old, new) if _named(old) and _named(new) else _by_place(before, after)


def _named(names: Sequence[str]) -> bool:
    """Whether elements are called by names, and not by their places."""
    return all(one != str(at) for at, one in enumerate(names))


def _by_name(old: Sequence[str], new: Sequence[str]) -> Pairs:
    place = {name: at for at, name in enumerate(new)}
    held = set(old)
    return [(at, place.get(name)) for at, name in enumerate(old)] + [
        (None, at) for at, name in enumerate(new) if name not in held
    ]


def _by_place(before: Sequence[Message], after: Sequence[Message]) -> Pairs:
    """What is equal stands for itself; what lies between is matched in order."""
    was = [one.SerializeToString(deterministic=True) for one in before]
    now = [one.SerializeToString(deterministic=True) for one in after]
    out: list[tuple[int | None, int | None]] = []
    for what, from_old, to_old, from_new, to_new in SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        shared = min(to_old - from_old, to_new - from_new)
        out += [(from_old + at, from_new + at) for at in range(shared)]
        out += [(at, None) for at in range(from_old + shared, to_old)]
        out += [(None, at) for at in range(from_new + shared, to_new)]
    return out
