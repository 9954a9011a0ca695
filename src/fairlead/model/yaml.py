"""YAML as Kubernetes reads it, with the position of every value.

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
from fairlead.model.manifest import Json, Manifest

MAX_BYTES = 64 << 20
MAX_DEPTH = 100
MAX_NODES = 2_000_000
MAX_ALIASED = 100_000
"""Values that stand in a text only by reference: each costs memory, and a few lines can ask for any number."""

# Without the C extension (an odd platform) the Python parser delivers the same events, slowly.
PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
"""A character that JSON writes as two surrogates, which YAML does not know."""

_TRUE = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}
_FALSE = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}
_NULL = {"", "~", "null", "Null", "NULL"}
_LONGEST_INTEGER = 80
_DEC = re.compile(r"^[-+]?[0-9][0-9_]*$")
_OCT = re.compile(r"^[-+]?0[0-7_]+$")
_OCT12 = re.compile(r"^[-+]?0o[0-7_]+$")
_HEX = re.compile(r"^[-+]?0x[0-9a-fA-F_]+$")
_BIN = re.compile(r"^[-+]?0b[01_]+$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$")


class YAMLError(Exception):
    """A text that is not YAML, or not YAML that can be JSON; `position` says where."""

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(f"{position}: {message}")
        self.message = message
        self.position = position


def _joined(found: re.Match[str]) -> str:
    high, low = int(found[2], 16), int(found[3], 16)
    return f"{found[1]}\\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08x}"


def _integer(text: str) -> int | None:
    """The integer of a text, or None if it is none of 64 bits."""
    if len(text) > _LONGEST_INTEGER:
        return None
    try:
        found = _whole(text)
    except ValueError:
        return None
    return found if found is not None and -(1 << 63) <= found < 1 << 64 else None


def _whole(text: str) -> int | None:
    plain = text.replace("_", "")
    if _OCT12.match(text):
        return int(plain.replace("0o", "", 1), 8)
    if _OCT.match(text) and len(plain.lstrip("+-")) > 1:
        return int(plain, 8)
    if _DEC.match(text):
        digits = plain.lstrip("+-")
        return int(plain, 10) if len(digits) < 20 and (digits == "0" or not digits.startswith("0")) else None
    if _HEX.match(text):
        return int(plain, 16)
    if _BIN.match(text):
        return int(plain, 2)
    return None


def resolve_scalar(text: str, *, plain: bool, key: bool = False) -> object:
    """The JSON value of a scalar. Quoted scalars are strings; `y` and `n` are booleans only as keys."""
    if not plain:
        return text
    if text in _NULL:
        return None
    if text in _TRUE and (key or len(text) > 1):
        return True
    if text in _FALSE and (key or len(text) > 1):
        return False
    if text[0] not in "+-.0123456789":
        return text
    whole = _integer(text)
    if whole is not None:
        return whole
    if _FLOAT.match(text):
        number = float(text.replace("_", ""))
        return number if number != number or number not in (float("inf"), float("-inf")) else text
    return text


class _Builder:
    """Builds values from parser events; keeps the position of every value by path."""

    def __init__(self, text: str, file: str) -> None:
        self._text = _PAIR.sub(_joined, text) if "\\u" in text else text
        self._parser: Any = None
        self._file = file
        self._aliased = 0
        self._nodes = 0
        self._anchors: dict[str, tuple[object, dict[tuple[str | int, ...], tuple[int, int]]]] = {}
        self.marks: dict[tuple[str | int, ...], tuple[int, int]] = {}

    def fail(self, message: str, mark: Any) -> YAMLError:
        return YAMLError(message, Position(self._file, mark.line + 1, mark.column + 1))

    def _position(self, error: yaml.YAMLError) -> Position:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if mark is not None:
            # The C parser puts what is missing at the end onto a line behind the last one.
            last = self._text.rstrip("\n").count("\n")
            return Position(self._file, min(mark.line, last) + 1, mark.column + 1 if mark.line <= last else 1)
        at = getattr(error, "position", None)
        if not isinstance(at, int):
            return Position(self._file, 1, 1)
        before = self._text[:at]
        return Position(self._file, before.count("\n") + 1, at - before.rfind("\n"))

    def documents(self) -> Iterator[tuple[object, Any]]:
        try:
            self._parser = PARSER(self._text)
            self._parser.get_event()
            while not self._parser.check_event(yaml.StreamEndEvent):
                start = self._parser.get_event()
                self.marks, self._anchors = {}, {}
                value = self._value((), self._parser.get_event(), 0)
                self._parser.get_event()
                yield value, start.start_mark
        except yaml.MarkedYAMLError as error:
            said = " ".join(part for part in (error.context, error.problem) if part)
            raise YAMLError(said or "not YAML", self._position(error)) from None
        except yaml.YAMLError as error:
            raise YAMLError(str(error).splitlines()[0], self._position(error)) from None

    def _value(self, path: tuple[str | int, ...], event: Any, depth: int) -> object:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self.fail(f"more than {MAX_NODES} values in one text", event.start_mark)
        if depth > MAX_DEPTH:
            raise self.fail(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        self.marks[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
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
            inside = {at[len(path) :]: mark for at, mark in self.marks.items() if at[: len(path)] == path}
            self._anchors[anchor] = (value, inside)
        return value

    def _alias(self, path: tuple[str | int, ...], event: Any) -> object:
        if event.anchor not in self._anchors:
            raise self.fail(f"unknown anchor {event.anchor!r}", event.start_mark)
        value, inside = self._anchors[event.anchor]
        self._aliased += len(inside)
        if self._aliased > MAX_ALIASED:
            raise self.fail(f"more than {MAX_ALIASED} values by aliases in one text", event.start_mark)
        for at, mark in inside.items():
            self.marks[path + at] = mark
        return value

    def _scalar(self, event: Any, *, key: bool = False) -> object:
        tag = event.tag
        text = cast("str", event.value)
        if tag == "tag:yaml.org,2002:str":
            return text
        if tag is not None and tag.startswith("tag:yaml.org,2002:"):
            return resolve_scalar(text, plain=True, key=key)
        return resolve_scalar(text, plain=bool(event.implicit[0]), key=key)

    def _sequence(self, path: tuple[str | int, ...], depth: int) -> list[object]:
        out: list[object] = []
        event = self._parser.get_event()
        while not isinstance(event, yaml.SequenceEndEvent):
            out.append(self._value((*path, len(out)), event, depth + 1))
            event = self._parser.get_event()
        return out

    def _mapping(self, path: tuple[str | int, ...], depth: int) -> dict[str, object]:
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
            key_mark = (mark.line + 1, mark.column + 1)
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


def parse_documents(text: str | bytes, file: str = "") -> list[Manifest]:
    """All documents of a text; empty ones are dropped and a `List` is replaced by its items.

    Raises `YAMLError` where the text is not YAML, exceeds the bounds or holds something that is not an object.
    """
    if len(text) > MAX_BYTES:
        raise YAMLError(f"larger than {MAX_BYTES >> 20} MiB", Position(file, 1, 1))
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text[: error.start].count(b"\n") + 1
            raise YAMLError("not UTF-8 text", Position(file, line, 1)) from None
    builder = _Builder(text, file)
    out: list[Manifest] = []
    for value, mark in builder.documents():
        if value is None:
            continue
        if not isinstance(value, dict):
            raise builder.fail("a document must be an object with apiVersion and kind", mark)
        out.extend(_split(Manifest(cast("Json", value), file, builder.marks)))
    return out


def _split(manifest: Manifest) -> list[Manifest]:
    items = manifest.data.get("items")
    if not str(manifest.data.get("kind", "")).endswith("List") or not isinstance(items, list):
        return [manifest]
    out: list[Manifest] = []
    for at, item in enumerate(cast("list[object]", items)):
        if isinstance(item, dict):
            marks = {path[2:]: mark for path, mark in manifest.marks.items() if path[:2] == ("items", at)}
            out.extend(_split(Manifest(cast("Json", item), manifest.file, marks)))
    return out
