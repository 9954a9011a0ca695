"""`fairlead analyze`: what is wrong with files, with a running mesh, or with both together; and what codes mean."""

from __future__ import annotations

import gc
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from fairlead.cli import analysisformats, manifests, printing
from fairlead.cli.busy import busy
from fairlead.cli.connecting import connected, connection
from fairlead.model.path import path_of

_DEFAULT_FILE = Path(".fairlead/analyze.yaml")
_FORMS = ("text", "table", "json", "yaml", "sarif", "github")
_WIDEST = 100
Json = dict[str, Any]


def _codes(_: click.Context, __: click.Parameter, word: str) -> list[str]:
    from fairlead.analyze.codes import CODES

    return [code for code in CODES if code.startswith(word.upper())]


def _names(_: click.Context, __: click.Parameter, word: str) -> list[str]:
    from fairlead.analyze.analyzer import analyzers

    return sorted({one.name for one in analyzers() if one.name.startswith(word)})


@click.command("analyze")
@click.argument("files", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
@click.option("-n", "--namespace", default="", help="Of this namespace only; objects of files without one are in it.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces (the default).")
@click.option("--live", is_flag=True, help="Files as if they were applied to the running mesh.")
@click.option("--at", "revision", type=int, metavar="REV", help="The running mesh as it stood at a revision.")
@click.option("-o", "--output", type=click.Choice(_FORMS), default="text", show_default=True, help="See above.")
@click.option(
    "--fail-on",
    type=click.Choice(sorted(analysisformats.LIMITS)),
    default="error",
    show_default=True,
    help="The least severity for which the exit status is 1.",
)
@click.option("--suppress", "suppressed", multiple=True, metavar="CODE[=OBJECT]", help="Hide findings; * is any text.")
@click.option("--suppressions", type=click.Path(path_type=Path), help=f"A file of them [default: {_DEFAULT_FILE}].")
@click.option(
    "--analyzer", "only", multiple=True, metavar="NAME", shell_complete=_names, help="Run this one only (repeatable)."
)
@click.option("--loopback", default="", help="Block of addresses, as `up` was told. Default: as workloads' addresses.")
@click.option("-L", "--list-analyzers", is_flag=True, help="List the analyzers and their codes.")
@connection
def analyze(
    files: tuple[str, ...],
    namespace: str,
    all_namespaces: bool,
    output: str,
    fail_on: str,
    list_analyzers: bool,
    **given: Any,
) -> None:
    """Say what is wrong with files; without any, with the running mesh.

    Looks at everything together: names that lead nowhere, routes that are never met, policies that select nobody,
    certificates that end, and all that admission says of each object. A finding that claims that requests fail is an
    error only with a request that the simulator confirms to fail. Of the running mesh also hosts and processes are
    looked at: ports, clocks, certificates, versions, capture rules, names, endpoints.

    \b
    fairlead analyze samples/shop -R
    fairlead analyze                                 # the running mesh
    fairlead analyze change.yaml --live              # the mesh with this applied
    fairlead analyze --at 41                         # the mesh as it stood
    kubectl get all,virtualservices -A -o yaml | fairlead analyze - -o json
    fairlead analyze deploy/ --suppress "IST0118=Service *.legacy"

    \b
    -o text|table   for people          -o json|yaml   for programs
    -o sarif        SARIF 2.1.0         -o github      annotations of a workflow

    `fairlead explain-code CODE` tells what a code means. An object's annotation galley.istio.io/analyze-suppress
    (codes by comma) hides findings about it; suppressions that hide nothing are findings themselves.

    \b
    Exit status: 0 no finding as bad as --fail-on, 1 findings, 2 wrong usage.
    """
    from fairlead.analyze.analyzer import analyzers

    if list_analyzers:
        listed: dict[str, set[str]] = {}
        for one in analyzers():
            listed.setdefault(one.name, set()).update(one.codes)
        printing.print_table(("ANALYZER", "CODES"), [(name, " ".join(sorted(codes))) for name, codes in listed.items()])
        return
    unknown = set(given["only"]) - {one.name for one in analyzers()}
    if unknown:
        raise click.UsageError(f"no analyzer {', '.join(sorted(unknown))}; -L lists them.")
    if files and given["revision"] is not None and not given["live"]:
        raise click.UsageError("--at is for a running mesh: files have no revisions")
    asked = _suppressions(given["suppressed"], given["suppressions"])
    # All of it is needed until the end, so that looking for garbage only costs time.
    gc.disable()
    try:
        offline = bool(files) and not given["live"]
        with busy("analyzing"):
            report, unread = _offline(files, namespace, asked, given) if offline else _live(files, asked, given)
    finally:
        gc.enable()
    shown = [one for one in report.findings if all_namespaces or one.namespace in ("", namespace or one.namespace)]
    found = [*unread, *shown]
    analysisformats.show(found, report, output)
    sys.exit(analysisformats.exit_status(found, fail_on))


def _read(files: Sequence[str], given: Json) -> tuple[list[Any], list[Any]]:
    """The objects of files, without files of tests; and a finding for each file that cannot be read."""
    from fairlead.simulate.expectations import is_expectations

    names, missing = manifests.files(files, recursive=given["recursive"])
    documents, unread = manifests.read(names)
    # Repositories keep them beside the objects that they are about.
    documents = [one for one in documents if not is_expectations(one.data)]
    return documents, [analysisformats.unreadable(one) for one in (*missing, *unread)]


def _offline(files: Sequence[str], namespace: str, asked: Iterable[Any], given: Json) -> tuple[Any, list[Any]]:
    from fairlead.analyze.report import examine

    documents, unread = _read(files, given)
    only = given["only"] or None
    return examine(documents, namespace=namespace or "default", now=time.time(), only=only, asked=asked), unread


def _live(files: Sequence[str], asked: Iterable[Any], given: Json) -> tuple[Any, list[Any]]:
    """The findings of the running mesh; of files as if they were applied, in their places."""
    import msgspec

    from fairlead.analyze.analysis import reference
    from fairlead.analyze.finding import Finding, placed
    from fairlead.analyze.report import Report, in_order
    from fairlead.analyze.suppression import suppress
    from fairlead.cli.client import PATIENCE, Refused
    from fairlead.model.ref import Ref

    documents, unread = _read(files, given)
    body: Json = {"with": [one.data for one in documents], "only": list(given["only"])}
    if given["revision"] is not None:
        body["at"] = given["revision"]
    hosts: list[Finding] = []
    with connected(given["kubeconfig"], given["state"]) as client:
        try:
            answer: Json = client.request("POST", "/fairlead/v1/analysis", body, seconds=PATIENCE).document
            if not files and not given["only"] and given["revision"] is None:
                # How things stand now; of changes and of the past nothing can be said there.
                hosts, asked = _hosts(client, asked, given)
        except Refused as error:
            if error.code == 400:
                raise click.UsageError(str(error)) from None
            raise
    places = {reference(one.data): one for one in documents}
    found: list[Finding] = hosts
    for one in msgspec.convert(answer["findings"], list[Finding]):
        at = places.get(Ref(one.group, one.kind, one.namespace, one.name))
        found.append(one if at is None else placed(one, at.position(path_of(one.field))))
    left, hidden = suppress(in_order(found), asked)
    return Report(in_order(left), answer["objects"], answer["suppressed"] + hidden, answer["proxies"]), unread


def _hosts(client: Any, asked: Iterable[Any], given: Json) -> tuple[list[Any], list[Any]]:
    """What is wrong with hosts and processes, and what annotations of these objects hide."""
    from fairlead.analyze.suppression import of_objects
    from fairlead.cli import hostfacts
    from fairlead.controlplane.state import default_directory
    from fairlead.model.ref import Ref

    found = hostfacts.findings(client, given["state"] or default_directory(), given["loopback"])
    about = {Ref(one.group, one.kind, one.namespace, one.name) for one in found}
    documents = hostfacts.objects(client, about)
    said = {one.code for one in found}
    # What hides other findings than these, the control plane has told already.
    hiding = [one for one in of_objects(documents) if one.code == "*" or one.code in said]
    return found, [*asked, *hiding]


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
        documents = parse_documents(manifests.content(str(path)), str(path))
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
        if output != "text":
            printing.show([analysisformats.described(one) for one in CODES.values()], output)
            return
        printing.print_table(
            ("CODE", "SEVERITY", "TITLE"), [(one.code, one.severity, one.title) for one in CODES.values()]
        )
        return
    found = CODES.get(code.upper())
    if found is None:
        near = nearest(code.upper(), CODES)
        raise click.ClickException(f"there is no code {code!r}." + (f" Did you mean {near}?" if near else ""))
    if output != "text":
        printing.show(analysisformats.described(found), output)
        return
    parts = (
        ("", f"{found.code}  {found.title}  ({found.severity.lower()})"),
        ("", found.meaning),
        ("What to do: ", found.remedy),
        ("Reported as: ", found.instead),
        ("Never reported, since ", found.absent),
        ("It is an error only with a witness, ", found.traffic and "a request that the simulator confirms to fail."),
    )
    width = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)
    click.echo("\n\n".join(click.wrap_text(f"{before}{text}", width=width) for before, text in parts if text))
