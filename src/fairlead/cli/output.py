"""What commands print: data as JSON or YAML, tables that fit the terminal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click


def echo_data(data: Any, output: str) -> None:
    """Print JSON-shaped data as `json` or `yaml`."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000), nl=False)
    else:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def echo_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, styles: dict[str, str] | None = None
) -> None:
    """Print a table: coloured and fitted on a terminal, plain and complete elsewhere."""
    texts = [[_text(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [
            max(len(name), *(len(row[at]) for row in texts)) if texts else len(name) for at, name in enumerate(columns)
        ]
        for line in (list(columns), *texts):
            click.echo("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    # rich takes a tenth of a second to import: only where there is a terminal to draw on.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in texts:
        table.add_row(*(Text(cell, style=(styles or {}).get(cell, "")) for cell in row))
    Console(width=shutil.get_terminal_size().columns).print(table)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return str(cell)
