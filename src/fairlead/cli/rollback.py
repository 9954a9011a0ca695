"""`fairlead rollback`: restores what was, as a new revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from fairlead.cli.client import PATIENCE
from fairlead.cli.connecting import connected, connection, message_option
from fairlead.cli.diff import agreed, print_report
from fairlead.cli.history import by, object_of, print_change, title
from fairlead.cli.printing import complain, line, show

Json = dict[str, Any]


@click.command("rollback")
@click.argument("what", required=False, metavar="REV|KIND/NAME@REV")
@click.option("--undo", type=click.IntRange(1), metavar="REV", help="Take one revision back, and keep what came later.")
@click.option("-n", "--namespace", default="", metavar="NS", help="Default: the kubeconfig's, or default.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Take later edits back, too.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data; does not ask, so give --yes.")
@message_option
@connection
def rollback(
    what: str | None,
    undo: int | None,
    namespace: str,
    dry_run: bool,
    yes: bool,
    force: bool,
    output: str | None,
    message: str,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Make one object, or everything that people wrote, as it was at a revision; or take one revision back.

    It is a new revision. What it does to objects and proxies is shown first. Where an object was
    edited more than once since, the later edits are named and nothing is done, unless --force is given. What the mesh
    writes by itself (endpoints of what runs, status) is left alone; addresses that were given stay.

    \b
    fairlead rollback virtualservice/reviews@41 -n shop
    fairlead rollback 41                  everything, as it was at 41
    fairlead rollback --undo 42           everything but what 42 did

    Exit status: 0 done or nothing to do, 1 refused or not wanted, 2 wrong usage.
    """
    if (what is None) == (undo is None):
        raise click.UsageError("say what to restore: REV, KIND/NAME@REV, or --undo REV")
    if output and not (yes or dry_run):
        raise click.UsageError("-o does not ask: add --yes or --dry-run")
    with connected(kubeconfig, state, message) as client:
        asked = _asked(what, undo, namespace or client.access.namespace)
        found = client.request("POST", _path(force=force, dry=True), asked, seconds=PATIENCE).document
        if not output:
            _print(found)
        if found["conflicts"] and not force:
            for one in found["conflicts"]:
                complain(one, warning=True)
            if not dry_run:
                complain("error: there are later edits, see above; --force takes them back too [FL3900]")
                raise SystemExit(1)
        if found["changes"] and not dry_run:
            if not yes and not agreed():
                raise SystemExit(1)
            found = client.request("POST", _path(force=force, dry=False), asked, seconds=PATIENCE).document
    if output:
        show(found, output)
    elif found["revision"]:
        click.echo(f"done: revision {found['revision']}")


def _path(*, force: bool, dry: bool) -> str:
    query = {name: "true" for name, on in (("force", force), ("dryRun", dry)) if on}
    return f"/fairlead/v1/rollback?{urlencode(query)}"


def _asked(what: str | None, undo: int | None, namespace: str) -> Json:
    if undo is not None or what is None:
        return {"undo": undo}
    name, _, revision = what.rpartition("@")
    if not revision.isdecimal() or not int(revision):
        raise click.UsageError("give a revision (`fairlead history` lists them): REV, or KIND/NAME@REV")
    return {"to": int(revision)} | ({"object": object_of(name, namespace)} if name else {})


def _print(found: Json) -> None:
    if not found["changes"]:
        click.echo("nothing to do: it is so already")
        return
    for one in found["changes"]:
        print_change(one)
    click.echo()
    for one in found["undone"]:
        said = ", ".join(title(each["object"]) for each in one["changes"][:3])
        line(f"takes back {one['revision']} ({one['time']}, {by(one)}): {said}")
    for one in found["warnings"]:
        complain(f"warning: {one}", warning=True)
    click.echo()
    print_report(found["effect"])
