"""Writes docs/codes: what each code of a finding means. `--check` only says whether the pages are current."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import written
from fairlead.analyze.analyzer import analyzers
from fairlead.analyze.codes import CODES, Code

DIRECTORY = Path(__file__).resolve().parents[1] / "docs" / "codes"
_INTRODUCTION = """# Codes

Every finding of `fairlead analyze`, of admission and of the running mesh has a code. `fairlead explain-code CODE` shows
on the command line what stands here. These pages are made by `python tools/codedocs.py`.

* [Istio's codes](istio.md): the same numbers, names and severities as in Istio, checked against its own cases
* [Fairlead's codes](fairlead.md)

A code that says that traffic goes wrong is an error only if the finding has a *witness*, a request that the simulator
walks over the compiled configuration and sees fail; without one it is a warning.

## Istio's codes that are never reported

"""


def pages() -> dict[str, str]:
    """The text of each page, by file name."""
    own = [one for one in CODES.values() if one.code.startswith("FL")]
    theirs = [one for one in CODES.values() if one.code.startswith("IST")]
    silent = [one for one in theirs if one.absent or one.instead]
    rows = [f"| {one.code} {one.title} | {_silence(one)} |" for one in silent]
    table = "\n".join(("| code | why |", "|---|---|", *rows))
    return {
        "README.md": f"{_INTRODUCTION}{table}\n",
        "istio.md": _page("Istio's codes", (one for one in theirs if not one.absent and not one.instead)),
        "fairlead.md": _page("Fairlead's codes", own),
    }


def _silence(code: Code) -> str:
    return f"reported as {code.instead}" if code.instead else code.absent


def _page(title: str, codes: Iterable[Code]) -> str:
    by: dict[str, list[str]] = {}
    for analyzer in analyzers():
        for code in analyzer.codes:
            by.setdefault(code, []).append(analyzer.name)
    out = [f"# {title}", ""]
    for one in codes:
        out += [f"## {one.code}", "", f"**{one.title}**, {one.severity.lower()}. {one.meaning}", ""]
        if one.remedy:
            out += [f"*What to do:* {one.remedy}", ""]
        if one.traffic:
            out += ["An error only with a witness.", ""]
        if one.code in by:
            out += [f"Analyzers: {', '.join(f'`{name}`' for name in sorted(set(by[one.code])))}", ""]
    return "\n".join(out).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(written.main(DIRECTORY, pages, "codedocs.py"))
