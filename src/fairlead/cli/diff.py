"""`fairlead diff`: what a change would do to proxies, before it is made; and the question before one is made."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from fairlead.cli import manifests, printing
from fairlead.cli.busy import counted
from fairlead.cli.client import PATIENCE, Client, Refused
from fairlead.cli.connecting import NOT_FOUND, connected, connection
from fairlead.cli.manifests import Entry
from fairlead.cli.resources import MANAGER, address, checked_entries, same
from fairlead.model.ref import Ref

Json = dict[str, Any]
NONE, FAILED, SOME, DANGEROUS = 0, 1, 3, 4
"""Exit statuses."""
_COLOURS = {"group": "cyan", "danger": "red", "field": "bright_black"}


@click.command("diff")
@click.option("-f", "--filename", "filenames", multiple=True, metavar="FILE|DIR|-", help="The change (repeatable).")
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
@click.option("-n", "--namespace", default="", metavar="NS", help="Default: the kubeconfig's, or default.")
@click.option("--delete", "deleting", is_flag=True, help="The change is that the objects of the files go.")
@click.option(
    "--from", "before", multiple=True, metavar="FILE|DIR|REV:PATH", help="All there is before; no mesh is needed."
)
@click.option("--to", "after", multiple=True, metavar="FILE|DIR|REV:PATH", help="With --from: all there is after.")
@click.option("--against", type=click.IntRange(1), metavar="REV", help="What was done since a revision.")
@click.option("--full", is_flag=True, help="Every setting that differs, with both values.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data.")
@connection
def diff(
    filenames: tuple[str, ...],
    recursive: bool,
    namespace: str,
    deleting: bool,
    before: tuple[str, ...],
    after: tuple[str, ...],
    against: int | None,
    full: bool,
    output: str | None,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Say what a change would do to every proxy, without making it.

    The change is compiled for all connected proxies and compared with what they have, setting by setting. Proxies for
    which it does the same are one group. What is dangerous is marked with `!` and a code (`fairlead explain-code`).
    With --from nothing needs to run: both sides are files, and the proxies are those of all workloads and gateways in
    them. The other side is what --to has, or what is there after the change of -f. REV:PATH is a file or directory of a
    git revision, as git reads it (`./PATH` begins here, others at the top).

    \b
    fairlead diff -f canary.yaml
    fairlead diff -f old.yaml --delete
    fairlead diff --from mesh/ -f canary.yaml -o json
    fairlead diff --from HEAD:./mesh --to mesh
    fairlead diff --against 41             what was done since revision 41

    \b
    Exit status: 0 no effect on any proxy, 1 error, 2 wrong usage,
    3 there are effects, 4 there are dangerous ones.
    """
    if bool(filenames) + bool(after) + (against is not None) != 1:
        raise click.UsageError("name the change with -f FILE, or what to compare with by --against REV or --to FILE")
    if before and against is not None:
        raise click.UsageError("--against is of a running mesh, --from of files: use one of them")
    if after and (deleting or not before):
        raise click.UsageError(
            "--to is all there is after: name all there is before with --from, and leave out --delete"
        )
    if before:
        home = namespace or "default"
        found = _offline(before, after, filenames, home, recursive=recursive, deleting=deleting, full=full)
    else:
        with connected(kubeconfig, state) as client:
            if against is not None:
                found = _effect(client, {"against": against, "full": full})
            else:
                home = namespace or client.access.namespace
                entries = checked_entries(filenames, home, given=bool(namespace), recursive=recursive)
                found = of_deletion(client, [one.ref for one in entries], full=full) if deleting else None
                found = found or of_entries(client, entries, full=full)
    if output:
        printing.show(found, output)
    else:
        print_report(found, full=full)
    raise SystemExit(DANGEROUS if found["dangers"] else SOME if differs(found) else NONE)


def differs(found: Json) -> bool:
    """Whether a change does anything to any proxy."""
    return bool(found["effects"] or found.get("new") or found.get("gone"))


def of_entries(client: Client, entries: Iterable[Entry], *, full: bool = False, force: bool = True) -> Json:
    """What documents would do. Exits with 1 where the server refuses them."""
    entries = list(entries)
    return _placed(_effect(client, {"documents": would_be(client, entries, force=force), "full": full}), entries)


def judged(client: Client, entries: Sequence[Entry], *, force: bool) -> tuple[Json, bool]:
    """What documents would do, and whether there is anything to ask about: whether it changes a proxy or an object."""
    documents = would_be(client, entries, force=force)
    found = _placed(_effect(client, {"documents": documents}), entries)
    return found, differs(found) or any(not _stored(client, *one) for one in zip(entries, documents, strict=True))


