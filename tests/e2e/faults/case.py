"""A seeded fault as data, and what is made of its texts: files, documents, the command that explains it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

HERE = Path(__file__).parent
BASE = "shop.yaml"
FAULT = "fault.yaml"
ISSUER = "https://login.example"
_MADE = re.compile(r"(CERTIFICATE|KEY|JWKS)\(([^)]*)\)")
Json = dict[str, Any]


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"caller": "from"}):
    """The request that shows the fault: as `fairlead why` takes it.

    `claims` are those of a token that is signed with the issuer's key. `direct`: not by HTTP_PROXY, which
    knows hosts of HTTP only.
    """

    caller: str
    to: str
    method: str = "GET"
    headers: dict[str, str] = {}
    sni: str = ""
    claims: Json | None = None
    direct: bool = False

    def arguments(self) -> list[str]:
        """For `fairlead why`."""
        out = ["--from", self.caller, "--to", self.to]
        if self.method != "GET":
            out += ["-X", self.method]
        for name, value in self.headers.items():
            out += ["-H", f"{name}: {value}"]
        if self.sni:
            out += ["--sni", self.sni]
        if self.claims is not None:
            out += ["--jwt-claims", json.dumps(self.claims)]
        return out


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the caller gets. `status` 0: no answer, the connection is closed or refused. `says` is part of the body.

    `path` is what the application was asked for, `instance` which one answered, `headers` are of the answer.
    """

    status: int
    says: str = ""
    instance: str = ""
    path: str = ""
    headers: dict[str, str] = {}


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"old": "from", "new": "to"}):
    """A part of the fault's file, which is there once, and what it is to be."""

    old: str
    new: str


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"text": "object"}):
    """What the command must name: an object as `Kind namespace/name`, a field, and for `analyze` the code."""

    text: str
    field: str
    code: str = ""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. `command` is `why` (of the call) or the words of another command; FILES stands for the files.

    `also` is another command that mentions the object. `live`: the command knows it of a running mesh, too, where the
    applications' ports are not in objects. `refused`: the API does not take the files.
    """

    title: str
    symptom: str
    seen: str
    files: str
    command: str
    names: Named
    cause: str
    fix: str
    call: Call | None = None
    wrong: Answer | None = None
    right: Answer | None = None
    changes: tuple[Change, ...] = ()
    undone: Literal["changed", "deleted"] = "changed"
    refused: bool = False
    live: bool = True
    also: str = ""
    name: str = ""

    def fixed(self) -> str:
        """The files after the fix; "" where they are taken away."""
        if self.undone == "deleted":
            return ""
        text = self.files
        for one in self.changes:
            assert text.count(one.old) == 1, f"{self.name}: {one.old!r} is there {text.count(one.old)} times"
            text = text.replace(one.old, one.new)
        assert text != self.files, f"{self.name}: nothing is changed"
        return text

    def arguments(self, files: list[str]) -> list[str]:
        """The command's arguments; `files` are those that it is to look at, none for a running mesh."""
        return self._arguments(self.command, files)

    def second(self, files: list[str]) -> list[str]:
        """The same of the other command."""
        return self._arguments("why" if self.also == "why" else f"{self.also} FILES", files)

    def _arguments(self, command: str, files: list[str]) -> list[str]:
        if command == "why":
            assert self.call is not None
            given = [word for one in files for word in ("-f", one)]
            return ["why", *given, *self.call.arguments()]
        out: list[str] = []
        for word in command.split():
            out.extend(files if word == "FILES" else [word])
        return out


def load(path: Path) -> Fault:
    """A fault from its file. Raises ValidationError."""
    found: Fault = msgspec.convert(yaml.safe_load(path.read_text()), Fault)
    return msgspec.structs.replace(found, name=path.stem)


@cache
def faults() -> tuple[Fault, ...]:
    """All of them, by name."""
    return tuple(load(path) for path in sorted((HERE / "cases").glob("*.yaml")))


def filled(text: str, made: Callable[[str, str], str]) -> str:
    """A text in which CERTIFICATE(...), KEY(...) and JWKS(...) have become what `made` gives for kind and argument."""
    return _MADE.sub(lambda found: json.dumps(made(found[1], found[2])), text)


def offline(text: str, made: Callable[[str, str], str]) -> str:
    """A file of a fault for commands that look at files only."""
    return filled(text.replace("LEGACY", "10.9.9.9").replace("LOCALPORT", "9080"), made)


def documents(text: str) -> Iterator[Json]:
    """The documents of a text."""
    return (one for one in yaml.safe_load_all(text) if one)
