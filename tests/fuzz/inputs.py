"""Inputs that nobody would write: valid documents with bytes, lines and values changed, and hand-made nasty ones."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import yaml

import fairlead.kinds

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    (*Path(fairlead.kinds.__path__[0]).glob("*/testdata/*.in.yaml"), *(ROOT / "samples" / "shop").rglob("*.yaml"))
)

NASTY_SCALARS: tuple[str, ...] = (
    *(
        "0o_",
        "0x_",
        "0b_",
        "-0x",
        "+",
        ".",
        "-.",
        "1__2",
        "0x" + "f" * 5000,
        "9" * 5000,
        "1e999",
        "-1e999",
        ".inf",
        ".nan",
    ),
    *("~", "null", "y", "yes", "0777", "1_000", "12:30:45", "2026-01-01", "=", "<<", "!!binary aGk=", "!!int x"),
    *(
        '"\\0"',
        '"\\ud800"',
        '"\\x85"',
        '"' + "a" * 5000 + '"',
        "''",
        "|\n  a\n",
        "&a *a",
        "*a",
        "[[[",
        "{{{",
        "@",
        "`",
        "%",
    ),
    *(
        "1.7976931348623157e309",
        "-0",
        "18446744073709551616",
        "-9223372036854775809",
        "1e5",
        "1.5",
        "[]",
        "{}",
        "\u2028",
    ),
)
NASTY_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**400, 1.5, 1e308, "", "a" * 5000, "\0", "\ud800"),
    *("\u0130", "é", "\n", "*", "%", "[", "(?<a>b", "(" * 300, "a{99999}", "-" * 64, ".", "..", "/", "//", "0", "{*}"),
    *(
        [],
        {},
        [None],
        [[]],
        [{}],
        {"": None},
        {"a": {"a": {}}},
        ["a"] * 50,
        "1h1h1h",
        "-1s",
        "1e9s",
        "::",
        "1.2.3.4/33",
    ),
    *(
        "spiffe://",
        "http://[",
        "[x]/y",
        r"\z\pN[[:alpha:]]\Q(\E",
        "https://a:99999999",
        "unix://",
        "unix://@",
        "*.*",
        "xn--",
        "%REQ(",
        "%CEL(",
        "{}",
        "null",
    ),
)
MOST_NESTED = 3000


def bomb(levels: int = 12, width: int = 10) -> bytes:
    """Anchors that refer to anchors: `width ** levels` values if they were all written out."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * width)}]" for at in range(1, levels)]
    return "\n".join(lines).encode()


def _around(levels: int = 90, values: int = 20_000) -> bytes:
    """A list of many values in as many lists, each with an anchor."""
    return b"".join(b"&a%d [" % at for at in range(levels)) + b", ".join([b"x"] * values) + b"]" * levels


