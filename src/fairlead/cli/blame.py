"""`fairlead blame`: who last changed each field of an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from fairlead.cli.connecting import connected, connection
from fairlead.cli.history import by, object_of
from fairlead.cli.printing import as_yaml, columns, line, show, wrapped

Json = dict[str, Any]
_TEXT = 40
"""Columns that the object itself should have."""


@click.command("blame")
@click.argument("what", metavar="KIND/NAME")
@click.option("-n", "--namespace", default="", metavar="NS", help="Default: the kubeconfig's, or default.")
@click.option("--at", type=click.IntRange(1), metavar="REV", help="As it was at this revision.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data.")
@connection
def blame(
    what: str, namespace: str, at: int | None, output: str | None, kubeconfig: Path | None, state: Path | None
) -> None:
    """Show an object with the revision, time and author that each of its fields is from.

    \b
    fairlead blame virtualservice/reviews -n shop

    Exit status: 0 done, 1 there is no such object, 2 wrong usage.
    """
    with connected(kubeconfig, state) as client:
        query = object_of(what, namespace or client.access.namespace) | ({"at": str(at)} if at else {})
        found = client.request("GET", f"/fairlead/v1/blame?{urlencode(query)}").document
    if output:
        show(found, output)
        return
    edits: dict[int, Json] = {one["revision"]: one for one in found["edits"]}
    marks = {number: (str(number), one["time"], one["author"]) for number, one in edits.items()}
    widths = [max((len(mark[at]) for mark in marks.values()), default=0) for at in range(3)]
    room = columns()
    if room and sum(widths) + _TEXT > room:
        # On a narrow terminal the margin has the revision only; when and by whom stands below.
        widths = widths[:1]
    before = 0
    for text, revision in _lines(found):
        mark = marks.get(revision, ("", "", ""))
        # The same edit is named once for the lines that follow each other.
        shown = mark if revision != before else (mark[0], "", "")
        gutter = "  ".join(one.ljust(width) for one, width in zip(shown, widths, strict=False))
        indent = len(text) - len(text.lstrip())
        first, *more = wrapped(text.lstrip(), room - len(gutter) - 2 - indent, 4) if room else [text.lstrip()]
        click.echo(f"{click.style(gutter, fg='cyan')}  {' ' * indent}{first}")
        for one in more:
            click.echo(" " * (len(gutter) + indent + 6) + one)
        before = revision or before
    click.echo()
    placed = next((one["position"] for one in found["fields"] if "position" in one), "")
    if placed:
        line(f"applied from {placed.rpartition(':')[0]}")
    for number, one in sorted(edits.items()):
        when = f"{one['time']}  " if len(widths) == 1 else ""
        line(f"{number:>{widths[0]}}  {when}{by(one)}{'  (' + one['message'] + ')' if one['message'] else ''}", hang=4)


def _lines(found: Json) -> list[tuple[str, int]]:
    """The lines of the YAML, and the revision that each is from; 0 for lines that only open what follows."""
    from fairlead.model.path import FieldPath
    from fairlead.model.yaml import parse_documents

    text = as_yaml(found["document"])
    manifest = parse_documents(text, "")[0]
    of_line: dict[int, int] = {}
    for one in found["fields"]:
        position = manifest.position(FieldPath(tuple(one["path"])))
        if position is not None:
            of_line[position.line] = one["revision"]
    out: list[tuple[str, int]] = []
    deep = 0
    for number, one in enumerate(text.splitlines(), 1):
        indent = len(one) - len(one.lstrip())
        revision = of_line.get(number, 0)
        if not revision and out and indent > deep and out[-1][1] and one.strip():
            # A text of several lines goes on.
            revision = out[-1][1]
        else:
            deep = indent
        out.append((one, revision))
    return out
