"""Regular expressions of the API: RE2, as Envoy compiles them (https://github.com/google/re2/wiki/Syntax).

Admission judges expressions without RE2: it refuses what RE2 is known not to have, and then what Python's own compiler
finds after RE2's additions are replaced by equivalents of the same shape. Whoever matches does so with RE2 itself,
which is loaded only then.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from importlib import import_module
from typing import Any

_LIMIT = 1024
_ESCAPE = re.compile(r"\\(?:Q.*?(?:\\E|$)|[pP](?:\{\^?\w+\}|\w)|x\{[0-9a-fA-F]{1,6}\}|.)", re.DOTALL)
_POSIX = re.compile(r"\[:\^?[a-z]+:\]")
_GROUP = re.compile(r"\(\?(?:P<[A-Za-z_]\w*>|<[A-Za-z_]\w*>|[imsU]*(?:-[imsU]+)?[:)])")
_POSSESSIVE = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})\+")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_ESCAPED = frozenset("afnrtvdswDSWbBAzCQE")


def regex_fault(text: str) -> str | None:
    """What is wrong with an expression, or None."""
    if not text:
        return "the regular expression is empty"
    if len(text) > _LIMIT:
        return f"the regular expression is longer than {_LIMIT} characters"
    faults: list[str] = []
    plain = _ESCAPE.sub(lambda found: _escape(found[0], faults), text)
    outside = re.sub(r"\[\^?\]?(?:\[:\^?[a-z]+:\]|[^\]])*\]", "a", plain)
    for found in re.finditer(r"\(\?", outside):
        if not _GROUP.match(outside, found.start()):
            faults.append(f"{outside[found.start() : found.start() + 4]!r} is not in RE2")
    if _POSSESSIVE.search(outside):
        faults.append("possessive repetition is not in RE2")
    if any(int(low) > 1000 or int(high or 0) > 1000 for low, high in _REPEAT.findall(outside)):
        faults.append("a repetition is larger than 1000")
    if faults:
        return faults[0]
    return _compile(_GROUP.sub(_group, _POSIX.sub("a-z", plain)))


def matches_whole(expression: str, text: str) -> bool:
    """Whether the expression matches the whole text; one that RE2 does not take matches nothing."""
    made = _compiled(expression)
    return made is not None and made.fullmatch(text) is not None


def is_found(expression: str, text: str) -> bool:
    """Whether the expression matches somewhere in the text; one that RE2 does not take matches nothing."""
    made = _compiled(expression)
    return made is not None and made.search(text) is not None


def replaced(expression: str, substitution: str, text: str) -> str:
    """The text with every match replaced; `\\1` in the substitution stands for a group."""
    made = _compiled(expression)
    return text if made is None else str(made.sub(substitution, text))


@lru_cache(maxsize=2048)
def _compiled(expression: str) -> Any:
    re2: Any = import_module("re2")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options=options)
    except re2.error:
        return None


def _escape(found: str, faults: list[str]) -> str:
    kind = found[1:2]
    if kind.isdigit() and kind != "0":
        faults.append(f"back-references such as {found!r} are not in RE2")
    elif kind.isalpha() and kind not in _ESCAPED and kind not in "pPx":
        faults.append(f"{found!r} is not in RE2")
    if kind == "Q":
        return "(?:a)"
    if kind and kind in "AzbB":
        return "(?:)"
    return "a" if kind.isalnum() else found


def _group(found: re.Match[str]) -> str:
    if found[0].endswith(")"):
        return "(?:)"
    return "(" if found[0].endswith(">") else "(?:"


def _compile(text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"the regular expression does not compile: {error}"
    return None
