"""A walk on the terminal: one line for each step, the verdict, and what would let the request pass."""

from __future__ import annotations

import re
from typing import Any

import click

from fairlead.cli.printing import columns, line

Json = dict[str, Any]
_QUIET = ("virtual host", "route", "route configuration", "cluster", "endpoint")
"""Steps of the called workload's proxy that say nothing of interest unless an object is behind them."""
_OUTCOMES = {"passes": "green", "undecided": "yellow", "fails": "red"}
_STAGE = 22
_WIDE = 70
_USUAL_RETRIES = re.compile(r"\d+ retries on [^;]*")


def show_walk(found: Json, *, verbose: bool) -> None:
    """Print a walk as it was answered."""
    proxy = None
    for step in found["steps"]:
        if not verbose and _dull(step):
            continue
        if (step["hop"], step["proxy"]) != proxy:
            proxy = (step["hop"], step["proxy"])
            line(f"{step['hop']} {step['proxy']}".strip(), bold=True)
        _step(step, verbose=verbose)
    click.echo()
    _verdict(found["verdict"])
    paired = any("also" in one for one in found["changes"])
    if found["changes"]:
        click.echo(f"It would pass with one of these changes{'' if paired else ' alone'}:")
    for one in found["changes"]:
        at = f"  ({place(one)})" if one.get("file") else ""
        line(f"  {one['said']}{at}")


def _dull(step: Json) -> bool:
    """Whether a step is worth a line only to whoever wants all of them."""
    if not step["passed"]:
        return False
    if step["stage"] == "route" and _USUAL_RETRIES.fullmatch(step["said"]):
        return True
    quiet = step["stage"] in ("cluster", "endpoint") or not step["origins"]
    return step["hop"] == "server" and step["stage"] in _QUIET and quiet


def _step(step: Json, *, verbose: bool) -> None:
    mark = " " if step["passed"] else "x"
    met = step["met"] if step["met"] and step["met"] not in step["said"] else ""
    text = f"{met}: {step['said']}" if met else step["said"]
    # On a narrow terminal there is no room for a column of stages.
    margin = _STAGE if columns() == 0 or columns() >= _WIDE else _STAGE // 4
    begin = f"{mark} {step['stage']:<{_STAGE - 2}}" if margin == _STAGE else f"{mark} {step['stage']}: "
    _line(f"{begin}{text}", margin, "" if step["passed"] else "red")
    for one in step["origins"][: None if verbose else 2]:
        where = f"  {place(one)}" if one.get("file") else ""
        _line(f"{' ' * margin}{named(one)}{where}", 2, "cyan")
    if verbose and "setting" in step:
        setting = step["setting"]
        kind = setting["type_url"].rpartition(".")[2]
        _line(f"{' ' * margin}{kind} {setting['name']} {setting['path']}".rstrip(), 2, "blue")


def _line(text: str, hang: int, colour: str = "") -> None:
    """A line; a step that passed begins with blanks, from which `hang` counts no further in."""
    blanks = len(text) - len(text.lstrip(" ")) if hang > 2 else 0
    line(text, hang=hang - blanks, fg=colour or None)


def named(one: Json) -> str:
    """`Kind namespace/name field`."""
    where = f"{one['namespace']}/{one['name']}" if one["namespace"] else one["name"]
    return f"{one['kind']} {where} {one['field']}".rstrip()


def place(one: Json) -> str:
    """`file:line:column`."""
    return f"{one['file']}:{one['line']}:{one['column']}"


def verdict_line(verdict: Json) -> str:
    """The verdict in one line, in the words of Envoy's access log."""
    status = str(verdict["status"]) if verdict["status"] else "connection"
    flags = f" {verdict['flags']}" if verdict["flags"] else ""
    nowhere = verdict["reached"] or verdict["details"] == "name_not_found"
    at = "" if nowhere else f" at the {verdict['hop']}'s proxy"
    return f"{status}{flags} {verdict['details']}{at}"


def _verdict(verdict: Json) -> None:
    words = {"passes": "passes", "undecided": "undecided", "fails": "fails"}[verdict["outcome"]]
    line(f"{words}: {verdict_line(verdict)}", fg=_OUTCOMES[verdict["outcome"]])
    for reason in verdict["undecided"]:
        line(f"  not decided: {reason}", fg="yellow")
