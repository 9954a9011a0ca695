"""`fairlead delete`: objects go.

Exit status: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairlead.cli import printing
from fairlead.cli.client import Client, Refused
from fairlead.cli.connecting import NOT_FOUND, connected, connection, message_option, probably
from fairlead.cli.diff import may_go_on, of_deletion
from fairlead.cli.resources import (
    address,
    called,
    checked_entries,
    diff_option,
    dry_option,
    files_option,
    namespace_option,
    recursive_option,
    safe_option,
    wanted_of,
    yes_option,
)
from fairlead.ir.kind import Kind


@click.command("delete")
@click.argument("words", nargs=-1, metavar="[KIND NAME...]")
@files_option
@recursive_option
@namespace_option
@dry_option
@click.option("-l", "--selector", default="", help="Delete the objects of KIND with these labels.")
@click.option("--all", "everything", is_flag=True, help="Delete all objects of KIND in the namespace.")
@click.option("--ignore-not-found", is_flag=True, help="What is not there is no failure.")
@diff_option
@safe_option
@yes_option
@message_option
@connection
def delete(
    words: tuple[str, ...],
    filenames: tuple[str, ...],
    recursive: bool,
    namespace: str,
    dry_run: str,
    selector: str,
    everything: bool,
    ignore_not_found: bool,
    show_diff: bool,
    require_safe: bool,
    yes: bool,
    message: str,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Delete objects: `delete KIND NAME...`, `delete KIND/NAME`, `delete KIND -l SELECTOR`, `delete -f FILE`.

    \b
    fairlead delete virtualservice reviews -n shop
    fairlead delete -f canary.yaml --diff -m "back to one version"

    Exit status: 0 done, 1 failed or not found, 2 wrong usage.
    """
    if bool(words) == bool(filenames):
        raise click.UsageError("name what to delete: KIND NAME..., or -f FILE")
    if dry_run == "client":
        raise click.UsageError("deleting has no client dry run; use --dry-run=server")
    wanted = wanted_of(words) if words else []
    if any(not names for _, names in wanted) and not selector and not everything:
        raise click.UsageError("name the objects, or select them with -l SELECTOR or --all")
    with connected(kubeconfig, state, message) as client:
        home = namespace or client.access.namespace
        targets: list[tuple[Kind[Any], str, str]] = []
        if filenames:
            entries = checked_entries(filenames, home, given=bool(namespace), recursive=recursive)
            # Namespaces last: they would take the others with them.
            targets = [(one.kind, one.ref.namespace, one.ref.name) for one in reversed(entries)]
        for kind, names in wanted:
            listed = names or _names(client, kind, home, selector)
            targets.extend((kind, home, name) for name in listed)
        if show_diff or require_safe:
            found = of_deletion(client, [kind.ref(space, name) for kind, space, name in targets])
            if not may_go_on(found, ask=show_diff and not yes, require_safe=require_safe, quiet=False):
                raise SystemExit(1)
        failed = [one for one in targets if not _delete_one(client, one, dry_run == "server", ignore_not_found)]
    if failed:
        raise SystemExit(1)


def _names(client: Client, kind: Kind[Any], home: str, selector: str) -> list[str]:
    path = address(kind, kind.versions[0], home, labelSelector=selector)
    return [one["metadata"]["name"] for one in client.request("GET", path).document["items"]]


def _delete_one(client: Client, target: tuple[Kind[Any], str, str], dry: bool, ignore: bool) -> bool:
    kind, home, name = target
    try:
        client.request("DELETE", address(kind, kind.versions[0], home, name, dryRun="All" if dry else ""))
    except Refused as refused:
        if refused.code == NOT_FOUND and ignore:
            return True
        printing.complain(f"error: {refused}{probably(client, refused) if refused.code == NOT_FOUND else ''}")
        return False
    click.echo(f"{called(kind, name)} deleted" + (" (server dry run)" if dry else ""))
    return True
