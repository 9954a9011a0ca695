"""YAML: what the quick reader of plain blocks reads is what the parser of events reads, to the position."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.blockyaml import Reader, Unread
from fairlead.model.manifest import Manifest
from fairlead.model.path import FieldPath
from fairlead.model.yaml import YAMLError, parse_documents
from fairlead.model.yamlevents import by_events

_KEYS = ["a", "b", "c", "kind", "app.kubernetes.io/name", "x-y", "X_1", "e"]
_ODD_KEYS = ["on", "y", "No", "null", "<<", "1", '"q"', "é", "a b", "-a", "a:b", "k" * 130, "items"]
_VALUES = [
    *("a", "b c", "a:b", "a#b", "-1", "0777", "0o14", "1e3", "12:30:45", "1_000", "9" * 30, ".5", ".inf", "=", "<<"),
    *(
        "~",
        "~x",
        "null",
        "Null",
        "yes",
        "oN",
        "y",
        "true",
        "2024-01-01",
        '"a b"',
        '""',
        "''",
        "'\"'",
        "{}",
        "[]",
        "[] #c",
    ),
    *("a  ", "a #b", "$(A)", "(a|b).*", "/a/b?c=d&e", "a, b", "x" * 130, "\\d+$", "a é", "a\xa0", "-a", "a-", "1.2.3"),
]
_ODD_VALUES = [
    *("a: b", "a:", "-", "- a", "--- a", '"a\\n"', "'it''s'", '"a" b', '"a"#b', "'a' # b", "[a]", "{a: b}", "|", ">-"),
    *("&x", "*x", "&x a", "!!str 1", "@a", "`a", "%a", "?", "? a", ": a", ":a", ",a", "\\u0041", "a\\ud83d\\ude00"),
    *("a\t", "\t", "é", "\u2028", "\x85", "a\ufeff", "\x00", '"a', "a\r", "#a", "|\n  a\n  b"),
]
_ODD_LINES = [
    "---",
    "--- ",
    "--- a",
    "---a",
    "",
    "  ",
    "# c",
    "  # c",
    "...",
    "%A",
    "\t",
    "- # c",
    "-",
    "a",
    "  a",
    "- a",
    ": a",
]


def _written(random: Random, depth: int = 0) -> list[str]:
    """Lines of a mapping or list with values of all kinds."""
    odd = random.random() < 0.02
    listed = random.random() < 0.4 and depth > 0
    lines: list[str] = []
    for key in random.sample(_ODD_KEYS if odd else _KEYS, random.randint(1, 3)):
        head = "-" + " " * random.choice([1, 1, 1, 3]) if listed else f"{key}:"
        chosen = random.random()
        if chosen < 0.35 and depth < 4:
            inner = _written(random, depth + 1)
            by = 0 if inner[0].startswith("- ") and not listed and random.random() < 0.5 else random.choice([1, 2, 4])
            if listed:
                lines += [head + inner[0], *(" " * len(head) + line for line in inner[1:])]
            else:
                lines += [head, *(" " * by + line for line in inner)]
        elif chosen < 0.4 and not listed:
            lines.append(head)
        else:
            gap = "" if listed else " " * random.choice([1, 1, 1, 2])
            value = random.choice(_ODD_VALUES if random.random() < 0.02 else _VALUES)
            lines.append(head + gap + value + random.choice(["", "", "", " ", " # c"]))
    return lines


def written(random: Random) -> str:
    """A text of some documents, often with something that is odd or wrong."""
    lines: list[str] = []
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.9:
            lines.append("---")
        lines += _written(random)
    if random.random() < 0.4:
        at = random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                lines.insert(at, random.choice(_ODD_LINES))
            case 1:
                lines[at] = " " * random.randint(1, 40) + lines[at]
            case 2:
                lines[at] = lines[at].removeprefix("  ")
            case 3:
                lines[at] += random.choice(_ODD_VALUES)
            case _:
                lines.insert(at, random.choice(lines))
    return "\n".join(lines) + random.choice(["", "\n", "\n\n", "\n "])


def _said(read: Callable[[str, str], list[Manifest]], text: str) -> object:
    try:
        return [(one.data, repr(one.data), dict(one.marks)) for one in read(text, "f")]
    except YAMLError as error:
        return str(error)


@settings(max_examples=400)
@given(st.integers(0, 1 << 60).map(lambda seed: written(Random(seed))))
def test_the_quick_reader_reads_what_the_parser_of_events_reads(text: str) -> None:
    assert _said(parse_documents, text) == _said(by_events, text)


_MANIFEST = """# a comment
apiVersion: v1
kind: List
items:
- metadata: {}
  spec:
    hosts:
    - "*.example.com"   # all of them
    ports:
      - number: 0777
        name: 'http'

    empty:
