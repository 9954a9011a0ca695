"""`fairlead validate`: what admission would say of files, without a control plane."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from fairlead.cli import manifests, printing
from fairlead.cli.manifests import Complaint
from fairlead.model.diagnostic import Diagnostic, Severity

UNREADABLE_CODE = "FL2802"
"""A file that is not there, cannot be read, or is not YAML."""

_RANK = {Severity.INFO: 1, Severity.WARNING: 2, Severity.ERROR: 3}
_LIMITS = {"error": 3, "warning": 2, "info": 1, "none": 4}


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finding as tools read it: `line` and `column` count from 1 and are 0 where nothing is known."""

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

    @property
    def place(self) -> str:
        """`file:line:column`, as far as it is known."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def object(self) -> str:
        """`Kind namespace/name`."""
        named = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {named}".strip()

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        what = " ".join(part for part in (self.object, self.field) if part)
        said = f"{self.message}. {self.remedy}" if self.remedy else self.message
        return f"{where}{self.severity.lower()}: {what + ': ' if what else ''}{said} [{self.code}]"


@click.command("validate")
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE|DIR|-", help="May be repeated; - is stdin."
)
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "table", "json", "yaml"]),
    default="text",
    show_default=True,
    help="text: one line for each finding.",
)
@click.option(
    "--fail-on",
    type=click.Choice(sorted(_LIMITS)),
    default="error",
    show_default=True,
    help="The least severity for which the exit status is 1.",
)
def validate_command(files: tuple[str, ...], recursive: bool, namespace: str, output: str, fail_on: str) -> None:
    """Check files as admission does, without a control plane.

    Every object is decoded, defaulted and validated by the code that the API server runs; each finding has its
    severity, code, place in the file, field and remedy. Two documents for one object are a finding, too.

    \b
    fairlead validate -f shop/ -R --fail-on warning
    kubectl get virtualservices -A -o yaml | fairlead validate -f - -o json
    """
    count, found = findings(files, recursive=recursive, namespace=namespace)
    if output == "text":
        for one in found:
            printing.complain(one, warning=one.severity is not Severity.ERROR)
        click.echo(_summary(count, found))
    elif output == "table":
        rows = [(one.severity, one.code, one.place, one.object, one.field, _said(one)) for one in found]
        printing.print_table(("SEVERITY", "CODE", "PLACE", "OBJECT", "FIELD", "MESSAGE"), rows, blank="-")
    else:
        document: dict[str, Any] = {"objects": count, "findings": [msgspec.to_builtins(one) for one in found]}
        printing.show(document, output)
    worst = max((_RANK[one.severity] for one in found), default=0)
    sys.exit(1 if worst >= _LIMITS[fail_on] else 0)


def findings(paths: Iterable[str], *, recursive: bool, namespace: str) -> tuple[int, list[Finding]]:
    """How many documents the files hold, and what is to be said of them, in the order of the text."""
    from fairlead.compiler.model import MeshModel
    from fairlead.compiler.offline import load

    names, missing = manifests.files(paths, recursive=recursive)
    documents, unread = manifests.read(names)
    found = [_unreadable(one) for one in (*missing, *unread)]
    found.extend(map(_of, load(MeshModel(), documents, namespace)))
    return len(documents), sorted(found, key=lambda one: (one.file, one.line, one.column, one.field, one.code))


def _of(said: Diagnostic) -> Finding:
    ref, at = said.origin.ref, said.origin.position
    return Finding(
        said.severity,
        said.code,
        said.message,
        said.remedy,
        at.file if at else "",
        at.line if at else 0,
        at.column if at else 0,
        ref.group,
        ref.kind,
        ref.namespace,
        ref.name,
        str(said.origin.path),
    )


def _unreadable(said: Complaint) -> Finding:
    at = said.position
    return Finding(
        said.severity,
        UNREADABLE_CODE,
        said.message,
        "",
        at.file if at else said.file,
        at.line if at else 0,
        at.column if at else 0,
    )


def _said(one: Finding) -> str:
    return f"{one.message}. {one.remedy}" if one.remedy else one.message


def _summary(count: int, found: Sequence[Finding]) -> str:
    errors = sum(one.severity is Severity.ERROR for one in found)
    warnings = len(found) - errors
    return f"{count} objects, {errors} errors, {warnings} warnings"
