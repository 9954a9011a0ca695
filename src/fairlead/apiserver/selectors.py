"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

Json = dict[str, Any]
Predicate = Callable[[Json], bool]
MAX_TERMS = 1000

_SPLIT = re.compile(r",(?![^()]*\))")
_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^()]*)\)$")
_COMPARE = re.compile(r"^([^=!<>\s]+)\s*(==|=|!=|>|<)\s*(.*)$")
_KEY = re.compile(r"^([A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")

FIELDS = ("metadata.name", "metadata.namespace", "type", "status.phase")


class SelectorError(ValueError):
    """A selector that is not one; the text says which part."""


def _labels(document: Json) -> Mapping[str, Any]:
    return document.get("metadata", {}).get("labels") or {}


def _term(text: str) -> Callable[[Mapping[str, Any]], bool]:
    text = text.strip()
    found = _SET.match(text)
    if found:
        key, values = _key(found[1]), {one.strip() for one in found[3].split(",")}
        if found[2] == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values
    found = _COMPARE.match(text)
    if found:
        key, operator, value = _key(found[1]), found[2], found[3].strip()
        if operator in ("=", "=="):
            return lambda labels: labels.get(key) == value
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return _number(key, operator, value)
    if text.startswith("!"):
        key = _key(text[1:])
        return lambda labels: key not in labels
    key = _key(text)
    return lambda labels: key in labels


def _key(text: str) -> str:
    text = text.strip()
    if not _KEY.match(text):
        raise SelectorError(f"{text!r} is not a label key; a selector looks like app=web,tier in (a,b),!canary")
    return text


def _number(key: str, operator: str, value: str) -> Callable[[Mapping[str, Any]], bool]:
    if not re.fullmatch(r"-?\d{1,18}", value):
        raise SelectorError(f"{value!r} is not an integer, which {operator} compares with")
    bound = int(value)

    def compare(labels: Mapping[str, Any]) -> bool:
        found = str(labels.get(key, ""))
        if not re.fullmatch(r"-?\d{1,18}", found):
            return False
        return int(found) > bound if operator == ">" else int(found) < bound

    return compare


def label_selector(text: str) -> Predicate | None:
    """A predicate over documents, or None where everything is selected. Raises SelectorError."""
    if not text.strip():
        return None
    parts = _SPLIT.split(text)
    if len(parts) > MAX_TERMS:
        raise SelectorError(f"more than {MAX_TERMS} terms")
    terms = [_term(part) for part in parts]
    return lambda document: all(term(_labels(document)) for term in terms)


def field_selector(text: str) -> Predicate | None:
    """Like `label_selector`, over the fields of `FIELDS` (and those of events, of which there are none)."""
    if not text.strip():
        return None
    terms: list[tuple[str, bool, str]] = []
    for part in text.split(","):
        found = _COMPARE.match(part.strip())
        if not found or found[2] in ("<", ">"):
            raise SelectorError(f"{part!r} is not a field selector such as metadata.name=reviews")
        if found[1] not in FIELDS:
            raise SelectorError(f"field {found[1]!r} cannot be selected by; these can: {', '.join(FIELDS)}")
        terms.append((found[1], found[2] != "!=", found[3].strip()))
    return lambda document: all((_field(document, name) == value) == equal for name, equal, value in terms)


def _field(document: Json, name: str) -> str:
    at: Any = document
    for part in name.split("."):
        at = cast("Json", at).get(part, "") if isinstance(at, dict) else ""
    return str(at)


def both(first: Predicate | None, second: Predicate | None) -> Predicate | None:
    """The conjunction."""
    if first is None or second is None:
        return first or second
    return lambda document: first(document) and second(document)
