"""Pages of documentation that are made by a tool: written, or compared with what is there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Pages = Mapping[str, str]
"""Texts by file name."""


def out_of_date(directory: Path, wanted: Pages) -> list[str]:
    """Names of pages that are missing, differ, or are not wanted, in order."""
    present = {path.name: path.read_text() for path in directory.glob("*") if path.is_file()}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main(directory: Path, pages: Callable[[], Pages], tool: str) -> int:
    """Write the pages; with `--check` in the command line, only say which ones are not current."""
    wanted = pages()
    stale = out_of_date(directory, wanted)
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"{directory}: out of date: {', '.join(stale)}; run python tools/{tool}")
        return 1 if stale else 0
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in wanted:
            (directory / name).write_text(wanted[name])
        else:
            (directory / name).unlink()
    return 0
