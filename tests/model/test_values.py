"""Durations, selectors and regular expressions as fields of the API have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import yamlevents
from fairlead.model.nodeid import NodeId, called
from fairlead.model.path import SPEC
from fairlead.model.regex import regex_fault
from fairlead.model.syntax import selector_problems, wrong_duration
from fairlead.model.yaml import YAMLError, parse_documents


@pytest.mark.parametrize("text", ["1ms", "1.5s", "1h3m2.5s", "0.001s", "87600h", "1000us"])
def test_durations(text: str) -> None:
    assert wrong_duration(text) == ""


@pytest.mark.parametrize("text", ["", "1", "1 s", "1ns", "2.000000042s", "-1s", "0s", "1d", "9" * 400 + "s", "1e3s"])
def test_bad_durations(text: str) -> None:
    assert wrong_duration(text)


def test_zero_may_be_allowed() -> None:
    assert wrong_duration("0s", zero=True) == ""
    assert wrong_duration("-1s", zero=True)


@pytest.mark.parametrize(
    "text",
    [
        ".*",
        "^/service/([^/]+)(/.*)$",
        "(?i)abc",
        "a(?i:b)c",
        "(?P<name>a)",
        "(?<name>a)",
        r"\d+\.\w{2,3}",
        r"\pL\p{Greek}",
        "[[:alpha:]_-]+",
        r"\Qa(b\E",
        r"\x{10FFFF}",
        r"a\z",
        "[(?=]",
        "(?s).*",
        "a*?",
        "[]a]",
        r"[\d\-]",
    ],
)
def test_re2_has(text: str) -> None:
    assert regex_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "(",
        "a)",
        "[a",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?>a)",
        r"(a)\1",
        "a++",
        "a{1001}",
        "a" * 1025,
        r"\Z",
        "(?P=name)",
        "(?#a)",
        "\\",
    ],
)
def test_re2_has_not(text: str) -> None:
    assert regex_fault(text)


@given(st.text(alphabet=r"ab1()[]{}|*+?\^$.-:,<>=!PQEpx", max_size=30))
def test_any_expression_is_judged(text: str) -> None:
    assert regex_fault(text) is None or isinstance(regex_fault(text), str)


def test_selectors_compare_whole_values() -> None:
    found = [str(one.path) for one in selector_problems({"a": "b", "": "c", "d": "*"}, SPEC / "selector")]
    assert found == ["spec.selector[]", "spec.selector.d"]


@pytest.mark.parametrize("text", ["0o_", "0x_", "0b_", "0x" + "f" * 5000, "9" * 400])
def test_numbers_that_are_none_are_texts(text: str) -> None:
    assert parse_documents(f"a: {text}")[0].data == {"a": text}


def test_json_writes_some_characters_as_two() -> None:
    assert parse_documents('{"a": "\\ud83d\\ude00", "b": "\\\\ud83d"}')[0].data == {"a": "\U0001f600", "b": "\\ud83d"}
    with pytest.raises(YAMLError):
        parse_documents('{"a": "\\ud83d"}')


def test_the_c_parser_reads() -> None:
    """It is a hundred times as fast as the other."""
    assert yamlevents.PARSER.__name__ == "CSafeLoader"


@pytest.mark.parametrize(
    ("text", "name", "namespace", "called_so"),
    [
        ("sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local", "web-1", "shop", "web-1.shop"),
        ("router~10.0.0.1~a.b.shop~shop.svc.cluster.local", "a.b", "shop", "a.b.shop"),
        ("sidecar~10.0.0.1~web", "web", "", "web"),
        ("grpcurl", "", "", "grpcurl"),
    ],
)
def test_node_ids_are_read_whatever_they_are(text: str, name: str, namespace: str, called_so: str) -> None:
    node = NodeId.of(text)
    assert (node.name, node.namespace, called(text)) == (name, namespace, called_so)
    if text.count("~") == 3:
        assert NodeId.parse(text) == node
    else:
        with pytest.raises(ValueError, match="is not a node id"):
            NodeId.parse(text)
