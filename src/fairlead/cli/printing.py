"""Output: tables that fit the terminal, JSON, YAML; colour only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import yaml

Json = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """YAML as kubectl writes it: texts of several lines as blocks."""


def _text(dumper: Any, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(document: object) -> str:
    """A document as YAML."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True)


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
    natural = [max(len(name), *(len(row[at]) for row in rows), 1) for at, name in enumerate(header)]
    gap = 3 if sum(natural) + 3 * len(header) <= console.width else 1
    widths = _narrowed(natural, [len(name) for name in header], console.width - gap * len(header))
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=title, header_style="bold")
    for name, width in zip(header, widths, strict=True):
        table.add_column(name, overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(one, style="cyan" if at == 0 else styles.get(one, "")) for at, one in enumerate(row)))
    console.print(table)


def _narrowed(natural: Sequence[int], floors: Sequence[int], room: int) -> list[int]:
    """Widths of columns: the widest give way first, and none below its title."""
    widths = list(natural)
    while sum(widths) > room:
        at = max(range(len(widths)), key=lambda one: (widths[one] > floors[one], widths[one]))
        if widths[at] <= floors[at]:
            break
        widths[at] -= 1
    return widths


def complain(line: object, *, warning: bool = False) -> None:
    """A line on standard error: red for errors, yellow for warnings, on a terminal."""
    click.secho(str(line), err=True, fg="yellow" if warning else "red")
