"""Whether a command's output names the object and the field at fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from click.testing import CliRunner, Result

from fairlead.cli.main import cli
from tests.e2e.faults.case import Fault

Json = dict[str, Any]


def run(arguments: list[str]) -> Result:
    """A command to its end, in this process. A traceback is a defect."""
    found = CliRunner().invoke(cli, arguments)
    assert found.exception is None or isinstance(found.exception, SystemExit), (arguments, found.exc_info)
    return found


def objects(data: Any) -> Iterator[Json]:
    """Every mention of an object with a field in a command's JSON."""
    if isinstance(data, dict):
        if "kind" in data and "name" in data and "field" in data:
            yield data
        for value in data.values():
            yield from objects(value)
    elif isinstance(data, list):
        for one in data:
            yield from objects(one)


def names(fault: Fault, found: Json) -> bool:
    """Whether JSON names the object and the field (and, of findings, has the code)."""
    return any(_is_meant(fault, one) for one in objects(found))


def _is_meant(fault: Fault, one: Json) -> bool:
    where = f"{one['namespace']}/{one['name']}" if one.get("namespace") else one["name"]
    wanted = fault.names
    same = (f"{one['kind']} {where}", one["field"]) == (wanted.text, wanted.field)
    return same and wanted.code in one.get("code", wanted.code)


def check(fault: Fault, arguments: list[str]) -> None:
    """The command names object and field, as JSON and as text. Raises AssertionError."""
    shown = run([*arguments, "-o", "json"])
    assert shown.stdout.startswith(("{", "[")), shown.output
    assert names(fault, json.loads(shown.stdout)), f"{fault.names} is not in:\n{shown.stdout}"
    text = " ".join(run(arguments).output.split())
    assert f"{fault.names.text} {fault.names.field}" in text, text


def mentioned(fault: Fault, arguments: list[str]) -> bool:
    """Whether a command mentions the object, with whatever field."""
    return fault.names.text in " ".join(run(arguments).output.split())


def silent(fault: Fault, arguments: list[str]) -> bool:
    """After the fix: whether the finding is gone (for `why`: whether the request passes)."""
    shown = run([*arguments, "-o", "json"])
    found = json.loads(shown.stdout)
    if "verdict" in found:
        return bool(found["verdict"]["outcome"] == "passes") or fault.right is None or fault.right.status >= 400
    return not names(fault, found)
