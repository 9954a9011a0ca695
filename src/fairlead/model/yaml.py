"""YAML as Kubernetes reads it (sigs.k8s.io/yaml), with the position of every value.

Documents in plain blocks are read line by line (`blockyaml`), all others by a parser of events (`yamlevents`), which
also says what is wrong.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import cast

from fairlead.model.blockyaml import MOST_PER_LINE, Reader, Unread, marks
from fairlead.model.diagnostic import Position
from fairlead.model.manifest import Json, Manifest, Marks, Path, Place

MAX_BYTES = 64 << 20
MAX_NODES = 2_000_000
MAX_ALIASED = 100_000
"""Values that stand in a text only by reference: each costs memory, and a few lines can ask for any number."""

_DOCUMENT = re.compile(r"^---(?=[ \n]|\Z)", re.MULTILINE)
_AROUND = re.compile(r"^(?:%|\.\.\.)|[\r\x85\u2028\u2029]", re.MULTILINE)
"""Directives, ends of documents and other ends of lines: with them a text is more than its documents one by one."""
_BETWEEN = re.compile(r"(?<=\})[ \t]*\n(?=[ \t\n]*\{)")
"""Between two objects of JSON; no text of JSON has the end of a line in it."""


class YAMLError(Exception):
    """A text that is not YAML, or not YAML that can be JSON; `position` says where."""

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(f"{position}: {message}")
        self.message = message
        self.position = position


def parse_documents(text: str | bytes, file: str = "") -> list[Manifest]:
    """All documents of a text; empty ones are dropped and a `List` is replaced by its items.

    Raises `YAMLError` where the text is not YAML, exceeds the bounds or holds something that is not an object.
    """
    if len(text) > MAX_BYTES:
        raise YAMLError(f"larger than {MAX_BYTES >> 20} MiB", Position(file, 1, 1))
    if isinstance(text, bytes):
        text = _decoded(text, file)
    try:
        found = _by_document(text, file)
    except (Unread, YAMLError):
        from fairlead.model.yamlevents import by_events

        # What is wrong, if anything, is said of the text as a whole.
        try:
            found = by_events(text, file)
        except YAMLError as error:
            pieces = _pieces(text) if "<document start>" in error.message else []
            if len(pieces) < 2:
                raise
            found = [one for piece, first in pieces for one in by_events(piece, file, first)]
    return [part for one in found for part in _split(one)]


def _decoded(raw: bytes, file: str) -> str:
    """The text of UTF-8, or of UTF-16 with its mark, as YAML 1.2 (5.2) has it and some shells write files."""
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise YAMLError(f"not {encoding.upper()} text", Position(file, line, 1)) from None


def _pieces(text: str) -> list[tuple[str, int]]:
    """JSON documents one after the other, as kubectl takes them and jq writes them, with the line each begins in."""
    if not text.lstrip().startswith("{"):
        return [(text, 1)]
    out: list[tuple[str, int]] = []
    begin, line = 0, 1
    for end in (*(found.end() for found in _BETWEEN.finditer(text)), len(text)):
        out.append((text[begin:end], line))
        begin, line = end, line + text.count("\n", begin, end)
    return out


def _by_document(text: str, file: str) -> list[Manifest]:
    """The documents, each read as quickly as it can be; positions are looked for when they are asked for.

    Raises Unread or YAMLError where the text is to be taken as a whole.
    """
    nodes = MOST_PER_LINE * (text.count("\n") + 1)
    aliased = 0
    if nodes > MAX_NODES or _AROUND.search(text):
        raise Unread
    reader = Reader()
    out: list[Manifest] = []
    for part, first in _parts(text):
        try:
            value = reader.read(part)
        except Unread:
            # Many a command meets nothing that needs this, which takes a while to import.
            from fairlead.model.yamlevents import Builder, built

            builder = Builder(part, file, first)
            out.extend(built(builder))
            nodes, aliased = nodes + builder.nodes, aliased + builder.aliased
            if nodes > MAX_NODES or aliased > MAX_ALIASED:
                raise
        else:
            if value is not None:
                out.append(Manifest(value, file, Marks(partial(marks, part, first))))
    return out


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """The text in pieces of one document, and the line in which each begins."""
    begin, line = 0, 1
    for end in (*(found.start() for found in _DOCUMENT.finditer(text)), len(text)):
        if end > begin:
            part = text[begin:end]
            yield part, line
            begin, line = end, line + part.count("\n")


def _split(manifest: Manifest) -> list[Manifest]:
    items = manifest.data.get("items")
    if not str(manifest.data.get("kind", "")).endswith("List") or not isinstance(items, list):
        return [manifest]
    inside = _ItemMarks(manifest.marks)
    parts = [
        Manifest(cast("Json", item), manifest.file, Marks(partial(inside.of, at)))
        for at, item in enumerate(cast("list[object]", items))
        if isinstance(item, dict)
    ]
    return [inner for part in parts for inner in _split(part)]


class _ItemMarks:
    """The marks of a list by its items, which are sorted out at the first question."""

    def __init__(self, marks: Mapping[Path, Place]) -> None:
        self._marks: Iterable[tuple[Path, Place]] = marks.items()
        self._by_item: dict[str | int, dict[Path, Place]] = {}

    def of(self, at: int) -> Mapping[Path, Place]:
        """Those of one item, by paths in it."""
        for path, mark in self._marks:
            if len(path) > 1 and path[0] == "items":
                self._by_item.setdefault(path[1], {})[path[2:]] = mark
        self._marks = ()
        return self._by_item.get(at, {})