def handmade() -> dict[str, bytes]:
    """Inputs for which a reader may be tempted to run for ever, deep or out of memory."""
    head = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    spec = b"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n"
    hosts = (
        b"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n"
        b"spec: {hosts: [HOSTS], http: [{route: [{destination: {host: a}}]}]}\n"
    )
    deep = MOST_NESTED
    return {
        "bomb": bomb(),
        "deep flow sequence": b"[" * deep + b"]" * deep,
        "deep flow mapping": b"{a: " * deep + b"}" * deep,
        "deep block": b"\n".join(b" " * at + b"a:" for at in range(deep)),
        "deep block sequence": b"- " * deep,
        "deep JSON": b'{"a":' * deep + b"1" + b"}" * deep,
        "deep spec": b'{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","spec":'
        + b'{"a":' * 90
        + b"1"
        + b"}" * 91,
        "keys twice": head + b"data: {a: b, a: c}\n",
        "JSON keys twice": b'{"apiVersion":"v1","apiVersion":"v1","kind":"Namespace"}',
        "NUL": b"a: \0",
        "not UTF-8": b"a: \xff\xfe\n",
        "UTF-16": "a: b".encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + head,
        "lone surrogate": head + b'data: {a: "\\ud800"}\n',
        "surrogate as a key": head + b'data: {"\\ud800": a}\n',
        "surrogate as a name": b'{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"\\ud800"}}',
        "huge integer": head + b"data: " + b"9" * 100_000 + b"\n",
        "huge hexadecimal": head + b"data: 0x" + b"f" * 100_000 + b"\n",
        "huge float": head + b"data: 1e99999999999\n",
        "many documents": b"---\n" * 20_000 + head,
        "many keys": b"\n".join(b"k%d: v" % at for at in range(50_000)),
        "many unknown fields": head + b"\n".join(b"k%d: v" % at for at in range(20_000)),
        "many unknown fields of a spec": spec + b"\n".join(b"  k%d: v" % at for at in range(20_000)),
        "many unknown fields below": spec
        + b"  servers: [{hosts: [a], port: {name: http}, tls: {"
        + b", ".join(b"mode%d: x" % at for at in range(40_000))
        + b"}}]\n",
        "long key": b"a" * 100_000 + b": b",
        "long scalar": head + b"data: {a: '" + b"x" * 2_000_000 + b"'}\n",
        "many anchors": b"\n".join(b"k%d: &a%d {x: *a%d}" % (at, at, max(0, at - 1)) for at in range(2_000)),
        "many anchors that nobody refers to": b"\n".join(b"k%d: &a%d v" % (at, at) for at in range(20_000)),
        "anchors around anchors": b"a: " + _around() + b"\nb: [" + b", ".join(b"*a%d" % at for at in range(90)) + b"]",
        "the last of many keys twice": b'{"apiVersion":"v1",'
        + b",".join(b'"k%d":0' % at for at in range(20_000))
        + b',"k19999":0}',
        "many hosts": hosts.replace(b"HOSTS", b", ".join(b"h%d.example" % at for at in range(20_000))),
        "one host many times": hosts.replace(b"HOSTS", b", ".join([b"h.example"] * 20_000)),
        "recursive anchor": b"a: &a [*a]",
        "tags": b"a: !!python/object/apply:os.system [echo]\n",
        "complex key": b"? [a]\n: b\n",
        "merge of itself": b"a: &a {<<: *a}\n",
        "nothing": b"",
        "only a comment": b"# a\n",
        "a list of nothing": b"apiVersion: v1\nkind: List\nitems: [null, 1, {}, []]\n",
        "a list in a list": b"{kind: List, items: [" * 60 + b"]}" * 60,
        "unended": b'a: "b',
        "tab": b"a:\n\t- b",
        "directive": b"%YAML 9.9\n---\na: b\n",
    }


def documents() -> list[Any]:
    """What the files of the kinds' tests and the samples hold."""
    return [one for path in FILES for one in yaml.safe_load_all(path.read_text()) if one]


def mutated_text(chance: Random, texts: list[bytes]) -> bytes:
    """One of the texts with some changes."""
    text = bytearray(chance.choice(texts)[: chance.choice((300, 1500, 6000))])
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(6):
            case 0:
                text[at : at + chance.randrange(1, 20)] = b""
            case 1:
                text[at:at] = chance.choice(NASTY_SCALARS).encode()
            case 2:
                text[at : at + 1] = bytes([chance.choice(b":-{}[]&*!|>'\"%@`,?#\n\t \0\xff")])
            case 3:
                end = text.find(b"\n", at)
                start = text.rfind(b":", 0, end) + 1
                if 0 < start <= end:
                    text[start:end] = b" " + chance.choice(NASTY_SCALARS).encode()
            case 4:
                piece = text[at : at + chance.randrange(1, 200)]
                text[at:at] = piece * chance.choice((1, 2, 20))
            case _:
                other = chance.choice(texts)
                start = chance.randrange(len(other))
                text[at:at] = other[start : start + chance.randrange(1, 300)]
    return bytes(text)


def mutated_value(chance: Random, pool: list[Any]) -> Any:
    """One of the documents with other values, fields and lists in some places."""
    made = json.loads(json.dumps(chance.choice(pool)))
    for _ in range(chance.choice((1, 1, 2, 4))):
        holder: Any = made
        key: Any = None
        for _ in range(chance.randrange(1, 9)):
            if key is not None:
                if not isinstance(holder[key], dict | list) or not holder[key]:
                    break
                holder = holder[key]
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = chance.choice(keys)
        if key in ("apiVersion", "kind") and chance.random() < 0.9:
            continue
        match chance.randrange(4):
            case 0 if isinstance(holder, dict):
                holder[chance.choice(("", "a", "\0", "\ud800", "spec", "x" * 300))] = deepcopy(holder[key])
            case 1:
                del holder[key]
            case 2 if isinstance(holder, list):
                holder.append(deepcopy(chance.choice(holder)))
            case _:
                holder[key] = deepcopy(chance.choice(NASTY_VALUES))
        if not made:
            break
    return made
