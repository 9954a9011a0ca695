"""How findings are printed: for people, for programs, for code hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fairlead import __version__
from fairlead.analyze.codes import CODES
from fairlead.analyze.codes.code import Code
from fairlead.analyze.finding import Finding
from fairlead.cli import printing
from fairlead.cli.manifests import Complaint
from fairlead.model.diagnostic import Severity

if TYPE_CHECKING:
    from fairlead.analyze.report import Report

UNREADABLE_CODE = "FL2802"
"""A file that is not there, cannot be read, or is not YAML."""
LIMITS = {"error": 3, "warning": 2, "info": 1, "none": 4}
"""What `--fail-on` takes."""
_RANK = {Severity.INFO: 1, Severity.WARNING: 2, Severity.ERROR: 3}
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_STYLES = {"Error": "red", "Warning": "yellow"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def unreadable(said: Complaint) -> Finding:
    """A file that cannot be read, as a finding."""
    at = said.position
    place = (at.file, at.line, at.column) if at else (said.file, 0, 0)
    return Finding(said.severity, UNREADABLE_CODE, said.message, "", *place)


def show(found: Sequence[Finding], report: Report, form: str) -> None:
    """Print findings as text (lines on standard error), table, json, yaml, sarif or github."""
    if form == "text":
        _lines(found, report)
    elif form == "table":
        show_table(found)
    elif form == "sarif":
        click.echo(printing.as_json(sarif(found)), nl=False)
    elif form == "github":
        for one in found:
            click.echo(_annotation(one))
    else:
        printing.show(as_data(found, report), form)


def show_table(found: Sequence[Finding]) -> None:
    """Print findings as a table."""
    rows = [(one.severity, one.code, one.place, one.object, one.field, one.said) for one in found]
    printing.print_table(("SEVERITY", "CODE", "PLACE", "OBJECT", "FIELD", "MESSAGE"), rows, blank="-", styles=_STYLES)


def exit_status(found: Sequence[Finding], fail_on: str) -> int:
    """1 if a finding is as bad as `fail_on`, else 0."""
    return 1 if max((_RANK[one.severity] for one in found), default=0) >= LIMITS[fail_on] else 0


def as_data(found: Sequence[Finding], report: Report) -> dict[str, Any]:
    """The document for programs."""
    return {
        "objects": report.objects,
        "proxies": report.proxies,
        "suppressed": report.suppressed,
        "findings": [msgspec.to_builtins(one) for one in found],
    }


def _lines(found: Sequence[Finding], report: Report) -> None:
    for one in found:
        if one.severity is Severity.INFO:
            click.echo(str(one), err=True)
        else:
            printing.complain(one, warning=one.severity is Severity.WARNING)
        if one.witness is not None:
            click.echo(f"    witness: {one.witness}", err=True)
    counts = {severity: sum(one.severity is severity for one in found) for severity in Severity}
    said = ", ".join(
        (
            f"{report.objects} objects",
            f"{counts[Severity.ERROR]} errors",
            f"{counts[Severity.WARNING]} warnings",
            f"{counts[Severity.INFO]} notes",
        )
    )
    click.echo(said + (f", {report.suppressed} suppressed" if report.suppressed else ""))


def sarif(found: Sequence[Finding]) -> dict[str, Any]:
    """SARIF 2.1.0: one run, a rule for each code that was found."""
    codes = sorted({one.code for one in found})
    rules = [_sarif_rule(CODES[code]) for code in codes if code in CODES]
    at = {rule["id"]: number for number, rule in enumerate(rules)}
    driver = {"name": "fairlead", "version": __version__, "rules": rules}
    results = [_sarif_result(one, at) for one in found]
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _sarif_rule(code: Code) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": code.code,
        "name": code.title,
        "shortDescription": {"text": code.title},
        "fullDescription": {"text": code.meaning},
        "defaultConfiguration": {"level": _LEVELS[code.severity]},
    }
    return {**rule, "help": {"text": code.remedy}} if code.remedy else rule


def _sarif_result(one: Finding, at: dict[str, int]) -> dict[str, Any]:
    logical = {"fullyQualifiedName": f"{one.object} {one.field}".strip(), "kind": "object"}
    location: dict[str, Any] = {"logicalLocations": [logical]} if one.kind else {}
    if one.file:
        region = {"region": {"startLine": one.line, "startColumn": one.column}} if one.line else {}
        location["physicalLocation"] = {"artifactLocation": {"uri": one.file.replace("\\", "/")}, **region}
    text = one.said if one.witness is None else f"{one.said} (witness: {one.witness})"
    result: dict[str, Any] = {
        "ruleId": one.code,
        "level": _LEVELS[one.severity],
        "message": {"text": text},
        "locations": [location] if location else [],
    }
    return {**result, "ruleIndex": at[one.code]} if one.code in at else result


def _annotation(one: Finding) -> str:
    """A workflow command (`::error file=...`), with the escapes that it asks for."""
    place = f"file={_escaped(one.file)},line={one.line},col={one.column}," if one.line else ""
    what = " ".join(part for part in (one.object, one.field) if part)
    text = f"{what}: {one.said}" if what else one.said
    data = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{_COMMANDS[one.severity]} {place}title={one.code}::{data}"


def _escaped(text: str) -> str:
    for char, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(char, code)
    return text


def described(code: Code) -> dict[str, Any]:
    """A code for programs, without what it does not say."""
    return {name: one for name, one in msgspec.to_builtins(code).items() if one not in ("", False)}
