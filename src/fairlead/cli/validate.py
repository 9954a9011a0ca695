"""`fairlead validate`: what admission would say of files, without a control plane. `fairlead analyze` says more."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from fairlead.analyze.finding import Finding
from fairlead.cli import analysisformats, manifests, printing
from fairlead.cli.busy import busy
from fairlead.model.diagnostic import Severity

LIMITS = analysisformats.LIMITS


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
    type=click.Choice(sorted(LIMITS)),
    default="error",
    show_default=True,
    help="The least severity for which the exit status is 1.",
)
def validate_command(files: tuple[str, ...], recursive: bool, namespace: str, output: str, fail_on: str) -> None:
    """Check files as admission does, without a control plane.

    Every object is decoded, defaulted and validated by the code that the API server runs; each finding has its
    severity, code, place in the file, field and remedy. Two documents for one object are a finding, too.
    `fairlead analyze` looks at all objects together as well.

    \b
    fairlead validate -f shop/ -R --fail-on warning
    kubectl get virtualservices -A -o yaml | fairlead validate -f - -o json

    Exit status: 0 nothing is wrong, 1 there are findings (see --fail-on), 2 wrong usage.
    """
    count, found = findings(files, recursive=recursive, namespace=namespace)
    if output == "text":
        for one in found:
            printing.complain(one, warning=one.severity is not Severity.ERROR)
        click.echo(_summary(count, found))
    elif output == "table":
        analysisformats.show_table(found)
    else:
        document: dict[str, Any] = {"objects": count, "findings": [msgspec.to_builtins(one) for one in found]}
        printing.show(document, output)
    sys.exit(analysisformats.exit_status(found, fail_on))


def findings(paths: Iterable[str], *, recursive: bool, namespace: str) -> tuple[int, list[Finding]]:
    """How many documents the files hold, and what is to be said of them, in the order of the text."""
    from fairlead.analyze.report import of_diagnostic
    from fairlead.compiler.model import MeshModel
    from fairlead.compiler.offline import load

    names, missing = manifests.files(paths, recursive=recursive)
    documents, unread = manifests.read(names)
    found = [analysisformats.unreadable(one) for one in (*missing, *unread)]
    with busy(f"checking {len(documents)} objects"):
        found.extend(map(of_diagnostic, load(MeshModel(), documents, namespace)))
    return len(documents), sorted(found, key=lambda one: (one.file, one.line, one.column, one.field, one.code))


def _summary(count: int, found: Sequence[Finding]) -> str:
    errors = sum(one.severity is Severity.ERROR for one in found)
    warnings = len(found) - errors
    return f"{count} objects, {errors} errors, {warnings} warnings"
