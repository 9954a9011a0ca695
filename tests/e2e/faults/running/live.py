"""Commands against the running shop, and what they say without what differs from run to run."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.e2e.faults.case import FAULT, documents
from tests.e2e.faults.saying import run
from tests.e2e.faults.shop import Shop
from tests.e2e.mesh import path_of

EDIT = "edit.yaml"
TIME = "2026-11-26T09:30:00Z"
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_SECRETS = re.compile(r"^(gateway\.edge(?: +\S+){5} +)SYNCED  ", re.MULTILINE)
"""The gateway's secrets in `proxy-status`: it was sent some if a fault before this one had to do with them."""
_AGES = re.compile(r"(?<= {3})\d+(?:\.\d+)?(?:ms|s|m|h|d)(?= {3}|$)", re.MULTILINE)
_SECONDS = re.compile(r"\b(for|within|in) \d+(?:\.\d+)? s\b")
_OPEN = re.compile(r"(their connections drain): .*")
_COUNTS = re.compile(r"^\d+ objects,", re.MULTILINE)
_USER = re.compile(r"\b[\w.-]+@[\w.-]+: fairlead ")
_BLAMED = re.compile(rf"(\d+) +{TIME}")
_HEADER = re.compile(r"^[A-Z][A-Z ]+$")
_GAP = re.compile(r" {3,}")


class Live:
    """The shop, a directory in which commands are given, and names that stand for what differs."""

    def __init__(self, shop: Shop, directory: Path) -> None:
        self.shop = shop
        self.mesh = shop.mesh
        self.directory = directory
        self._applied: list[Any] = []
        self.values: dict[str, str] = {}
        """What stands for {NAMES} in commands."""
        self.shown: dict[str, str] = {}
        """What is shown instead of texts of this run."""
        for number, one in enumerate(self.mesh.workloads.values(), 1):
            for block, address in ((0, one.address), (64, one.app), (128, one.out)):
                self.shown[address] = f"127.66.{block}.{number}"

    def text(self, text: str) -> str:
        """A file of a fault, for this mesh."""
        return text.replace("GATEWAY", self.mesh.workloads["gateway"].address)

    def apply(self, text: str, file: str = FAULT, *options: str) -> Result:
        """Apply a text as a person would."""
        Path(file).write_text(self.text(text))
        self._applied += documents(self.text(text))
        return self.run(f"apply -f {file} {shlex.join(options)}")

    def run(self, command: str) -> Result:
        """A command, with its status and output."""
        words = shlex.split(command.format(**self.values))
        return run([*words, "--state", str(self.mesh.plane.state)])

    def says(self, command: str, found: Result) -> str:
        """A command and its output as they are shown."""
        for name, value in self.values.items():
            command = command.replace(f"{{{name}}}", self.shown.get(value, value))
        return f"$ fairlead {command}\n{self.same(found.output)}"

    def same(self, output: str) -> str:
        """An output without what differs from run to run."""
        output = _TIMES.sub(TIME, output)
        output = _SECRETS.sub(r"\1NOT SENT", output)
        output = self._blamed(output)
        for text, shown in sorted(self.shown.items(), key=lambda one: -len(one[0])):
            before = r"(?<![\w.:-])" if text.isdecimal() else r"(?<![\d.])"
            output = re.sub(rf"{before}{re.escape(text)}(?![.-]?\d)", shown, output)
        output = _USER.sub("ann@desk: fairlead ", output)
        output = _COUNTS.sub("33 objects,", output)
        output = _OPEN.sub(r"\1: no connection is open now", output)
        output = _SECONDS.sub(r"\1 20 s", _AGES.sub("2s", output))
        return "\n".join(_aligned(line.rstrip() for line in output.splitlines())).strip()

    def _blamed(self, output: str) -> str:
        """What `blame` says, with revisions of three digits, so that its columns stay where they are."""
        first = _BLAMED.match(output)
        if first is None:
            return output
        width = len(first[1])
        head, gap, rest = output.partition("\n\n")
        lines = [
            self.shown.get(line[:width].strip(), line[:width].strip()).ljust(3) + line[width:]
            for line in head.splitlines()
        ]
        return "\n".join(lines) + gap + rest

    def clean(self) -> None:
        """Delete what was applied."""
        for one in self._applied:
            self.mesh.plane.api.delete(one)
        self._applied.clear()

    def pretend(self) -> None:
        """Write the status of Processes that a node would: nobody runs them here but the agents by themselves."""
        status = {"node": "desk", "readyReplicas": 1, "replicas": 1}
        for one in self.shop.base():
            if one["kind"] == "Process":
                path, body = f"{path_of(one)}/status", {"status": status}
                self.mesh.plane.api.request("PATCH", path, body, "application/merge-patch+json")


def _aligned(lines: Iterator[str]) -> Iterator[str]:
    """Lines, with tables in columns as wide as what is in them now."""
    for table, group in itertools.groupby(_marked(lines), key=lambda one: one[0]):
        rows = [line for _, line in group]
        if not table:
            yield from rows
            continue
        cells = [_GAP.split(line) for line in rows]
        widths = [max((len(row[at]) for row in cells if at < len(row)), default=0) for at in range(len(cells[0]))]
        for row in cells:
            padded = (cell.ljust(width) for cell, width in itertools.zip_longest(row, widths[: len(row)], fillvalue=0))
            yield "   ".join(map(str, padded)).rstrip()


def _marked(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Each line with the number of its table, 0 outside of tables."""
    number, inside = 0, False
    for line in lines:
        if _HEADER.match(line) and _GAP.search(line):
            number, inside = number + 1, True
        elif inside and not _GAP.search(line):
            inside = False
        yield (number if inside else 0), line
