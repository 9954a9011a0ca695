"""`fairlead apply|get|delete|api-resources`: what kubectl does, for people without it.

Exit status: 0 done, 1 refused or failed, 2 wrong usage. Files are checked whole before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import click

from fairlead.cli import manifests, placing, printing
from fairlead.cli.busy import counted
from fairlead.cli.client import Client, Refused
from fairlead.cli.connecting import connected, connection, message_option, no_such_namespace
from fairlead.cli.manifests import Complaint, Entry
from fairlead.compiler.registry import registry
from fairlead.ir.kind import Kind
from fairlead.model.diagnostic import Severity
from fairlead.model.duration import parse_duration
from fairlead.model.names import nearest

Json = dict[str, Any]

MANAGER = "fairlead"
_CODED = re.compile(r"\[FL\d{4}\]$")
_APPLY = "application/apply-patch+yaml"
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


namespace_option = click.option(
    "-n", "--namespace", default="", metavar="NS", help="Default: the kubeconfig's, or default."
)
files_option = click.option(
    "-f", "--filename", "filenames", multiple=True, metavar="FILE|DIR|-", help="May be repeated."
)
recursive_option = click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
diff_option = click.option("--diff", "show_diff", is_flag=True, help="Show what it does to proxies first, and ask.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
safe_option = click.option("--require-safe", is_flag=True, help="Refuse what `fairlead diff` marks as dangerous.")
dry_option = click.option(
    "--dry-run",
    type=click.Choice(["none", "server", "client"]),
    is_flag=False,
    flag_value="server",
    default="none",
    help="Do everything but store the result (client: only check the files).",
)


def address(kind: Kind[Any], version: str, namespace: str | None, name: str = "", **query: str) -> str:
    """The path of a resource; `namespace` None is across namespaces."""
    parts = [f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"]
    if kind.namespaced and namespace is not None:
        parts.append(f"namespaces/{quote(namespace, safe='')}")
    parts.append(kind.plural)
    if name:
        parts.append(quote(name, safe=""))
    asked = {key: value for key, value in query.items() if value}
    return "/".join(parts) + (f"?{urlencode(asked)}" if asked else "")


def called(kind: Kind[Any], name: str) -> str:
    """`virtualservice.networking.istio.io/reviews`, as kubectl names what it did."""
    singular = kind.singular or kind.kind.lower()
    return f"{singular}.{kind.group}/{name}" if kind.group else f"{singular}/{name}"


def _report(found: Iterable[Complaint]) -> bool:
    """Print complaints; whether one of them is an error."""
    failed = False
    for one in found:
        warning = one.severity is not Severity.ERROR
        printing.complain(one, warning=warning)
        failed = failed or not warning
    return failed


def checked_entries(filenames: Sequence[str], namespace: str, *, given: bool, recursive: bool) -> list[Entry]:
    """The checked documents of files. Ends the program with every complaint where one is an error."""
    names, wrong = manifests.files(filenames, recursive=recursive)
    documents, unread = manifests.read(names)
    entries, found = manifests.check(registry(), documents, namespace, given=given)
    if _report([*wrong, *unread, *found]):
        raise SystemExit(1)
    if not entries:
        printing.complain("error: the files hold no object")
        raise SystemExit(1)
    # Namespaces first, so that a file may hold one and what is in it in any order.
    return sorted(entries, key=lambda one: (one.kind.group, one.kind.kind) != ("", "Namespace"))


@click.command("apply")
@files_option
@recursive_option
@namespace_option
@dry_option
@click.option("--server-side", is_flag=True, help="Taken for kubectl's sake: it always is.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that another client owns.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "name"]), help="Print the objects.")
@click.option("--wait", default="", metavar="DURATION", help="Until all proxies have it, at most so long.")
@diff_option
@safe_option
@yes_option
@message_option
@connection
def apply(
    filenames: tuple[str, ...],
    recursive: bool,
    namespace: str,
    dry_run: str,
    server_side: bool,
    force_conflicts: bool,
    output: str | None,
    wait: str,
    show_diff: bool,
    require_safe: bool,
    yes: bool,
    message: str,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Make the objects of files be so: create what is new, change what differs.

    Every file is checked before anything is sent; errors name file, line and column. With --diff you see what it does
    to every proxy (`fairlead diff`) and are asked; with --require-safe what is marked as dangerous there is refused.
    With --wait it ends when every connected proxy has acknowledged it, when one refuses it, or after so long, and says
    which ones lack it.

    \b
    fairlead apply -f shop/
    fairlead apply -f canary.yaml --diff -m "a first share"
    fairlead apply -f canary.yaml --wait 30s

    Exit status: 0 applied (with --wait: everywhere), 1 refused, failed or not everywhere, 2 wrong usage.
    """
    try:
        patience = float(parse_duration(wait)) if wait else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--wait") from None
    if not filenames:
        raise click.UsageError("name the files to apply with -f FILE, -f DIR or -f -")
    if dry_run == "client":
        for entry in checked_entries(filenames, namespace or "default", given=bool(namespace), recursive=recursive):
            click.echo(f"{called(entry.kind, entry.ref.name)} checked (client dry run)")
        return
    with connected(kubeconfig, state, message) as client:
        home = namespace or client.access.namespace
        entries = checked_entries(filenames, home, given=bool(namespace), recursive=recursive)
        if show_diff or require_safe:
            # It is imported only where it is used.
            from fairlead.cli import diff

            found, changing = diff.judged(client, entries, force=force_conflicts)
            ask = show_diff and changing and not yes and dry_run == "none"
            if not diff.may_go_on(found, ask=ask, require_safe=require_safe, quiet=bool(output)):
                raise SystemExit(1)
        done, failed = apply_entries(
            client,
            entries,
            dry=dry_run == "server",
            force=force_conflicts,
            name_only=output == "name",
            quiet=output in ("json", "yaml"),
        )
        if output in ("json", "yaml") and done:
            printing.show(_listed(done), output)
        if wait and dry_run == "none" and not failed:
            from fairlead.cli import awaiting

            failed = not awaiting.everywhere(client, list(zip(entries, done, strict=True)), patience)
    if failed:
        raise SystemExit(1)


