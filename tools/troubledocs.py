"""Writes docs/troubleshooting: a page for each seeded fault of tests/e2e/faults, with what its command really says.

python tools/troubledocs.py            write the pages
python tools/troubledocs.py --check    exit with 1 and the names of pages that are out of date
"""

from __future__ import annotations

import contextlib
import difflib
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import written

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.faults.case import BASE, FAULT, HERE, Call, Fault, faults, offline  # noqa: E402 - needs the path above
from tests.e2e.faults.keys import Keys  # noqa: E402
from tests.e2e.faults.running import case as running  # noqa: E402
from tests.e2e.faults.running.live import EDIT  # noqa: E402
from tests.e2e.faults.saying import run  # noqa: E402

OUTPUT = ROOT / "docs" / "troubleshooting"
NOTE = "<!-- Made by tools/troubledocs.py of tests/e2e/faults/{place}/{name}.yaml: change that, then run it. -->\n"
RECORDED = "Of the running mesh, as a test has recorded it (times, revisions and addresses are others):"
GATEWAY = "127.66.0.5"
INDEX = "README.md"
SHOP = "shop.yaml"


def pages() -> dict[str, str]:
    """Every page's text by file name; the commands run in a directory of their own."""
    with tempfile.TemporaryDirectory() as made, contextlib.chdir(made):
        keys = Keys(Path(made))
        shutil.copy(HERE / BASE, BASE)
        found = {f"{one.name}.md": _page(one, keys) for one in faults()}
    found |= {f"{one.name}.md": _running_page(one) for one in running.faults()}
    found[SHOP] = (HERE / BASE).read_text()
    return {**found, INDEX: _index()}


def out_of_date() -> list[str]:
    """Names of pages that are missing, differ, or belong to no fault, in order."""
    return written.out_of_date(OUTPUT, pages())


def _page(fault: Fault, keys: Keys) -> str:
    Path(FAULT).write_text(offline(fault.files, keys.made))
    said = run(fault.arguments([BASE, FAULT])).output.rstrip()
    parts = [
        f"{NOTE.format(place='cases', name=fault.name)}# {fault.title}",
        f"**{fault.symptom}.** {fault.seen}",
        f"The [shop](shop.yaml), and `{FAULT}`:",
        f"```yaml\n{fault.files.rstrip()}\n```",
        f"## One command\n\n{_live(fault)}",
        f"```\n$ fairlead {shlex.join(fault.arguments([BASE, FAULT]))}\n{said}\n```",
        f"It names **{fault.names.text}**{f', field `{fault.names.field}`' if fault.names.field else ''}.",
    ]
    if fault.also:
        parts.append(f"`fairlead {fault.also}` names it, too.")
    parts += [f"## Why\n\n{fault.cause}", f"## The fix\n\n{fault.fix}"]
    if fault.undone == "changed":
        parts.append(f"```diff\n{_difference(fault)}\n```")
    return "\n\n".join(parts) + "\n"


def _running_page(fault: running.Running) -> str:
    said = fault.said.read_text().rstrip().split("\n\n$ ")
    shown = [said[0], *(f"$ {one}" for one in said[1:])]
    parts = [
        f"{NOTE.format(place='running', name=fault.name)}# {fault.title}",
        f"**{fault.symptom}.** {fault.seen}",
        f"The [shop](shop.yaml) runs. {fault.happens}",
    ]
    files = ((fault.files, "reviews.yaml" if fault.edit else FAULT), (fault.edit, EDIT))
    for text, name in files if fault.edit else files[:1]:
        if text:
            parts.append(f"`{name}`:\n\n```yaml\n{text.replace('GATEWAY', GATEWAY).rstrip()}\n```")
    parts += [f"## One command\n\n{RECORDED}", f"```\n{shown[0]}\n```", f"It names **{_named(fault)}**."]
    count = len(fault.commands)
    if count > 1:
        parts += ["More of it:", *(f"```\n{one}\n```" for one in shown[1:count])]
    parts += [f"## Why\n\n{fault.cause}", f"## The fix\n\n{fault.fix}"]
    parts += [f"```\n{one}\n```" for one in shown[count:]]
    return "\n\n".join(parts) + "\n"


def _live(fault: Fault) -> str:
    if fault.refused:
        return "Before anything is applied (`fairlead apply` refuses the file with the same finding):"
    if fault.command == "why":
        call: Call | None = fault.call
        assert call is not None
        return f"Of the running mesh: `fairlead {shlex.join(fault.arguments([]))}`. Of files, where lines are known:"
    return "Of files, for instance those in your repository:"


def _difference(fault: Fault) -> str:
    before, after = fault.files.splitlines(), fault.fixed().splitlines()
    return "\n".join(list(difflib.unified_diff(before, after, lineterm="", n=1))[2:])


def _named(fault: Fault | running.Running) -> str:
    return f"{fault.names.text} `{fault.names.field}`" if fault.names.field else fault.names.text


def _index() -> str:
    groups: dict[str, list[Fault | running.Running]] = {}
    for one in sorted((*faults(), *running.faults()), key=lambda one: one.name):
        groups.setdefault(one.symptom, []).append(one)
    parts = [
        "<!-- Made by tools/troubledocs.py. -->\n# Troubleshooting\n",
        "By what is seen. Each page has a small configuration with one mistake, the command that names the object",
        "and the field, and the fix. They are made from tests in which a request through real proxies shows the",
        "symptom, and no more after the fix. All are mistakes in one [shop](shop.yaml): `web` calls `reviews`, of",
        "which there are two versions; `audit` is in another namespace; clients come through a gateway. Some are",
        "faults of hosts and processes while it runs.\n",
        "Not here? Ask [`fairlead why`](../why.md) about the request, and [`fairlead analyze`](../analyze.md)",
        "about the files or the running mesh.",
    ]
    for symptom in sorted(groups):
        parts += [f"\n## {symptom}\n", "| mistake | command | object and field |\n|---|---|---|"]
        parts += [
            f"| [{one.title}]({one.name}.md) | `{one.command.split()[0]}` | {_named(one)} |" for one in groups[symptom]
        ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(written.main(OUTPUT, pages, "troubledocs.py"))