def _placed(found: Json, entries: Iterable[Entry]) -> Json:
    """A report in which fields have their places in the files of the change."""
    from fairlead.effect import placed

    manifests = {one.ref: one.manifest for one in entries}
    return placed(found, lambda one: manifests[one.ref].position(one.path) if one.ref in manifests else None)


def _stored(client: Client, entry: Entry, document: Json) -> bool:
    """Whether the server has an object like this."""
    path = address(entry.kind, entry.version, entry.ref.namespace, entry.ref.name)
    try:
        before: Json = client.request("GET", path).document
        # Status is the mesh's to write, and may have been between the two.
        return same({**before, "status": None}, {**document, "status": None})
    except Refused as refused:
        if refused.code != NOT_FOUND:
            raise
        return False


def would_be(client: Client, entries: Iterable[Entry], *, force: bool) -> list[Json]:
    """What would be stored of documents, as the server says it (a dry run). Exits with 1 where it refuses."""
    documents: list[Json] = []
    failed = False
    for entry in counted(list(entries), "judging object"):
        query = {"fieldManager": MANAGER, "dryRun": "All", "force": "true" if force else ""}
        path = address(entry.kind, entry.version, entry.ref.namespace, entry.ref.name, **query)
        body = {key: at for key, at in entry.manifest.data.items() if key != "status" or not entry.kind.has_status}
        try:
            answer = client.request("PATCH", path, body, content_type="application/apply-patch+yaml")
            documents.append(answer.document)
        except Refused as refused:
            if refused.code == NOT_FOUND:
                # Its namespace may be among the documents, and is not there before they are applied.
                documents.append({**body, "metadata": {**body["metadata"], "namespace": entry.ref.namespace}})
                continue
            failed = True
            for one in manifests.complaints(entry, refused):
                printing.complain(one)
    if failed:
        raise SystemExit(FAILED)
    return documents


def of_deletion(client: Client, refs: Iterable[Ref], *, full: bool = False) -> Json:
    """What it would do if objects went."""
    return _effect(client, {"deleted": [one._asdict() for one in refs], "full": full})


def _effect(client: Client, asked: Json) -> Json:
    return client.request("POST", "/fairlead/v1/effect", asked, seconds=PATIENCE).document


def _offline(
    before: Sequence[str],
    after: Sequence[str],
    filenames: Sequence[str],
    namespace: str,
    *,
    recursive: bool,
    deleting: bool,
    full: bool,
) -> Json:
    from fairlead.cli import difffiles

    old = difffiles.documents(before, recursive=recursive)
    new = difffiles.documents(after or filenames, recursive=recursive)
    if not after:
        new = difffiles.changed(old, new, namespace, deleting=deleting)
    return difffiles.compared(old, new, namespace, full=full)


def print_report(found: Json, *, full: bool = False, err: bool = False) -> None:
    """A report for people."""
    from fairlead.effect import lines

    for sort, text in lines(found, full=full):
        printing.line(text, fg=_COLOURS.get(sort), bold=sort == "group", err=err)


def may_go_on(found: Json, *, ask: bool, require_safe: bool, quiet: bool) -> bool:
    """Show what a change does, and whether it may be made: it is safe if that is required, and a person says yes.

    With `quiet` the report goes to standard error.
    """
    from fairlead.effect import origin

    print_report(found, err=quiet)
    if require_safe and found["dangers"]:
        for one in found["dangers"]:
            behind = "".join(f"; by {origin(each)}" for each in one.get("behind", ()))
            printing.complain(f"error: {one['meaning']}: {one['said']}{behind} [{one['code']}]")
        printing.complain("error: refused, as --require-safe asks; nothing was changed")
        return False
    if not ask:
        return True
    return agreed(err=quiet)


def agreed(*, err: bool = False) -> bool:
    """Ask whether it is to be done; where it is not, say that nothing was. Raises click.Abort for Ctrl-C."""
    try:
        if click.confirm("Do it?", err=err):
            return True
    except click.Abort as end:
        click.echo(err=True)
        if isinstance(end.__context__, KeyboardInterrupt):
            printing.complain("nothing was changed", warning=True)
            raise
    hint = "" if sys.stdin.isatty() else "; --yes goes on without asking"
    printing.complain(f"nothing was changed{hint}", warning=True)
    return False