def apply_entries(
    client: Client,
    entries: Iterable[Entry],
    *,
    dry: bool = False,
    force: bool = False,
    name_only: bool = False,
    quiet: bool = False,
) -> tuple[list[Json], bool]:
    """Send documents one after the other and say what came of each; what the server has, and whether one failed."""
    done: list[Json] = []
    applied: list[tuple[Entry, Json]] = []
    failed = False
    listed = list(entries)
    for entry in counted(listed, "applying object") if quiet else listed:
        try:
            document, verb = _apply_one(client, entry, dry=dry, force=force)
        except Refused as refused:
            failed = _report(manifests.complaints(entry, refused)) or failed
            continue
        except KeyboardInterrupt:
            if not dry:
                _interrupted(client, applied, len(listed))
            raise
        done.append(document)
        applied.append((entry, document))
        if not quiet:
            said = "" if name_only else f" {verb}" + (" (server dry run)" if dry else "")
            click.echo(f"{called(entry.kind, entry.ref.name)}{said}")
    if applied and not dry:
        placing.tell(client, applied)
    return done, failed


def _interrupted(client: Client, applied: list[tuple[Entry, Json]], total: int) -> None:
    """Say how far it came: each object is applied whole, or not at all."""
    client.close()
    if applied:
        placing.tell(client, applied)
    printing.complain(
        f"interrupted: {len(applied)} of {total} objects were applied; the same command goes on", warning=True
    )


def _apply_one(client: Client, entry: Entry, *, dry: bool, force: bool) -> tuple[Json, str]:
    """Send one document; returns what the server has now, and `created`, `configured` or `unchanged`."""
    path = address(entry.kind, entry.version, entry.ref.namespace, entry.ref.name)
    before: Json | None = None
    try:
        before = client.request("GET", path).document
    except Refused as refused:
        if refused.code != 404:
            raise
    query = {"fieldManager": MANAGER, "dryRun": "All" if dry else "", "force": "true" if force else ""}
    target = address(entry.kind, entry.version, entry.ref.namespace, entry.ref.name, **query)
    body = {key: value for key, value in entry.manifest.data.items() if key != "status" or not entry.kind.has_status}
    answer = client.request("PATCH", target, body, content_type=_APPLY)
    # Warnings of validation were printed with their place before, and the server's would repeat them. What it says of
    # the running mesh ends with a code.
    for said in answer.warnings:
        if _CODED.search(said):
            printing.complain(f"warning: {entry.kind.kind} {entry.ref.namespace}/{entry.ref.name} {said}")
    if before is None:
        return answer.document, "created"
    return answer.document, "unchanged" if same(before, answer.document) else "configured"


def same(before: Json, after: Json) -> bool:
    """Whether two documents of an object say the same, but for what every write changes."""

    def essence(document: Json) -> Json:
        hidden = ("managedFields", "resourceVersion", "generation")
        meta = {key: value for key, value in document["metadata"].items() if key not in hidden}
        return {**document, "metadata": meta}

    return essence(before) == essence(after)


