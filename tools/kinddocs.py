"""Writes docs/kinds: a page for each API kind, from its `explain.md` and its descriptor.

python tools/kinddocs.py            write the pages
python tools/kinddocs.py --check    exit with 1 and the names of pages that are out of date
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fairlead.kinds
import written
from fairlead.compiler.fields import Field, structures
from fairlead.compiler.registry import registry
from fairlead.ir.kind import Kind

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "kinds"
NOTE = "<!-- Made by tools/kinddocs.py of src/fairlead/kinds/{folder}/explain.md: change that, then run it. -->\n"
INDEX = "README.md"


def pages() -> dict[str, str]:
    """Every page's text by file name."""
    kinds = registry().kinds
    made = {f"{kind.kind.lower()}.md": _page(kind) for kind in kinds}
    return {**made, INDEX: _index(kinds)}


def out_of_date() -> list[str]:
    """Names of pages that are missing, differ, or belong to no kind, in order."""
    return written.out_of_date(OUTPUT, pages())


def _page(kind: Kind[Any]) -> str:
    folder = kind.kind.lower()
    title, _, rest = (Path(fairlead.kinds.__path__[0]) / folder / "explain.md").read_text().partition("\n")
    served = ", ".join(f"`{kind.group}/{one}`" if kind.group else f"`{one}`" for one in kind.versions)
    names = ", ".join(f"`{one}`" for one in (kind.plural, *kind.short_names))
    scope = "in a namespace" if kind.namespaced else "for the whole mesh"
    head = f"{title}\n\napiVersion: {served} · on the command line: {names} · {scope}\n"
    return NOTE.format(folder=folder) + head + rest.rstrip("\n") + "\n\n## Fields\n" + _fields(kind)


def _fields(kind: Kind[Any]) -> str:
    """A table for each struct of the kind, with links from the fields that hold one to its table."""
    found = structures(kind)
    anchors = {one.name: (one.path or kind.kind).lower().replace(".", "") for one in found}
    out: list[str] = []
    for one in found:
        title = one.path or kind.kind
        said = f"\n{one.description}\n" if one.path not in ("", "spec") else ""
        rows = [_row(field, anchors) for field in one.fields]
        out.append(f"\n### {title}\n{said}\n| field | type | default | effect |\n|---|---|---|---|\n" + "\n".join(rows))
    return "\n".join(out) + "\n"


def _row(field: Field, anchors: dict[str, str]) -> str:
    anchor = anchors.get(field.struct.__name__) if field.struct is not None else None
    kind = f"[{field.type}](#{anchor})" if anchor else field.type
    default = "required" if field.required else (f"`{field.default}`" if field.default else "")
    text = field.description.replace("|", "\\|")
    return f"| `{field.name}` | {kind} | {default} | {text} |"


def _index(kinds: tuple[Kind[Any], ...]) -> str:
    lines = [
        "<!-- Made by tools/kinddocs.py. -->\n# Kinds\n",
        "Every field stands on its kind's page; `fairlead explain KIND.FIELD` (or `kubectl explain`) shows it, too.",
    ]
    for group in sorted({one.group for one in kinds}):
        lines += [f"\n## {group or 'core (v1)'}\n", "| kind | apiVersion | what |\n|---|---|---|"]
        lines += [
            f"| [{one.kind}]({one.kind.lower()}.md) | `{one.api_version}` | {one.doc} |"
            for one in kinds
            if one.group == group
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(written.main(OUTPUT, pages, "kinddocs.py"))
