"""Output: tables that fit the terminal, JSON, YAML; colour only on a terminal."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click

from fairlead.cli import busy

Json = dict[str, Any]


_PIECES = re.compile(
    r"(?<!\S)--?[a-zA-Z][\w-]*\s*|\d{4}-\d\d-\d\dT[\d:]+Z\s*|\d+(?:\.\d+){3}\S?\s*|[^\s./,:;|=@-]*[./,:;|=@-]+\s*|[^\s./,:;|=@-]+\s*|\s+"
)
"""What a line is not broken inside of: words with what follows them, options, times and addresses."""
_TORN = 20
_NARROWEST = 20


def as_yaml(document: object) -> str:
    """A document as YAML."""
    # Few commands write it, and the library takes a while to import.
    from fairlead.cli.yamltext import dumped

    return dumped(document)


def as_json(document: object) -> str:
    """A document as indented JSON."""
    return json.dumps(document, indent=4, ensure_ascii=False) + "\n"


def show(document: object, form: str) -> None:
    """Print a document as `json` or `yaml`."""
    click.echo(as_json(document) if form == "json" else as_yaml(document), nl=False)


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: bool = True,
    styles: Mapping[str, str] | None = None,
    blank: str = "<none>",
) -> None:
    """A table in kubectl's manner; on a terminal long values are folded into its width, elsewhere they run on.

    `styles` colours cells by their text, on a terminal; `blank` stands for what is empty.
    """
    cells = [[str(one) if one not in (None, "") else blank for one in row] for row in rows]
    if sys.stdout.isatty():
        _fitted(header, cells, styles or {}, title=title)
        return
    lines = [list(header), *cells] if title else cells
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))] if lines else []
    for line in lines:
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        click.echo("   ".join(padded).rstrip())


def _fitted(header: Sequence[str], rows: Sequence[Sequence[str]], styles: Mapping[str, str], *, title: bool) -> None:
    # rich takes 40 ms to import: only where it is used.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    columns = [[name, *(row[at] for row in rows)] for at, name in enumerate(header)]
    natural = [max(1, *map(len, column)) for column in columns]
    floors = [max(len(name), *(_least(text) for text in column)) for name, column in zip(header, columns, strict=True)]
    gap = 3 if sum(natural) + 3 * len(header) <= console.width else 1
    room = console.width - gap * len(header)
    if sum(floors) > room and len(header) > 1:
        _recorded(console.width, header, rows)
        return
    widths = _narrowed(natural, floors, room)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=title, header_style="bold")
    for name, width in zip(header, widths, strict=True):
        table.add_column(name, overflow="fold", width=width)
    for row in rows:
        lines = ["\n".join(wrapped(one, width)) for one, width in zip(row, widths, strict=True)]
        styled = (Text(line, style="cyan" if at == 0 else styles.get(row[at], "")) for at, line in enumerate(lines))
        table.add_row(*styled)
    console.print(table)


def _recorded(width: int, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Where the terminal is too narrow for the columns: each row by itself, a line for each of its cells."""
    margin = max(map(len, header)) + 2
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for at, (name, text) in enumerate(zip(header, row, strict=True)):
            first, *more = wrapped(text, max(width - margin, 8)) or [""]
            click.echo(f"{name:<{margin}}" + click.style(first, fg="cyan" if at == 0 else None))
            for line in more:
                click.echo(" " * margin + line)


def _least(text: str) -> int:
    """The width below which a cell would be torn apart: of its longest piece, within reason."""
    return min(max((len(one.rstrip()) for one in _PIECES.findall(text)), default=1), _TORN)


def wrapped(text: str, width: int, hang: int = 0) -> list[str]:
    """Lines of at most so many characters, broken behind blanks, slashes, dots and the like where that is possible.

    Those after the first are shorter by `hang`.
    """
    out: list[str] = []
    line = ""
    for piece in _PIECES.findall(text):
        while len(line) + len(piece.rstrip()) > width - (hang if out else 0):
            if line:
                # Blanks alone are no line, and are not carried to the next.
                out += [line.rstrip()] if line.strip() else []
                line = ""
            else:
                room = width - (hang if out else 0)
                out.append(piece[:room])
                piece = piece[room:]
        line += piece
    return [*out, line.rstrip()] if line.strip() or not out else out


def _narrowed(natural: Sequence[int], floors: Sequence[int], room: int) -> list[int]:
    """Widths of columns: the widest give way first, and none below its floor."""
    widths = list(natural)
    while sum(widths) > room:
        at = max(range(len(widths)), key=lambda one: (widths[one] > floors[one], widths[one]))
        if widths[at] <= floors[at]:
            break
        widths[at] -= 1
    return widths


def columns(*, err: bool = False) -> int:
    """The width of the terminal that is written to; 0 where it is none."""
    return max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST) if _stream(err).isatty() else 0


def _stream(err: bool) -> TextIO:
    return sys.stderr if err else sys.stdout


def line(text: str, *, hang: int = 2, fg: str | None = None, bold: bool | None = None, err: bool = False) -> None:
    """Print a line; on a terminal it is broken to its width, and all but its begin stands `hang` further in."""
    width = columns(err=err)
    body = text.lstrip(" ")
    indent = min(len(text) - len(body), width // 3) if width else len(text) - len(body)
    lines = wrapped(body, width - indent, min(hang, width // 3)) if width else [body]
    for number, one in enumerate(lines):
        before = " " * (indent + (min(hang, width // 3) if number else 0))
        click.secho(before + one, fg=fg, bold=bold, err=err)


def complain(said: object, *, warning: bool = False) -> None:
    """A line on standard error: red for errors, yellow for warnings, on a terminal; broken at blanks there."""
    busy.hide()
    width = columns(err=True)
    # Few commands complain: only those import it.
    import textwrap

    lines = textwrap.wrap(str(said), width, break_long_words=False, break_on_hyphens=False) if width else [str(said)]
    for one in lines or [""]:
        click.secho(one, err=True, fg="yellow" if warning else "red")