def _listed(documents: list[Json]) -> Json:
    if len(documents) == 1:
        return documents[0]
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": documents}


def kind_of(word: str) -> Kind[Any]:
    """The kind that a person means. Raises click.UsageError with the nearest name."""
    found = registry().named(word)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{one.plural}.{one.group}" for one in found)
        raise click.UsageError(f"{word} may be one of {names}: name the group too")
    known = [name for one in registry().kinds for name in (one.plural, one.singular, *one.short_names) if name]
    near = nearest(word, known)
    remedy = f"Did you mean {near!r}?" if near else "`fairlead api-resources` lists the kinds."
    raise click.UsageError(f"there is no kind {word!r}. {remedy}")


def wanted_of(words: Sequence[str]) -> list[tuple[Kind[Any], list[str]]]:
    """`KIND NAME...`, `KIND,KIND` or `KIND/NAME ...`, as kinds and names."""
    if any("/" in word for word in words):
        out: list[tuple[Kind[Any], list[str]]] = []
        for word in words:
            kind, slash, name = word.partition("/")
            if not slash or not name:
                raise click.UsageError("give KIND NAME..., or KIND/NAME for all of them")
            out.append((kind_of(kind), [name]))
        return out
    return [(kind_of(word), list(words[1:])) for word in words[0].split(",")]


