"""A quick reader of the YAML that most manifests are written in: block mappings and lists of one-line scalars.

A fifth of the time of an event parser. It knows what it knows: at anything else (flow collections, block and
multi-line scalars, anchors, tags, escapes, odd keys, whatever is wrong) it gives up, and the caller asks the parser
that knows everything (`yaml`), which also says what is wrong and where. What it does read is what that one reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from fairlead.model.manifest import Path, Place
from fairlead.model.scalar import resolve_scalar

MOST_PER_LINE = 3
"""A line of what this reads has at most so many values."""

_ODD = re.compile(r"[^\n -~\xa1-\u1fff\u2010-\u2027\u2030-\ud7ff]|\\u")
"""Tabs, breaks that are none, marks of the byte order ...; and what JSON writes of characters beyond 16 bits."""
_EMPTY = re.compile(r"^ *+(?:#.*+)?(?:\n|\Z)", re.MULTILINE)
_MARKER = re.compile(r"---[ ]*(?:\n|\Z)")
# Quantifiers of single characters are possessive, and what groups repeat begins with what cannot stand before it: time
# grows with the length of a line only, whatever stands there. Those of groups are not possessive, since with these the
# first releases of Python 3.11 do not come to an end. Indentation is bounded, and with it the depth.
_LINE = re.compile(
    r"""^([ ]{0,36}+)(-[ ]{1,4}+)?                        # indentation, an item of a list
    (?:([A-Za-z][A-Za-z0-9_./-]{0,126}+):(?![^ \n]))?[ ]*+    # a key
    ( "[^"\\\n]*+" | '[^'\n]*+' | \{\} | \[\]                 # a value
    | (?:[A-Za-z0-9_/.+$(^;~=<\\] | -(?=[A-Za-z0-9]))[^:#\n]*+(?:(?::(?![ \n]|\Z)|(?<![ ])\#)[^:#\n]*+)* )?
    [ ]*+(?:(?<=[ ])\#.*+)?$                                  # a comment
    | (.++)                                                   # none of these""",
    re.MULTILINE | re.VERBOSE,
)
_Row = tuple[str, str, str, str, str]
_NESTED = (dict, list)
_PLAIN_WORDS = re.compile(r"^(?![yYnN]$|(?:yes|no|on|off|true|false|null)$)", re.IGNORECASE)


class Unread(Exception):
    """The text has something that this does not read."""


class Reader:
    """Reads documents, one at a time. Equal keys and texts of all of them are the same in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._scalars: dict[str, object] = {}
        self._rows: list[_Row] = []

    def read(self, text: str) -> dict[str, object] | None:
        """The mapping that one document is (its marker may stand before it); None if it is empty. Raises `Unread`."""
        if _ODD.search(text):
            raise Unread
        found = _MARKER.match(text)
        if found is not None:
            text = text[found.end() :]
        if "#" in text or "\n\n" in text or " \n" in text or text.startswith("\n"):
            text = _EMPTY.sub("", text)
        text = text.rstrip("\n")
        if not text:
            return None
        self._rows = _LINE.findall(text)
        indent, dash, key, _, _ = self._rows[0]
        if dash or not key:
            raise Unread
        out, after = self._mapping(0, len(indent))
        if after < len(self._rows):
            raise Unread
        return out

    def _mapping(self, at: int, column: int) -> tuple[dict[str, object], int]:
        """The mapping whose first key is in row `at`, and the row after it; its keys stand in `column`."""
        rows = self._rows
        end = len(rows)
        out: dict[str, object] = {}
        while True:
            _, _, key, value, _ = rows[at]
            key = self._keys.get(key) or self._key(key)
            if key in out:
                raise Unread
            at += 1
            if value:
                found = self._scalars.get(value, self)
                out[key] = self._scalar(value) if found is self else found
            elif at < end:
                out[key], at = self._below(at, column)
            else:
                out[key] = None
            if at == end:
                return out, at
            indent, dash, _, _, _ = rows[at]
            if len(indent) > column:
                raise Unread
            if dash or len(indent) < column:
                return out, at

    def _below(self, at: int, column: int) -> tuple[object, int]:
        """The value of a key in `column` that begins in the next row, `at`."""
        indent, dash, _, _, _ = self._rows[at]
        size = len(indent)
        if dash and size >= column:
            return self._sequence(at, size)
        return self._mapping(at, size) if size > column else (None, at)

    def _sequence(self, at: int, column: int) -> tuple[list[object], int]:
        """The list whose first item is in row `at`, and the row after it."""
        rows = self._rows
        end = len(rows)
        out: list[object] = []
        while True:
            _, dash, key, value, _ = rows[at]
            if key:
                item, at = self._mapping(at, column + len(dash))
                out.append(item)
            elif value:
                found = self._scalars.get(value, self)
                out.append(self._scalar(value) if found is self else found)
                at += 1
            else:
                raise Unread
            if at == end:
                return out, at
            indent, dash, _, _, _ = rows[at]
            if len(indent) > column:
                raise Unread
            if not dash or len(indent) < column:
                return out, at

    def _key(self, text: str) -> str:
        if not text or not _PLAIN_WORDS.match(text):
            raise Unread
        self._keys[text] = text
        return text

    def _scalar(self, text: str) -> object:
        if text in ("{}", "[]"):
            return {} if text == "{}" else []
        if text[0] in "\"'":
            value: object = text[1:-1]
        else:
            value = resolve_scalar(text.rstrip(" "), plain=True)
        self._scalars[text] = value
        return value


def marks(text: str, first: int) -> dict[Path, Place]:
    """The position of every value of a document that `Reader` reads, and whose text begins in line `first`."""
    found: dict[Path, Place] = {}
    _mark(Reader().read(text), (), _places(text, first), found)
    if found:
        found[()] = next(iter(found.values()))
    return found


def _mark(value: object, path: Path, places: Iterator[Place], found: dict[Path, Place]) -> None:
    """Keys and items stand in the order of their lines, one in each; an item that is a mapping with its first key."""
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            found[(*path, key)] = next(places)
            if inner.__class__ in _NESTED:
                _mark(inner, (*path, key), places, found)
    elif isinstance(value, list):
        for at, inner in enumerate(cast("list[object]", value)):
            outer = (*path, at)
            if inner and isinstance(inner, dict):
                held = cast("dict[str, object]", inner)
                found[outer] = (0, 0)
                _mark(held, outer, places, found)
                found[outer] = found[(*outer, next(iter(held)))]
            else:
                found[outer] = next(places)


def _places(text: str, first: int) -> Iterator[Place]:
    """Where the keys and items of each line begin."""
    for number, line in enumerate(text.split("\n"), first):
        inside = line.lstrip(" ")
        if not inside or inside[0] == "#" or (number == first and line.startswith("---")):
            continue
        if inside.startswith("- "):
            inside = inside[1:].lstrip(" ")
        yield number, len(line) - len(inside) + 1
