"""YAML from the events of a parser: everything that there is in YAML, and what is wrong with a text.

PyYAML's C parser delivers events; values are built here because the scalar rules of Kubernetes (sigs.k8s.io/yaml on
go-yaml v2, then JSON) are neither YAML 1.1 as PyYAML has it nor YAML 1.2: `on` is true, `0777` is 511, `0o14` is 12,
`1e3` is 1000, `12:30:45` and dates are strings. Duplicate keys are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import yaml

from fairlead.model.diagnostic import Position
from fairlead.model.manifest import Json, Manifest, Path, Place
from fairlead.model.scalar import resolve_scalar
from fairlead.model.yaml import MAX_ALIASED, MAX_NODES, YAMLError

MAX_DEPTH = 100
# Without the C extension (an odd platform) the Python parser delivers the same events, slowly.
PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
"""A character that JSON writes as two surrogates, which YAML does not know."""


def _joined(found: re.Match[str]) -> str:
    high, low = int(found[2], 16), int(found[3], 16)
    return f"{found[1]}\\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08x}"


class Builder:
    """Builds values from parser events; keeps the position of every value by path.

    `first` is the line of the file, from 1, in which the text begins.
    """

    def __init__(self, text: str, file: str, first: int = 1) -> None:
        self._text = _PAIR.sub(_joined, text) if "\\u" in text else text
        self._parser: Any = None
        self.file = file
        self._first = first
        self.aliased = 0
        self.nodes = 0
        self._anchors: dict[str, tuple[object, int, int]] = {}
        """Each value with the places in `_order` between which it and what is in it stand.

        No marks are copied before somebody refers to it: anchors around anchors would cost as much as the text each.
        """
        self._order: list[Path] = []
        self.marks: dict[Path, Place] = {}

    def fail(self, message: str, mark: Any) -> YAMLError:
        return YAMLError(message, Position(self.file, mark.line + self._first, mark.column + 1))

    def _position(self, error: yaml.YAMLError) -> Position:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if mark is not None:
            # The C parser puts what is missing at the end onto a line behind the last one.
            last = self._text.rstrip("\n").count("\n")
            return Position(self.file, min(mark.line, last) + self._first, mark.column + 1 if mark.line <= last else 1)
        at = getattr(error, "position", None)
        if not isinstance(at, int):
            return Position(self.file, self._first, 1)
        before = self._text[:at]
        return Position(self.file, before.count("\n") + self._first, at - before.rfind("\n"))

    def documents(self) -> Iterator[tuple[object, Any]]:
        try:
            self._parser = PARSER(self._text)
            self._parser.get_event()
            while not self._parser.check_event(yaml.StreamEndEvent):
                start = self._parser.get_event()
                self.marks, self._anchors, self._order = {}, {}, []
                value = self._value((), self._parser.get_event(), 0)
                self._parser.get_event()
                yield value, start.start_mark
        except yaml.MarkedYAMLError as error:
            said = " ".join(part for part in (error.context, error.problem) if part)
            raise YAMLError(said or "not YAML", self._position(error)) from None
        except yaml.YAMLError as error:
            raise YAMLError(str(error).splitlines()[0], self._position(error)) from None

    def _value(self, path: Path, event: Any, depth: int) -> object:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.fail(f"more than {MAX_NODES} values in one text", event.start_mark)
        if depth > MAX_DEPTH:
            raise self.fail(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        begin = len(self._order)
        self._order.append(path)
        self.marks[path] = (event.start_mark.line + self._first, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(path, event)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        else:
            value = self._mapping(path, depth)
        anchor = cast("str | None", event.anchor)
        if anchor is not None:
            self._anchors[anchor] = (value, begin, len(self._order))
        return value

    def _alias(self, path: Path, event: Any) -> object:
        if event.anchor not in self._anchors:
            raise self.fail(f"unknown anchor {event.anchor!r}", event.start_mark)
        value, begin, end = self._anchors[event.anchor]
        self.aliased += end - begin
        if self.aliased > MAX_ALIASED:
            raise self.fail(f"more than {MAX_ALIASED} values by aliases in one text", event.start_mark)
        whole = self._order[begin]
        self.marks[path] = self.marks[whole]
        for one in self._order[begin + 1 : end]:
            inside = (*path, *one[len(whole) :])
            self._order.append(inside)
            self.marks[inside] = self.marks[one]
        return value

    def _scalar(self, event: Any, *, key: bool = False) -> object:
        tag = event.tag
        text = cast("str", event.value)
        if tag == "tag:yaml.org,2002:str":
            return text
        if tag is not None and tag.startswith("tag:yaml.org,2002:"):
            return resolve_scalar(text, plain=True, key=key)
        return resolve_scalar(text, plain=bool(event.implicit[0]), key=key)

    def _sequence(self, path: Path, depth: int) -> list[object]:
        out: list[object] = []
        event = self._parser.get_event()
        while not isinstance(event, yaml.SequenceEndEvent):
            out.append(self._value((*path, len(out)), event, depth + 1))
            event = self._parser.get_event()
        return out

    def _mapping(self, path: Path, depth: int) -> dict[str, object]:
        out: dict[str, object] = {}
        merged: list[object] = []
        event: Any = self._parser.get_event()
        while not isinstance(event, yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self.fail("a mapping key must be a plain value", event.start_mark)
            is_merge = event.value == "<<" and event.implicit[0]
            key = self._key(event)
            if key in out:
                raise self.fail(f"duplicate key {key!r}", event.start_mark)
            mark: Any = event.start_mark
            key_mark = (mark.line + self._first, mark.column + 1)
            value = self._value((*path, key), self._parser.get_event(), depth + 1)
            self.marks[(*path, key)] = key_mark
            if is_merge:
                merged.append(value)
            else:
                out[key] = value
            event = self._parser.get_event()
        for part in merged:
            for one in cast("list[object]", part) if isinstance(part, list) else [part]:
                if isinstance(one, dict):
                    for key, value in cast("dict[str, object]", one).items():
                        out.setdefault(key, value)
        return out

    def _key(self, event: Any) -> str:
        key = self._scalar(event, key=True)
        if isinstance(key, bool):
            return "true" if key else "false"
        return "null" if key is None else str(key)


def by_events(text: str, file: str, first: int = 1) -> list[Manifest]:
    """The documents of a text that begins in line `first` of a file, with lists as they stand. Raises `YAMLError`."""
    return built(Builder(text, file, first))


def built(builder: Builder) -> list[Manifest]:
    """The documents of a text, each with its marks."""
    out: list[Manifest] = []
    for value, mark in builder.documents():
        if value is None:
            continue
        if not isinstance(value, dict):
            raise builder.fail("a document must be an object with apiVersion and kind", mark)
        out.append(Manifest(cast("Json", value), builder.file, builder.marks))
    return out
