"""What analyzers say, and what is reported of it."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.model.diagnostic import Origin, Position, Severity
from fairlead.model.path import ROOT, FieldPath
from fairlead.model.ref import Ref
from fairlead.simulate.request import Caller, Pairs, Request

CLAIM = "@request.auth.claims"
"""How the name of a header begins that is a claim of the request's token: `.a.b` or `[a][b]` follows (Istio)."""


class Probe(msgspec.Struct, frozen=True):
    """A request that would show that what a finding says is so.

    `fails` are the response flags of which one must come out for the finding to hold; empty: any end but the
    application's answer. The request must fail at the object in question, or where it says so at a cluster of the host
    `cluster` (routes of bytes do not tell whose they are). With `rule` the request is made for that rule, and the
    finding holds if another one decides, or none, whatever becomes of the request. With `refuses` a client that looks
    at certificates ends the connection where the object in question shows its own: that is what it says then.
    `claims` are those of the request's token, by the names that they have where VirtualServices route by them.
    """

    caller: Caller
    request: Request
    fails: tuple[str, ...] = ()
    cluster: str = ""
    rule: Origin | None = None
    refuses: str = ""
    claims: Pairs = ()


class Said(msgspec.Struct, frozen=True):
    """One finding of an analyzer: the code, the field, the sentence, what to do.

    `about` is the object where it is another one than the analyzer looked at. The severity is the code's own.
    """

    code: str
    message: str
    path: FieldPath = ROOT
    remedy: str = ""
    about: Ref | None = None
    probe: Probe | None = None


class Witness(msgspec.Struct, frozen=True):
    """A request that goes wrong because of what was found: in words, and how it ends (status, flags, details).

    `decides` is what decides in the place of the rule that the request was made for, if the finding is about that.
    """

    request: str
    status: int
    flags: str
    details: str
    decides: str = ""

    def __str__(self) -> str:
        ends = " ".join(part for part in (str(self.status or "closed"), self.flags, self.details) if part)
        return f"{self.request} -> {ends}{f' ({self.decides} decides)' if self.decides else ''}"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finding as people and tools get it. `line` and `column` count from 1; 0 where no text is known."""

    severity: Severity
    code: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    group: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    field: str = ""
    witness: Witness | None = None

    @property
    def place(self) -> str:
        """`file:line:column`, as far as it is known."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def object(self) -> str:
        """`Kind namespace/name`."""
        named = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {named}".strip()

    @property
    def said(self) -> str:
        """The sentence, and what to do."""
        return f"{self.message}. {self.remedy}" if self.remedy else self.message

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        what = " ".join(part for part in (self.object, self.field) if part)
        return f"{where}{self.severity.lower()}: {what + ': ' if what else ''}{self.said} [{self.code}]"


def placed(finding: Finding, at: Position | None) -> Finding:
    """The finding with its place in a text."""
    if at is None:
        return finding
    return msgspec.structs.replace(finding, file=at.file, line=at.line, column=at.column)


def of_ref(ref: Ref) -> dict[str, Any]:
    """The fields of a finding that say which object it is about."""
    return {"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
