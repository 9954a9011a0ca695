"""`fairlead analyze`: what is wrong with files, with a running mesh, or with both together; and what codes mean."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fairlead.cli import analysisformats, manifests, printing
from fairlead.model.diagnostic import Severity

_DEFAULT_FILE = Path(".fairlead/analyze.yaml")
_RANK = {Severity.INFO: 1, Severity.WARNING: 2, Severity.ERROR: 3}
_LIMITS = {"error": 3, "warning": 2, "info": 1, "none": 4}
_FORMS = ("text", "table", "json", "yaml", "sarif", "github")


def _codes(_: click.Context, __: click.Parameter, word: str) -> list[str]:
    from fairlead.analyze.codes import CODES

    return [code for code in CODES if code.startswith(word.upper())]


@click.command("analyze")
@click.argument("files", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
@click.option("-n", "--namespace", default="", help="Of this namespace only; objects without one are in it.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Findings about all namespaces (the default).")
@click.option("-o", "--output", type=click.Choice(_FORMS), default="text", show_default=True, help="See below.")
@click.option(
    "--fail-on",
    type=click.Choice(sorted(_LIMITS)),
    default="error",
    show_default=True,
    help="The least severity for which the exit status is 1.",
)
@click.option("--suppress", "suppressed", multiple=True, metavar="CODE[=OBJECT]", help="Hide findings; * is any text.")
@click.option("--suppressions", type=click.Path(path_type=Path), help=f"A file of them [default: {_DEFAULT_FILE}].")
@click.option("--analyzer", "only", multiple=True, metavar="NAME", help="Run this analyzer only; may be repeated.")
@click.option("-L", "--list-analyzers", is_flag=True, help="List the analyzers and their codes.")
def analyze(
    files: tuple[str, ...],
    recursive: bool,
    namespace: str,
    all_namespaces: bool,
    output: str,
    fail_on: str,
    suppressed: tuple[str, ...],
    suppressions: Path | None,
    only: tuple[str, ...],
    list_analyzers: bool,
) -> None:
    """Say what is wrong with files.

    Looks at everything together: names that lead nowhere, routes that are never met, policies that select nobody,
    certificates that end, and all that admission says of each object. A finding that claims that requests fail is an
    error only with a request that the simulator confirms to fail.

    \b
    fairlead analyze samples/shop -R
    kubectl get all,virtualservices -A -o yaml | fairlead analyze - -o json
    fairlead analyze deploy/ -o sarif > findings.sarif
    fairlead analyze deploy/ --suppress "IST0118=Service *.legacy" --fail-on warning

    \b
    -o text|table   for people          -o json|yaml   for programs
    -o sarif        SARIF 2.1.0         -o github      annotations of a workflow

    `fairlead explain-code CODE` tells what a code means. An object's annotation galley.istio.io/analyze-suppress
    (codes by comma) hides findings about it; suppressions that hide nothing are findings themselves.

    \b
    Exit status: 0 no finding as bad as --fail-on, 1 findings, 2 wrong usage.
    """
    from fairlead.analyze.analyzer import analyzers
    from fairlead.analyze.report import examine

    if list_analyzers:
        printing.print_table(("ANALYZER", "CODES"), [(one.name, " ".join(one.codes)) for one in analyzers()])
        return
    unknown = set(only) - {one.name for one in analyzers()}
    if unknown:
        raise click.UsageError(f"no analyzer {', '.join(sorted(unknown))}; -L lists them.")
    if not files:
        raise click.UsageError("name files, directories, or - for standard input.")
    asked = _suppressions(suppressed, suppressions)
    names, missing = manifests.files(files, recursive=recursive)
    documents, unread = manifests.read(names)
    report = examine(
        documents,
        namespace=namespace or "default",
        now=time.time(),
        only=only or None,
        asked=asked,
    )
    found = [analysisformats.unreadable(one) for one in (*missing, *unread)]
    found += [one for one in report.findings if all_namespaces or one.namespace in ("", namespace or one.namespace)]
    analysisformats.show(found, report, output)
    worst = max((_RANK[one.severity] for one in found), default=0)
    sys.exit(1 if worst >= _LIMITS[fail_on] else 0)


def _suppressions(options: tuple[str, ...], file: Path | None) -> list[Any]:
    from fairlead.analyze.suppression import of_file, of_option
    from fairlead.model.yaml import YAMLError, parse_documents

    path = file or _DEFAULT_FILE
    try:
        out = [of_option(text) for text in options]
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    if file is None and not path.is_file():
        return out
    try:
        documents = parse_documents(path.read_bytes(), str(path))
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}.") from None
    except YAMLError as error:
        raise click.UsageError(f"{error} [FL3791]") from None
    for document in documents:
        made, wrong = of_file(document)
        if wrong:
            raise click.UsageError("\n".join((*wrong, "[FL3791]")))
        out.extend(made)
    return out


@click.command("explain-code")
@click.argument("code", shell_complete=_codes)
@click.option("-o", "--output", type=click.Choice(("text", "json", "yaml")), default="text", show_default=True)
def explain_code(code: str, output: str) -> None:
    """Tell what a code of a finding means, and what to do.

    \b
    fairlead explain-code IST0101
    fairlead explain-code all          # a table of all codes

    \b
    Exit status: 0 told, 1 there is no such code.
    """
    from fairlead.analyze.codes import CODES
    from fairlead.model.names import nearest

    if code.lower() == "all":
        rows = [(one.code, one.severity, one.title) for one in CODES.values()]
        printing.print_table(("CODE", "SEVERITY", "TITLE"), rows)
        return
    found = CODES.get(code.upper())
    if found is None:
        near = nearest(code.upper(), CODES)
        raise click.ClickException(f"there is no code {code!r}." + (f" Did you mean {near}?" if near else ""))
    if output != "text":
        printing.show(analysisformats.described(found), output)
        return
    lines: list[tuple[str, Callable[[], str] | str]] = [
        ("", f"{found.code}  {found.title}  ({found.severity.lower()})"),
        ("", found.meaning),
        ("What to do: ", found.remedy),
        ("Reported as: ", found.instead),
        ("Never reported, since ", found.absent),
    ]
    shown = [f"{before}{text}" for before, text in lines if text]
    if found.traffic:
        shown.append("It is an error only with a witness: a request that the simulator confirms to fail.")
    click.echo("\n\n".join(click.wrap_text(one, width=min(_width(), 100)) for one in shown))


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((80, 24)).columns
