"""CEL expressions, as far as an object that holds one can be judged without evaluating it: syntax and functions.

The grammar is the language definition's; precedence does not matter for the question whether a text belongs to it. The
functions are those of stock Envoy's evaluator (Envoy refuses a configuration that calls any other, and with it
everything beside the expression).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LONGEST = 4096
_DEEPEST = 40
_STRING = (
    r"[rRbB]{0,2}(?:\"\"\"(?:\\[\s\S]|(?!\"\"\")[^\\])*\"\"\"|'''(?:\\[\s\S]|(?!''')[^\\])*'''"
    r'|"(?:\\.|[^"\\\n\r])*"|\'(?:\\.|[^\'\\\n\r])*\')'
)
_TOKEN = re.compile(
    rf"(?P<gap>\s+|//[^\n]*)|(?P<string>{_STRING})"
    r"|(?P<number>0x[0-9a-fA-F]+u?|\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.\d+(?:[eE][-+]?\d+)?|\d+u?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])"
)
_BINARY = frozenset(("&&", "||", "<", "<=", ">", ">=", "==", "!=", "in", "+", "-", "*", "/", "%"))
_WORDS = frozenset(("true", "false", "null"))
_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let"),
        *("loop", "package", "namespace", "return", "var", "void", "while", "in"),
    )
)
FUNCTIONS = frozenset(("bool", "double", "duration", "dyn", "has", "int", "size", "timestamp", "type", "uint"))
"""Functions that stand alone."""
METHODS = frozenset(
    (
        *("contains", "endsWith", "matches", "size", "startsWith", "capture", "captureN", "extract"),
        *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
        *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
    )
)
"""Functions of a value."""


class Checked(NamedTuple):
    """A judged expression: what is wrong with it ("" if nothing), and its text on one line without comments."""

    wrong: str
    text: str


class _Wrong(Exception):
    """Where and why a text is no expression."""


def check(text: str) -> Checked:
    """Judge an expression."""
    try:
        parser = _Parser(_tokens(text))
        parser.whole()
    except _Wrong as found:
        return Checked(str(found), text)
    plain = "\n" not in text and "\r" not in text and "//" not in text
    return Checked("", text.strip() if plain else " ".join(parser.tokens[:-1]))


def without_string(text: str) -> str:
    """`string(X)` as X: where a value becomes text anyway. Envoy has no conversion of its own switched on."""
    found = re.fullmatch(r"\s*string\s*\((.*)\)\s*", text, re.DOTALL)
    return found[1] if found is not None and not check(found[1]).wrong else text


def _tokens(text: str) -> list[str]:
    if len(text) > _LONGEST:
        raise _Wrong(f"longer than {_LONGEST} characters")
    out: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _Wrong(f"{text[at : at + 10]!r} at character {at + 1} is not part of an expression")
        if found.lastgroup != "gap":
            out.append(found[0])
        at = found.end()
    return [*out, ""]


class _Parser:
    """Recursive descent over tokens; the last one is empty."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> None:
        self._expression()
        if self._next:
            raise _Wrong(f"{self._next!r} stands where the expression could end")

    @property
    def _next(self) -> str:
        return self.tokens[self._at]

    def _take(self, wanted: str = "") -> str:
        token = self._next
        if wanted and token != wanted:
            raise _Wrong(f"expected {wanted!r}, found {token!r}" if token else f"{wanted!r} is missing at the end")
        self._at += 1
        return token

    def _expression(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Wrong(f"nested deeper than {_DEEPEST} levels")
        self._operand()
        while self._next in _BINARY:
            self._take()
            self._operand()
        if self._next == "?":
            self._take()
            self._expression()
            self._take(":")
            self._expression()
        self._depth -= 1

    def _operand(self) -> None:
        while self._next in ("!", "-"):
            self._take()
        self._primary()
        while self._next in (".", "["):
            self._member(self._take())

    def _member(self, sign: str) -> None:
        if sign == "[":
            self._expression()
            self._take("]")
            return
        name = self._name()
        if self._next == "(":
            self._called(name, METHODS)

    def _primary(self) -> None:
        opening = self._next
        closing = {"(": ")", "[": "]", "{": "}"}.get(opening)
        if closing is not None:
            self._take()
            self._inside(opening, closing)
        elif opening[:1].isdigit() or opening in _WORDS or opening[-1:] in ("'", '"') or re.match(r"\.\d", opening):
            self._take()
        else:
            if opening == ".":
                self._take()
            name = self._name()
            if self._next == "(":
                self._called(name, FUNCTIONS)

    def _inside(self, opening: str, closing: str) -> None:
        if opening == "(":
            self._expression()
        while opening != "(" and self._next != closing:
            self._expression()
            if opening == "{":
                self._take(":")
                self._expression()
            if self._next != closing:
                self._take(",")
        self._take(closing)

    def _called(self, name: str, known: frozenset[str]) -> None:
        if name not in known:
            raise _Wrong(f"Envoy knows no function {name}()")
        self._take("(")
        while self._next != ")":
            self._expression()
            if self._next != ")":
                self._take(",")
        self._take(")")

    def _name(self) -> str:
        token = self._take()
        if not token:
            raise _Wrong("the expression ends where a value is expected")
        if not token[0].isalpha() and token[0] != "_":
            raise _Wrong(f"expected a value, found {token!r}")
        if token in _RESERVED:
            raise _Wrong(f"{token!r} is a reserved word")
        return token
