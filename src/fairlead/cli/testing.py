"""`fairlead test`: expectations about requests, checked on files, with no mesh running."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairlead.cli import manifests, printing
from fairlead.cli.busy import busy

if TYPE_CHECKING:
    from fairlead.model.manifest import Manifest
    from fairlead.simulate.expectations import Check, TestFile

_MARKS = {"passed": ("ok", "green"), "failed": ("FAIL", "red"), "undecided": ("??", "yellow")}


@click.command("test")
@click.argument("config", nargs=-1, metavar="[FILE|DIR]...")
@click.option("-f", "--filename", "files", multiple=True, required=True, metavar="TESTS", help="Tests (repeatable).")
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
@click.option("--failed", is_flag=True, help="Show only what is not as expected.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "junit"]), default="text", show_default=True, help="The form."
)
def test_command(config: tuple[str, ...], files: tuple[str, ...], recursive: bool, failed: bool, output: str) -> None:
    """Check expectations about requests against files of configuration, with no mesh running.

    FILE and DIR are configuration, beside what the tests themselves name under `files`.

    \b
    tests:
      - name: jason sees version 3
        from: web-v1.shop
        to: http://reviews:9080/
        headers: {x-user: jason}
        expect: {outcome: allowed, route: jason, reaches: reviews-v3}
      - name: only reviews may call ratings
        to: http://ratings.shop:9080/ratings/1
        allowed: [reviews-v1.shop, reviews-v2.shop, reviews-v3.shop]

    \b
    fairlead test -f tests.yaml shop/
    fairlead test -f tests.yaml -o junit shop/ > report.xml

    \b
    Exit status: 0 all is as expected, 1 something is not, 2 wrong usage or files
    that cannot be read, 3 something decides that configuration does not say.
    """
    found: list[Check] = []
    for name in files:
        for manifest, tests in _read(name):
            found.extend(_run(manifest, tests, config, recursive=recursive))
    shown = [one for one in found if one.result != "passed"] if failed else found
    if output == "text":
        _show(shown, found)
    elif output == "json":
        printing.show({"checks": [_data(one) for one in shown], **_counts(found)}, "json")
    else:
        click.echo(_junit(shown))
    results = {one.result for one in found}
    sys.exit(1 if "failed" in results else 3 if "undecided" in results else 0)


def _read(name: str) -> list[tuple[Manifest, TestFile]]:
    from fairlead.simulate.expectations import read

    documents, broken = manifests.read([name])
    out: list[tuple[Manifest, TestFile]] = []
    for complaint in broken:
        printing.complain(complaint)
    wrong = bool(broken)
    for manifest in documents:
        tests, problems = read(manifest)
        for one in problems:
            field = f" {one.origin.path}" if one.origin.path else ""
            said = f"{one.message}. {one.remedy}" if one.remedy else one.message
            printing.complain(f"{one.origin.position or name}: error:{field}: {said} [{one.code}]")
        wrong = wrong or tests is None
        if tests is not None:
            out.append((manifest, tests))
    if wrong:
        sys.exit(2)
    if not out:
        raise click.UsageError(f"{name} has no tests")
    return out


def _run(manifest: Manifest, tests: TestFile, config: Sequence[str], *, recursive: bool) -> list[Check]:
    from fairlead.cli.offlinemesh import load_mesh
    from fairlead.simulate.expectations import made_up, run

    base = Path(manifest.file).parent
    own, missing = manifests.files([str(base / one) for one in tests.files], recursive=recursive or tests.recursive)
    given, absent = manifests.files(config, recursive=recursive)
    documents, broken = manifests.read(dict.fromkeys((*own, *given)))
    for complaint in (*missing, *absent, *broken):
        printing.complain(complaint)
    if missing or absent or broken:
        sys.exit(2)
    mesh = load_mesh([*documents, *made_up(tests.workloads)], [], tests.namespace)
    with busy(f"checking {len(tests.tests)} expectations"):
        return list(run(mesh, manifest, tests))


def _show(shown: Sequence[Check], found: Sequence[Check]) -> None:
    for one in shown:
        mark, colour = _MARKS[one.result]
        click.secho(f"{mark:<5}", fg=colour, nl=False)
        click.echo(f"{one.test}: {one.caller} -> {one.to}" + (f"  {one.got}" if not one.said else ""))
        if one.said:
            click.secho(f"     {one.said}", fg=colour)
        if one.said and one.position is not None:
            click.echo(f"     {one.position}")
        for origin in one.decided.origins[:1] if one.said and one.decided is not None else ():
            click.secho(f"     decided by {origin}", fg="cyan")
    counts = _counts(found)
    click.echo(", ".join(f"{count} {name}" for name, count in counts.items()))


def _counts(found: Sequence[Check]) -> dict[str, int]:
    counts = {name: sum(one.result == name for one in found) for name in _MARKS}
    return {"total": len(found), **counts}


def _data(one: Check) -> dict[str, Any]:
    from fairlead.simulate.answering import step_json

    out: dict[str, Any] = {name: getattr(one, name) for name in ("test", "caller", "to", "result", "said", "got")}
    if one.position is not None:
        out |= {"file": one.position.file, "line": one.position.line, "column": one.position.column}
    if one.decided is not None:
        out["decided"] = step_json(one.decided)
    return out


def _junit(found: Sequence[Check]) -> str:
    """One suite; each check is a case of its test."""
    counts = _counts(found)
    suite = ET.Element(
        "testsuite",
        name="fairlead test",
        tests=str(counts["total"]),
        failures=str(counts["failed"]),
        skipped=str(counts["undecided"]),
    )
    for one in found:
        case = ET.SubElement(suite, "testcase", classname=one.test, name=f"{one.caller} -> {one.to}")
        if one.position is not None:
            case.set("file", one.position.file)
            case.set("line", str(one.position.line))
        if one.result == "failed":
            ET.SubElement(case, "failure", message=one.said).text = str(one.position or "")
        elif one.result == "undecided":
            ET.SubElement(case, "skipped", message=one.said)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)