@click.command("get")
@click.argument("words", nargs=-1, required=True, metavar="KIND [NAME]...")
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="Across namespaces.")
@click.option("-l", "--selector", default="", help="Only objects with these labels, such as app=web,tier!=db.")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml", "name"]), help="Another form.")
@click.option("-w", "--watch", is_flag=True, help="Go on with what changes, until interrupted.")
@click.option("--at", type=click.IntRange(1), metavar="REV", help="As it was at this revision (`fairlead history`).")
@connection
def get(
    words: tuple[str, ...],
    namespace: str,
    all_namespaces: bool,
    selector: str,
    output: str | None,
    watch: bool,
    at: int | None,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Show objects: `get KIND`, `get KIND NAME`, `get KIND/NAME`, `get KIND,KIND`.

    \b
    fairlead get virtualservices -A
    fairlead get vs/reviews -n shop -o yaml
    fairlead get vs reviews -n shop --at 41

    Exit status: 0 done, 1 failed or not found, 2 wrong usage, 130 interrupted (--watch).
    """
    wanted = wanted_of(words)
    if watch and (len(wanted) > 1 or len(wanted[0][1]) > 1):
        raise click.UsageError("--watch follows one kind or one object")
    if watch and at is not None:
        raise click.UsageError("--watch follows what happens now: leave out --at")
    with connected(kubeconfig, state) as client:
        home = None if all_namespaces else namespace or client.access.namespace
        if watch:
            kind, names = wanted[0]
            _follow(client, kind, home, names, selector, output)
        elif output in ("json", "yaml", "name"):
            _documents(client, wanted, _Where(home, selector, at), output)
        else:
            _tables(client, wanted, _Where(home, selector, at), wide=output == "wide")


class _Where(NamedTuple):
    """Which objects: their namespace (None: across them), labels, and the revision, if not the present."""

    home: str | None
    selector: str
    at: int | None


def _paths(kind: Kind[Any], names: list[str], where: _Where) -> list[str]:
    version, home = kind.versions[0], where.home
    if names and home is None and kind.namespaced:
        raise click.UsageError("an object has one namespace: name it with -n instead of -A")
    if where.at is not None:
        # Lists can be read as they were, so one object is a list of one.
        past = {"resourceVersion": str(where.at), "resourceVersionMatch": "Exact"}
        if not names:
            return [address(kind, version, home, labelSelector=where.selector, **past)]
        return [address(kind, version, home, fieldSelector=f"metadata.name={name}", **past) for name in names]
    if names:
        return [address(kind, version, home, name) for name in names]
    return [address(kind, version, home, labelSelector=where.selector)]


def _documents(client: Client, wanted: list[tuple[Kind[Any], list[str]]], where: _Where, form: str) -> None:
    found: list[tuple[Kind[Any], Json]] = []
    single = len(wanted) == 1 and len(wanted[0][1]) == 1
    for kind, names in wanted:
        for path in _paths(kind, names, where):
            document: Json = client.request("GET", path).document
            api = {"apiVersion": kind.api_version, "kind": kind.kind}
            listed: list[Json] = document.get("items") or []
            items = [{**api, **one} for one in listed] if "items" in document else [document]
            if names and not items:
                raise click.ClickException(f"there was no such {kind.kind} at revision {where.at}: {', '.join(names)}")
            found.extend((kind, one) for one in items)
    if form == "name":
        for kind, document in found:
            click.echo(called(kind, document["metadata"]["name"]))
        return
    documents = [document for _, document in found]
    for document in documents:
        document["metadata"].pop("managedFields", None)
    empty = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": documents}
    printing.show(documents[0] if single else empty, form)


def _tables(client: Client, wanted: list[tuple[Kind[Any], list[str]]], where: _Where, *, wide: bool) -> None:
    home = where.home
    printed = False
    for kind, names in wanted:
        rows: list[list[object]] = []
        header: list[str] = []
        for path in _paths(kind, names, where):
            table: Json = client.request("GET", path, accept=_TABLE).document
            header, more = _cells(kind, table, across=home is None, wide=wide, prefixed=len(wanted) > 1)
            rows.extend(more)
        if rows:
            if printed:
                click.echo()
            printing.print_table(header, rows)
            printed = True
    if not printed:
        said = "" if home is None else f" in namespace {home}"
        past = f" at revision {where.at}" if where.at else ""
        unknown = no_such_namespace(client, home) if home is not None and not where.at else ""
        click.echo(f"No objects found{said}{past}{unknown or '.'}", err=True)


def _cells(
    kind: Kind[Any], table: Json, *, across: bool, wide: bool, prefixed: bool = False
) -> tuple[list[str], list[list[object]]]:
    """Header and rows of a server's table, with the columns that are wanted."""
    columns: list[Json] = table["columnDefinitions"]
    shown = [at for at, one in enumerate(columns) if wide or not one.get("priority")]
    header = [str(columns[at]["name"]).upper() for at in shown]
    rows: list[list[object]] = []
    listed: list[Json] = table.get("rows") or []
    for row in listed:
        cells: list[object] = [row["cells"][at] for at in shown]
        if prefixed:
            cells[0] = called(kind, str(cells[0]))
        if across and kind.namespaced:
            cells.insert(0, row["object"]["metadata"].get("namespace", ""))
        rows.append(cells)
    return (["NAMESPACE", *header] if across and kind.namespaced else header), rows


def _follow(
    client: Client, kind: Kind[Any], home: str | None, names: list[str], selector: str, output: str | None
) -> None:
    """Print what there is and then every change. Ends with Ctrl-C or when the server goes away."""
    query = {"watch": "true", "labelSelector": selector}
    if names:
        query["fieldSelector"] = f"metadata.name={names[0]}"
    documents = output in ("json", "yaml", "name")
    path = address(kind, kind.versions[0], home, **query)
    title = True
    try:
        for event in client.watch(path, "application/json" if documents else _TABLE):
            if event.get("type") == "ERROR":
                raise Refused(int(event["object"].get("code", 500)), event["object"])
            if output == "name":
                click.echo(called(kind, event["object"]["metadata"]["name"]))
            elif documents:
                printing.show(event["object"], str(output))
                if output == "yaml":
                    click.echo("---")
            else:
                header, rows = _cells(kind, event["object"], across=home is None, wide=output == "wide")
                printing.print_table(header, rows, title=title)
                title = False
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@click.command("api-resources")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml", "name"]), help="Another form.")
def api_resources(output: str | None) -> None:
    """List the kinds that this Fairlead knows.

    \b
    fairlead api-resources

    Exit status: 0.
    """
    kinds = registry().kinds
    if output == "name":
        for kind in kinds:
            click.echo(f"{kind.plural}.{kind.group}" if kind.group else kind.plural)
        return
    if output in ("json", "yaml"):
        printing.show(
            [
                {
                    "name": kind.plural,
                    "shortNames": list(kind.short_names),
                    "group": kind.group,
                    "versions": list(kind.versions),
                    "namespaced": kind.namespaced,
                    "kind": kind.kind,
                    "description": kind.doc,
                }
                for kind in kinds
            ],
            output,
        )
        return
    header = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    rows: list[list[object]] = [
        [one.plural, ",".join(one.short_names) or " ", one.api_version, str(one.namespaced).lower(), one.kind]
        for one in kinds
    ]
    if output == "wide":
        header.append("DESCRIPTION")
        rows = [[*row, one.doc] for row, one in zip(rows, kinds, strict=True)]
    printing.print_table(header, rows)