- metadata:
    name: b
"""


def test_what_manifests_are_written_in_is_read_quickly() -> None:
    assert Reader().read(_MANIFEST) == by_events(_MANIFEST, "f")[0].data


@pytest.mark.parametrize("text", ["a: [b]", "a: &x b", "a: |\n  b", "a: b\n  c", "a:\tb", "a: b\na: c", "- a", "a"])
def test_what_is_not_plain_is_left_to_the_parser_of_events(text: str) -> None:
    with pytest.raises(Unread):
        Reader().read(text)


def test_items_of_a_list_have_their_own_positions() -> None:
    first, second = parse_documents(f"---\n{_MANIFEST}", "f")
    assert str(first.position(FieldPath(("spec", "ports", 0, "number")))) == "f:11:9"
    assert str(second.position(FieldPath(("metadata", "name")))) == "f:16:5"
    assert str(second.position(FieldPath())) == "f:15:3"


def test_many_items_of_a_list_are_placed_in_one_pass() -> None:
    many = parse_documents("kind: List\nitems:\n" + "- a: 1\n  b: {c: d}\n" * 3000, "f")
    assert [str(one.position(FieldPath(("b", "c")))) for one in many[::2999]] == ["f:4:7", "f:6002:7"]


@pytest.mark.parametrize("line", [" ", "a", "a ", "a: ", "- ", " #", '"', "a:#", "-  ", "'"])
def test_long_lines_take_no_more_time_than_their_length(line: str) -> None:
    assert _said(parse_documents, f"a: {line * 100_000}\n") == _said(by_events, f"a: {line * 100_000}\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_texts_with_a_mark_of_their_encoding_are_read(encoding: str) -> None:
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    (found,) = parse_documents(mark + "a: é\nb: 1\n".encode(encoding))
    assert found.data == {"a": "é", "b": 1}


def test_a_text_in_another_encoding_is_refused_with_its_line() -> None:
    for raw, said in ((b"a: b\nc: \xe9\n", "UTF-8"), (codecs.BOM_UTF16_LE + b"a\0\n\0b", "UTF-16")):
        with pytest.raises(YAMLError, match=said) as refused:
            parse_documents(raw, "a.yaml")
        assert refused.value.position.line == 2


@pytest.mark.parametrize("between", ["\n", " \n\n  "])
def test_json_documents_follow_each_other(between: str) -> None:
    """As `kubectl get -o json | jq .items[]` writes them."""
    one = '{\n  "kind": "A",\n  "b": "}\\n{"\n}'
    first, second, third = parse_documents(one + between + '{"kind": "B", "c": {"d": 1}}' + between + one, "a.json")
    assert (first.data, second.data["c"], third.data) == ({"kind": "A", "b": "}\n{"}, {"d": 1}, first.data)
    assert second.position(FieldPath(("c", "d"))).line == 5 + between.count("\n") - 1
    assert third.position(FieldPath(("b",))).line == 7 + 2 * (between.count("\n") - 1) + 1
    with pytest.raises(YAMLError) as refused:
        parse_documents(one + between + "{,}", "a.json")
    assert refused.value.position.line == 4 + between.count("\n")
    assert "<document start>" not in refused.value.message
